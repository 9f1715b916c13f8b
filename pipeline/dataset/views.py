"""Views of an image whose features reveal near-duplicates: mirrored, rotated, and without what a face mask covers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

ANGLE = 20  # degrees; most rotated copies of the data set are rotated by about this
UPPER = 7 / 16  # of the height: what is below in a framed face can be covered by a face mask
GREY = 128


def mirror(pixels: np.ndarray) -> np.ndarray:
    """(n, s, s, 3) uint8: the mirror images."""
    return pixels[:, :, ::-1]


def rotate(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """(n, s, s, 3) uint8: rotated counter-clockwise about the centre, with black corners."""
    return np.stack([np.asarray(Image.fromarray(one).rotate(degrees, Image.Resampling.BILINEAR)) for one in pixels])


def keep_upper(pixels: np.ndarray) -> np.ndarray:
    """(n, s, s, 3) uint8: grey below the upper part."""
    result = np.array(pixels)
    result[:, round(UPPER * pixels.shape[1]) :] = GREY
    return result


# In the order of data/split/features.npy; similarity.Descriptors has the same names.
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "images": lambda pixels: pixels,
    "mirrored": mirror,
    "rotated": lambda pixels: rotate(pixels, ANGLE),
    "rotated_back": lambda pixels: rotate(pixels, -ANGLE),
    "upper": keep_upper,
    "upper_mirrored": lambda pixels: keep_upper(mirror(pixels)),
}
