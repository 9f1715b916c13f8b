"""The Python API: `from face_mask import FaceMaskDetector`. docs/api.md shows how to use it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from face_mask import cores, decoding, inputs, litert, models, prevalence
from face_mask.classifier import FaceClassifier, FoundFaces, Prediction
from face_mask.decoding import BadImage
from face_mask.errors import UserError
from face_mask.prevalence import Proportion
from face_mask.schema import WITH_MASK, WITHOUT_MASK

__all__ = ["BadImage", "Face", "FaceMaskDetector", "Proportion", "UserError"]

ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
Channels = Literal["rgb", "bgr"]
Faces = Literal["auto", "whole"]


@dataclass(frozen=True)
class Face:
    """A detected face and its class."""

    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image, inside it
    label: str  # with_mask or without_mask
    probability: float  # of `label`, 0…1
    with_mask: float  # probability of with_mask, 0…1
    score: float | None  # the face detector's, 0…1; None for faces="whole"
    # The classes that the probability does not rule out: none, one or both; None if the model has no calibration.
    prediction_set: tuple[str, ...] | None = None

    @property
    def unsure(self) -> bool:
        """Whether the prediction set is another than `label` alone; False if the model has no calibration."""
        return self.prediction_set not in (None, (self.label,))


class FaceMaskDetector:
    """Detects the faces in images and classifies each as with or without a mask. May be used by several threads."""

    def __init__(self, model: str | None = None, *, folder: str | os.PathLike[str] | None = None) -> None:
        """Load a model.

        `model` is cnn or mobilenet, `folder` one with models as `dvc repro export` writes them. By default the model
        is chosen as by the command `face-mask predict`: that of the working directory if it is a clone of the
        repository with trained models, else the one that is part of the package; `str()` of the attribute `model`
        says which. Raises UserError if it is missing or damaged.
        """
        self.model = models.find(model, folder=Path(folder) if folder is not None else None)
        self.idle: deque[FaceClassifier] = deque()  # loaded copies of the model that no thread uses now
        self.predict(np.zeros((64, 64, 3), np.uint8))  # the detector's first call, which is not thread-safe

    def predict(self, image: ImageLike, *, channels: Channels = "rgb", faces: Faces = "auto") -> list[Face]:
        """Detect and classify the faces of one image, by descending detector score.

        `image` is the path of an image file, the bytes of one, a Pillow image, or an array (height, width, 3) uint8,
        whose channels are RGB, or with channels="bgr" in the order of OpenCV. With faces="whole" the image is taken
        as one face, such as a crop by another detector.

        Raises BadImage, which is a ValueError, if a file or a Pillow image is damaged, is no image, or has more than
        50 million pixels; ValueError if an array has another shape or dtype; OSError if a file cannot be read.
        """
        return self.predict_part([image], channels, faces)[0]

    def predict_batch(
        self,
        images: Sequence[ImageLike],
        *,
        channels: Channels = "rgb",
        faces: Faces = "auto",
        threads: int | None = None,
    ) -> list[list[Face]]:
        """The faces of each image, as `predict` returns them, computed by `threads` threads, by default one per core.

        Raises what `predict` raises, for the first image for which it does.
        """
        images, threads = list(images), threads or cores.available()
        at_once = max(1, min(litert.LARGE_BATCH, len(images) // (4 * threads)))  # the last parts end about together
        parts = [images[start : start + at_once] for start in range(0, len(images), at_once)]
        with ThreadPoolExecutor(threads) as pool:
            return list(chain.from_iterable(pool.map(lambda part: self.predict_part(part, channels, faces), parts)))

    def predict_part(self, images: Sequence[ImageLike], channels: Channels, faces: Faces) -> list[list[Face]]:
        """The faces of each image, detected one image after another and classified together."""
        if faces not in ("auto", "whole"):
            raise ValueError(f"faces = {faces!r}: use auto or whole")
        found: list[FoundFaces] = []
        for image in images:
            rgb = to_rgb(image, channels)
            if faces == "auto" and isinstance(rgb, Image.Image):
                rgb = decoding.to_array(rgb)  # the image itself is no longer needed, and as large
            with self.classifier() as one:
                found.append(one.whole_as_face(rgb) if faces == "whole" else one.find_faces(np.asarray(rgb)))
        with self.classifier() as one:
            predictions = one.predict_found(found)
            return [[to_face(face, one, detected=faces == "auto") for face in listed] for listed in predictions]

    def proportion(self, faces: Iterable[Face]) -> Proportion:
        """The proportion of people with a mask, given the faces of several images, each person counted once.

        It is corrected for missed and misclassified faces, with a 95 % interval, as far as the errors of this model
        are known: face_mask/prevalence.py says how, and what it assumes.
        """
        return prevalence.estimate([(face.box, face.label == WITH_MASK) for face in faces], self.model.rates)

    @contextmanager
    def classifier(self) -> Iterator[FaceClassifier]:
        """A copy of the model for one thread; there are as many as were ever used at once."""
        try:
            one = self.idle.pop()
        except IndexError:
            one = self.model.load()
        try:
            yield one
        finally:
            self.idle.append(one)


def to_face(prediction: Prediction, classifier: FaceClassifier, detected: bool) -> Face:
    """Convert a prediction of the classifier: the label is with_mask from its threshold on."""
    p = prediction.with_mask
    masked = p >= classifier.threshold
    label, probability = (WITH_MASK, p) if masked else (WITHOUT_MASK, 1 - p)
    prediction_set = classifier.calibration.prediction_set(p) if classifier.calibration else None
    return Face(prediction.box, label, probability, p, prediction.score if detected else None, prediction_set)


def to_rgb(image: ImageLike, channels: Channels) -> np.ndarray | Image.Image:
    """Read or convert an image to RGB, upright: an array (height, width, 3) uint8 remains one, any other is Pillow's.

    Raises as `FaceMaskDetector.predict` does.
    """
    if channels not in ("rgb", "bgr"):
        raise ValueError(f"channels = {channels!r}: use rgb, or bgr for arrays of OpenCV")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"the array has shape {image.shape} and dtype {image.dtype}: use (height, width, 3) uint8")
        return np.ascontiguousarray(image[..., ::-1] if channels == "bgr" else image)
    if isinstance(image, Image.Image):
        if image.width * image.height > decoding.MAX_PIXELS:
            raise BadImage(f"{image.width}x{image.height} pixels are too many")
        with decoding.only_bad_images(b"image"):
            return decoding.to_rgb(ImageOps.exif_transpose(image))
    if isinstance(image, bytes):
        return decoding.open_rgb(image)[0]
    if isinstance(image, str | os.PathLike):
        try:
            with Path(image).open("rb") as file:
                encoded = inputs.read_limited(file)
            return decoding.open_rgb(encoded)[0]
        except (BadImage, inputs.UnreadableInput) as error:
            raise BadImage(f"{os.fspath(image)}: {error}") from None
    raise TypeError(f"an image is a path, bytes, a Pillow image or an array, not {type(image).__name__}")
