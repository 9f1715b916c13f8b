"""Between sRGB and CIELAB (white point D65), as in IEC 61966-2-1 and CIE 15."""

from __future__ import annotations

import numpy as np

# Linear RGB to XYZ, its rows divided by those of white, so that white is (1, 1, 1).
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
TO_XYZ /= TO_XYZ.sum(axis=1, keepdims=True)
FROM_XYZ = np.linalg.inv(TO_XYZ)
TO_LAB = np.array([[0.0, 116, 0], [500, -500, 0], [0, 200, -200]])
FROM_LAB = np.linalg.inv(TO_LAB)
BLACK = np.array([16.0, 0, 0])
KNEE = 6 / 29


def linear(rgb: np.ndarray) -> np.ndarray:
    """Light intensities 0…1 of sRGB values 0…1."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def encode(light: np.ndarray) -> np.ndarray:
    """sRGB values 0…1 of light intensities 0…1."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """(…, 3) L* 0…100, a*, b* of sRGB (…, 3) 0…1."""
    xyz = linear(np.asarray(rgb, float)) @ TO_XYZ.T
    f = np.where(xyz > KNEE**3, np.cbrt(xyz), xyz / (3 * KNEE**2) + 4 / 29)
    return f @ TO_LAB.T - BLACK


def to_rgb(lab: np.ndarray) -> np.ndarray:
    """(…, 3) sRGB 0…1 of CIELAB (…, 3), cut off where a colour does not exist in sRGB."""
    f = (lab + BLACK) @ FROM_LAB.T
    xyz = np.where(f > KNEE, f**3, 3 * KNEE**2 * (f - 4 / 29))
    return encode((xyz @ FROM_XYZ.T).clip(0, 1))
