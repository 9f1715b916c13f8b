"""Perceptual hashes: 64 bits of an image that survive re-encoding, resizing, slight blur and noise.

An image's hash is the sign pattern of its low spatial frequencies (pHash; Zauner 2010, "Implementation and
benchmarking of perceptual image hash functions"). Mirroring an image flips the sign of the odd horizontal frequencies,
so the hash of the mirror image comes from the same transform. Cropped, rotated and relit copies get other hashes: see
similarity.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.fft import dctn

GREY_SIZE = 32
LOW = 8  # lowest frequencies kept on each axis: LOW * LOW = 64 bits
HASH_BITS = LOW * LOW
BATCH = 1024  # images transformed at once, 16 KB each
PAIRS_AT_ONCE = 2**20  # compared, so that memory grows with n and not with its square
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

    Exact, by multi-index hashing (Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index
    hashing"): the bits are cut into bands, each with a radius, so that hashes within the distance are within the radius
    in at least one band; only these are compared. Time grows with n and with the number of pairs, and steeply with the
    distance.
    """
    n, found = len(hashes), [np.empty(0, np.int64)]
    for other in (hashes, mirrored):
        for shift, width, radius in bands(n, distance):
            mask = np.uint64((1 << width) - 1)
            keys = (other >> np.uint64(shift) & mask).astype(np.int64)
            order = np.argsort(keys, kind="stable")
            ends = np.cumsum(np.bincount(keys, minlength=1 << width))
            starts = ends - np.bincount(keys, minlength=1 << width)
            mine = (hashes >> np.uint64(shift) & mask).astype(np.int64)
            for flipped in flips(width, radius):
                key = mine ^ flipped
                for i, place in ranges(starts[key], ends[key]):
                    j = order[place]
                    near = (np.bitwise_count(hashes[i] ^ other[j]) <= distance) & (i < j)
                    found.append(i[near] * n + j[near])
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(n, 1)), axis=1)


def bands(n: int, distance: int) -> list[tuple[int, int, int]]:
    """Cut the 64 bits into bands: the first bit, number of bits and radius of each that has to be searched.

    With the radii r, the sum of r + 1 is distance + 1, so hashes that differ by more than r in every band differ in
    more than `distance` bits. The number of bands is that with the least work for n uniform hashes.
    """
    choices = []
    for number in range(3, max(8, distance + 1) + 1):
        cuts = np.arange(number + 1) * HASH_BITS // number
        radii = (distance + 1 + np.arange(number)) // number - 1
        cut = [(int(a), int(b - a), int(r)) for a, b, r in zip(cuts[:-1], cuts[1:], radii, strict=True) if r >= 0]
        probes = [(width, sum(math.comb(width, k) for k in range(radius + 1))) for _, width, radius in cut]
        choices.append((sum(2**width + each * (n + n * n / 2**width) for width, each in probes), cut))
    return min(choices)[1]


def flips(width: int, radius: int) -> Iterator[int]:
    """Yield every number of `width` bits with at most `radius` bits set."""
    for k in range(radius + 1):
        for bits in itertools.combinations(range(width), k):
            yield sum(1 << bit for bit in bits)


def ranges(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row, place) for each place in starts[row]…ends[row] - 1, about PAIRS_AT_ONCE at a time: int64 arrays."""
    rows = np.flatnonzero(ends > starts)
    total = np.cumsum(ends[rows] - starts[rows])
    first = 0
    while first < len(rows):
        before = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, side="right")))
        part = rows[first:last]
        counts = ends[part] - starts[part]
        i = np.repeat(part, counts)
        yield i, np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts - starts[part], counts)
        first = last


def near_any(hashes: np.ndarray, mirrored: np.ndarray, known: np.ndarray, distance: int) -> np.ndarray:
    """Whether each hash or mirrored hash is within `distance` bits of any of `known` (m,): (n,) bool."""
    near = np.zeros(len(hashes), bool)
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for mine in (hashes[rows], mirrored[rows]):
            near[rows] |= (np.bitwise_count(mine[:, None] ^ known[None, :]) <= distance).any(axis=1)
    return near
