"""Every face of a picture, judged: found, cut out as the training pictures are framed, and classified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.data import decoding, framing
from pipeline.serve import face_detection
from pipeline.serve.litert import Classify


@dataclass(frozen=True)
class Judged:
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels of the picture
    score: float  # the detector's, 0…1
    with_mask: float  # probability, 0…1


def judge_faces(
    image: np.ndarray, classify: Classify, *, size: int, margin: float, largest: int = face_detection.LARGEST
) -> list[Judged]:
    """The faces of a picture (h, w, 3) uint8 RGB, the surest detection first; none where none is found."""
    found = face_detection.detect(image, largest=largest)
    return judged(found, classify(cut(image, found[:, :4], size, margin)))


def judged(found: np.ndarray, probabilities: np.ndarray) -> list[Judged]:
    """What was detected (k, 5), as face_detection.detect says it, with each face's P(with_mask) (k,)."""
    rows = zip(found.tolist(), probabilities.tolist(), strict=True)
    return [Judged((left, top, right, bottom), score, p) for (left, top, right, bottom, score), p in rows]


def judge_whole(image: np.ndarray, classify: Classify, *, size: int) -> Judged:
    """The whole picture as one face, as a training picture is."""
    height, width = image.shape[:2]
    pixels = decoding.to_square(Image.fromarray(image), size)
    return Judged((0.0, 0.0, float(width), float(height)), 1.0, float(classify(pixels[None])[0]))


def cut(image: np.ndarray, boxes: np.ndarray, size: int, margin: float) -> np.ndarray:
    """The faces in `boxes` (k, 4), as (k, size, size, 3) uint8, framed by unseen.margin as in training."""
    picture = Image.fromarray(image)
    height, width = image.shape[:2]
    squares = [framing.square_around(box, margin, width, height) for box in boxes.tolist()]
    faces = [decoding.to_square(picture.crop(square), size) for square in squares]
    return np.stack(faces) if faces else np.empty((0, size, size, 3), np.uint8)
