"""Near-duplicate pictures: perceptual hashes, and the groups they form.

A picture's hash is the sign pattern of its low spatial frequencies (pHash; Zauner 2010, "Implementation and
benchmarking of perceptual image hash functions"): re-encoded, resized, slightly blurred or noised copies keep nearly
all of its bits. A mirrored copy flips the sign of the odd horizontal frequencies, so its hash comes from the same
transform.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

GREY_SIZE = 32
LOW = 8  # lowest frequencies kept on each axis: LOW * LOW = 64 bits
PICTURES_AT_ONCE = 1024  # transformed, which takes 16 KB each
ROWS_AT_ONCE = 64  # of the distance matrix, so that memory grows with n and not with its square


def grey_thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB to the (32, 32) uint8 grey picture that is hashed."""
    return np.asarray(Image.fromarray(pixels).convert("L").resize((GREY_SIZE, GREY_SIZE), Image.Resampling.LANCZOS))


def perceptual_hashes(greys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32, 32) greys to two (n,) uint64 arrays: the hash of each picture and the hash of its mirror image."""
    low = np.empty((len(greys), LOW, LOW))
    for start in range(0, len(greys), PICTURES_AT_ONCE):
        part = slice(start, start + PICTURES_AT_ONCE)
        low[part] = dctn(greys[part].astype(np.float64), axes=(1, 2))[:, :LOW, :LOW]
    mirrored = low * np.where(np.arange(LOW) % 2, -1.0, 1.0)
    return to_bits(low), to_bits(mirrored)


def to_bits(low: np.ndarray) -> np.ndarray:
    """(n, 8, 8) frequencies to (n,) uint64: bit set where a frequency lies above the picture's median frequency."""
    flat = low.reshape(len(low), LOW * LOW)
    above = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").astype(np.uint64).ravel()


def near_pairs(hashes: np.ndarray, mirrored: np.ndarray, distance: int) -> np.ndarray:
    """All pairs i < j whose hashes, or hash and mirrored hash, differ in at most `distance` bits: (m, 2) int64.

    Time is quadratic (14 s for 75,000 pictures), memory is not.
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
    """(n,) bool: which hashes, or whose mirrored hashes, differ in at most `distance` bits from one of `known` (m,)."""
    near = np.zeros(len(hashes), bool)
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for mine in (hashes[rows], mirrored[rows]):
            near[rows] |= (np.bitwise_count(mine[:, None] ^ known[None, :]) <= distance).any(axis=1)
    return near


def group_by_pairs(n: int, pairs: np.ndarray) -> np.ndarray:
    """(n,) int64 group numbers: pictures linked by a chain of pairs share one; numbered by first appearance."""
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(links, directed=False)
    _, first = np.unique(component, return_index=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[component]
