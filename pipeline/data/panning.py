"""A camera's view of a still picture: which face it films, and how it moves over it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.data.framing import Box

NEAR, FAR = 0.42, 0.28  # the face's height as a share of the view's, at the end and at the start: as before a webcam
SWAY = 0.06  # of the view's height, either way, once across and twice down while a face is filmed


def alternating(labels: Sequence[str], classes: Sequence[str], wanted: int, seed: int) -> list[int]:
    """Indices of up to `wanted` of n `labels`, drawn from the seed, the `classes` in turn; fewer where one runs out.

    A class that no label is of has no turn.
    """
    generator = np.random.default_rng(seed)
    found = np.asarray(labels, dtype=object)
    drawn = [generator.permutation(np.flatnonzero(found == label)) for label in classes if label in labels]
    if not drawn:
        return []
    each = min(math.ceil(wanted / len(drawn)), *(len(of_class) for of_class in drawn))
    return [int(of_class[i]) for i in range(each) for of_class in drawn][:wanted]


def view(face: Box, progress: float, size: tuple[int, int], film: tuple[int, int]) -> Box:
    """Left, top, right, bottom, in pixels of a picture of `size`, of what the film's frame shows at 0…1 of the time.

    The view comes nearer and sways. It keeps the shape of the frame, width and height `film`, and within the picture:
    a face as large as its picture is filmed from as far as that allows.
    """
    (width, height), shape = size, film[0] / film[1]
    left, top, right, bottom = face
    share = FAR * (NEAR / FAR) ** progress
    tall = min((bottom - top) / share, height, width / shape)
    wide = tall * shape
    x = (left + right) / 2 + SWAY * tall * math.sin(2 * math.pi * progress)
    y = (top + bottom) / 2 + SWAY * tall * math.sin(4 * math.pi * progress)
    x = min(max(x - wide / 2, 0.0), width - wide)
    y = min(max(y - tall / 2, 0.0), height - tall)
    return x, y, x + wide, y + tall


def filmed(picture: Image.Image, seen: Box, film: tuple[int, int]) -> np.ndarray:
    """What a view shows, as a frame (height, width, 3) uint8 RGB; resampled without jumping by whole pixels."""
    return np.asarray(picture.resize(film, Image.Resampling.BICUBIC, box=seen, reducing_gap=2.0))


def in_view(face: Box, seen: Box, film: tuple[int, int]) -> Box:
    """Where a box of the picture lies in the frame, in the frame's pixels, cut to it."""
    scale = film[0] / (seen[2] - seen[0])
    at = (np.array(face) - (seen[0], seen[1]) * 2) * scale
    x0, y0, x1, y1 = at.clip(0, [*film, *film]).tolist()
    return x0, y0, x1, y1
