"""What a picture is compared with when its pixels are given credit: baselines in raw pixel space 0…255.

A pixel that equals the baseline gets no attribution, whatever the model makes of it. Against black a black face mask
counts nothing, against white a white one, against the mean colour or a blurred copy whatever is plain and large. Half
the attribution against black and half against white is blind to no colour: a channel's distances to the two add up to
255 whatever its value. So that is the default.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

NAMES = ("black_white", "black", "white", "blurred", "mean")
BLUR = 1 / 8  # standard deviation of the blur as a share of the side: 16 pixels of 128


def baselines(name: str, image: np.ndarray) -> np.ndarray:
    """The pictures to start from, (k, s, s, 3) float32, for one picture (s, s, 3); k is 2 for black_white, else 1.

    `mean` is the picture's own mean colour. ValueError for a name that is none.
    """
    plain = np.asarray(image, np.float32)
    if name == "black_white":
        return np.stack([np.zeros_like(plain), np.full_like(plain, 255)])
    if name == "black":
        return np.zeros_like(plain)[None]
    if name == "white":
        return np.full_like(plain, 255)[None]
    if name == "mean":
        return np.broadcast_to(plain.mean(axis=(0, 1)), plain.shape)[None].copy()
    if name == "blurred":
        return blurred(plain)[None]
    raise ValueError(f"no baseline {name!r}: one of {', '.join(NAMES)}")


def blurred(image: np.ndarray, share: float = BLUR) -> np.ndarray:
    """A picture (s, s, 3) as float32, blurred by a Gaussian of `share` of its side."""
    sigma = share * len(image)
    return gaussian_filter(np.asarray(image, np.float32), (sigma, sigma, 0), mode="nearest")
