"""Baselines of Integrated Gradients, in raw pixel space 0…255.

A pixel that equals the baseline gets no attribution, however much it matters to the model. A black baseline is blind to
black face masks, a white one to white masks, and the mean colour or a blurred copy to large plain areas. The mean of
the attributions against black and against white is blind to no colour, because a channel's distances to the two always
add up to 255. It is the default.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

NAMES = ("black_white", "black", "white", "blurred", "mean")
BLUR = 1 / 8  # standard deviation of the blur as a fraction of the side: 16 pixels of 128


def baselines(name: str, image: np.ndarray) -> np.ndarray:
    """Return the baselines, (k, s, s, 3) float32, of an image (s, s, 3); k is 2 for black_white, otherwise 1.

    `mean` is the image's own mean colour. Raises ValueError if the name is unknown.
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
    raise ValueError(f"unknown baseline {name!r}: choose from {', '.join(NAMES)}")


def blurred(image: np.ndarray, fraction: float = BLUR) -> np.ndarray:
    """Blur an image (s, s, 3) by a Gaussian with a standard deviation of `fraction` of its side; returns float32."""
    sigma = fraction * len(image)
    return gaussian_filter(np.asarray(image, np.float32), (sigma, sigma, 0), mode="nearest")
