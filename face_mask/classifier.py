"""Classify faces as with or without a mask: detect them, crop them as in training, and run a LiteRT model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from face_mask import cropping, decoding, detector, litert
from face_mask.conformal import Calibration
from face_mask.errors import UserError


@dataclass(frozen=True)
class Prediction:
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image
    score: float  # the detector's, 0…1
    with_mask: float  # probability, 0…1


@dataclass(frozen=True)
class FoundFaces:
    """The faces of an image, ready to be classified."""

    detections: np.ndarray  # (k, 5) as FaceClassifier.detect returns them
    pixels: np.ndarray  # (k, size, size, 3) uint8


@dataclass(frozen=True)
class FaceClassifier:
    """A loaded model and the settings it is used with. Not thread-safe: each thread loads its own."""

    name: str  # cnn or mobilenet
    size: int  # side in pixels of the model's input
    margin: float  # around a face that is cropped, as a fraction of the longer side of its box
    threshold: float  # with_mask is predicted from this probability on
    classify: litert.Classify  # faces (n, size, size, 3) uint8 → P(with_mask), (n,) float32
    detector_name: str = detector.DEFAULT  # of detector.NAMES
    calibration: Calibration | None = None  # that the model's file carries; without one, no face is unsure

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        name: str,
        size: int,
        margin: float,
        threshold: float,
        detector_name: str = detector.DEFAULT,
        sha256: str | None = None,
    ) -> FaceClassifier:
        """Load a LiteRT file. Raises UserError if it is missing, damaged, or takes another image size.

        It is damaged if it does not have the digest `sha256`, is no model, or gives no probabilities.
        """
        content = litert.read(path, sha256)
        classify, calibration = litert.to_function(content, path), litert.calibration_of(content, path)
        try:
            classify(np.zeros((1, size, size, 3), np.uint8))
        except ValueError:
            raise UserError(f"{path} does not take images of image_size = {size}: run `dvc repro export`") from None
        return cls(name, size, margin, threshold, classify, detector_name, calibration)

    def config(self) -> dict[str, Any]:
        """The arguments of `load` besides the path and the digest of its file."""
        names = ("name", "size", "margin", "threshold", "detector_name")
        return {name: getattr(self, name) for name in names}

    def detect(self, image: np.ndarray, max_side: int | None = None) -> np.ndarray:
        """Detect the faces of an RGB image (h, w, 3) uint8 as face_mask.detector.detect does: (k, 5). Thread-safe.

        The first call in a process must have returned before another thread calls it.
        """
        return detector.detect(image, max_side=max_side, name=self.detector_name)

    def predict_faces(self, image: np.ndarray, max_side: int | None = None) -> list[Prediction]:
        """Detect and classify the faces of an RGB image (h, w, 3) uint8, by descending detector score."""
        return self.predict_found([self.find_faces(image, max_side)])[0]

    def predict_whole(self, image: np.ndarray | Image.Image) -> Prediction:
        """Classify a whole RGB image, (h, w, 3) uint8 or of Pillow, as one face, like an image of the training set."""
        return self.predict_found([self.whole_as_face(image)])[0][0]

    def find_faces(self, image: np.ndarray, max_side: int | None = None) -> FoundFaces:
        """Detect the faces of an RGB image (h, w, 3) uint8 and crop them."""
        detections = self.detect(image, max_side)
        return FoundFaces(detections, self.crop(image, detections[:, :4]))

    def whole_as_face(self, image: np.ndarray | Image.Image) -> FoundFaces:
        """Take a whole RGB image, (h, w, 3) uint8 or of Pillow, as one face with the score 1."""
        rgb = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        detections = np.array([[0, 0, rgb.width, rgb.height, 1]], float)
        return FoundFaces(detections, decoding.to_square(rgb, self.size)[None])

    def predict_found(self, images: Sequence[FoundFaces]) -> list[list[Prediction]]:
        """Classify the faces of several images in batches: a list for each, with the results of one image at a time."""
        if not images:
            return []
        probabilities = self.classify(np.concatenate([one.pixels for one in images]))
        parts = np.split(probabilities, np.cumsum([len(one.pixels) for one in images])[:-1])
        return [to_predictions(one.detections, part) for one, part in zip(images, parts, strict=True)]

    def crop(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Crop the faces in `boxes` (k, 4) from an image as the model takes them: (k, size, size, 3) uint8."""
        return crop_faces(image, boxes, self.size, self.margin)


def to_predictions(detections: np.ndarray, probabilities: np.ndarray) -> list[Prediction]:
    """Combine the rows of FaceClassifier.detect (k, 5) with each face's P(with_mask) (k,)."""
    rows = zip(detections.tolist(), probabilities.tolist(), strict=True)
    return [Prediction((left, top, right, bottom), score, p) for (left, top, right, bottom, score), p in rows]


def crop_faces(image: np.ndarray, boxes: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Crop the faces in `boxes` (k, 4) with `margin` around, as in training: (k, size, size, 3) uint8."""
    rgb = Image.fromarray(image)
    height, width = image.shape[:2]
    squares = [cropping.square_around(box, margin, width, height) for box in boxes.tolist()]
    faces = [decoding.to_square(rgb.crop(square), size) for square in squares]
    return np.stack(faces) if faces else np.empty((0, size, size, 3), np.uint8)
