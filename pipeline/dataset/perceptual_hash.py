"""Perceptual hashes: 64 bits of an image that survive re-encoding, resizing, slight blur and noise.

An image's hash is the sign pattern of its low spatial frequencies (pHash; Zauner 2010, "Implementation and
benchmarking of perceptual image hash functions"). Mirroring an image flips the sign of the odd horizontal frequencies,
so the hash of the mirror image comes from the same transform. Cropped, rotated and relit copies get other hashes: see
similarity.py.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.fft import dctn

GREY_SIZE = 32
LOW = 8  # lowest frequencies kept on each axis: LOW * LOW = 64 bits
BATCH = 1024  # images transformed at once, 16 KB each
ROWS_AT_ONCE = 64  # of the distance matrix, so that memory grows with n and not with its square


def grey_thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Convert an image (h, w, 3) uint8 RGB to the (32, 32) uint8 grey image that is hashed."""
    return np.asarray(Image.fromarray(pixels).convert("L").resize((GREY_SIZE, GREY_SIZE), Image.Resampling.LANCZOS))


def perceptual_hashes(greys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash (n, 32, 32) grey images: two (n,) uint64 arrays, of the images and of their mirror images."""
    low = np.empty((len(greys), LOW, LOW))
    for start in range(0, len(greys), BATCH):
        part = slice(start, start + BATCH)
        low[part] = dctn(greys[part].astype(np.float64), axes=(1, 2))[:, :LOW, :LOW]
    mirrored = low * np.where(np.arange(LOW) % 2, -1.0, 1.0)
    return to_bits(low), to_bits(mirrored)


def to_bits(low: np.ndarray) -> np.ndarray:
    """Convert (n, 8, 8) frequencies to (n,) uint64: a bit is set where a frequency is above the image's median."""
    flat = low.reshape(len(low), LOW * LOW)
    above = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").astype(np.uint64).ravel()


def near_pairs(hashes: np.ndarray, mirrored: np.ndarray, distance: int) -> np.ndarray:
    """Find all pairs i < j whose hashes, or hash and mirrored hash, differ in at most `distance` bits: (m, 2) int64.

    Time is quadratic (14 s for 75,000 images), memory is linear.
    """
    found = []
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = hashes[start : start + ROWS_AT_ONCE, None]
        near = np.bitwise_count(rows ^ hashes[None, start:]) <= distance
        near |= np.bitwise_count(rows ^ mirrored[None, start:]) <= distance
        i, j = np.nonzero(near)
        pairs = np.stack([i, j], axis=1)[i < j] + start
        found.append(pairs)
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def near_any(hashes: np.ndarray, mirrored: np.ndarray, known: np.ndarray, distance: int) -> np.ndarray:
    """Whether each hash or mirrored hash is within `distance` bits of any of `known` (m,): (n,) bool."""
    near = np.zeros(len(hashes), bool)
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for mine in (hashes[rows], mirrored[rows]):
            near[rows] |= (np.bitwise_count(mine[:, None] ^ known[None, :]) <= distance).any(axis=1)
    return near
