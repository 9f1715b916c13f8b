"""Processor seconds and recall of the search for near-duplicates against comparing all pairs, on synthetic data.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m bench.near_duplicates [--sizes 10000 30000 100000]

Prints a line for each number of images. Hashes are random, a tenth of them copies with three bits changed. Descriptors
have random directions, which is harder for cells than those of real images, which form clusters; a fifth are copies
with a similarity of 0.5 to 1. With data/split/features.npy, also the recall on the real images, and on all of
their views together as if each was an image. 100,000 images take about five minutes. Not part of `make bench`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from pipeline.dataset import approximate, duplicates, packing, perceptual_hash, similarity

DISTANCE, THRESHOLD = 6, 0.5
Result = TypeVar("Result")


def timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """The result of a function, and the seconds of processor time that it took."""
    start = time.process_time()
    return function(), time.process_time() - start


def all_hash_pairs(hashes: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Compare all pairs of hashes: (m, 2) int64."""
    found = []
    for start in range(0, len(hashes), 64):
        rows = hashes[start : start + 64, None]
        near = np.bitwise_count(rows ^ hashes[None, start:]) <= DISTANCE
        near |= np.bitwise_count(rows ^ mirrored[None, start:]) <= DISTANCE
        i, j = np.nonzero(near)
        found.append(np.stack([i, j], axis=1)[i < j] + start)
    return np.concatenate(found)


def of_hashes(n: int, compare: bool) -> None:
    rng = np.random.default_rng(0)
    hashes, mirrored = rng.integers(0, 2**64, (2, n), dtype=np.uint64)
    hashes[: n // 10] = hashes[n // 10 : n // 10 * 2] ^ np.uint64(0b10100001000)
    pairs, seconds = timed(lambda: perceptual_hash.near_pairs(hashes, mirrored, DISTANCE))
    print(f"{n:,} hashes: {len(pairs):,} pairs in {seconds:.2f} s", end="")
    if compare:
        expected, seconds = timed(lambda: all_hash_pairs(hashes, mirrored))
        found = "the same pairs" if np.array_equal(pairs, expected) else "OTHER PAIRS"
        print(f"; comparing all takes {seconds:.2f} s and finds {found}")
    else:
        print()


def of_descriptors(name: str, vectors: np.ndarray) -> None:
    descriptors = similarity.Descriptors(vectors)
    centres, fitting = timed(lambda: approximate.fit_centres(vectors))
    cells = approximate.Cells(centres, centres)
    found, seconds = timed(lambda: approximate.near_pairs(descriptors, "whole", THRESHOLD, cells))
    expected, exact_seconds = timed(lambda: similarity.near_pairs(descriptors, "whole", THRESHOLD))
    codes, expected_codes = (pairs @ [len(vectors), 1] for pairs in (found, expected))
    hit = np.isin(expected_codes, codes)
    values = np.einsum("ij,ij->i", vectors[expected[:, 0]], vectors[expected[:, 1]])
    by_similarity = ", ".join(
        f"{hit[part].mean():.2%} from {low}"
        for low in (0.5, 0.6, 0.7, 0.8, 0.9)
        if (part := (values >= low) & (values < low + 0.1)).any()
    )
    print(
        f"{len(vectors):,} {name}: {seconds:.2f} s and {fitting:.2f} s for the cells, all pairs {exact_seconds:.2f} s;"
        f" {hit.mean():.2%} of {len(hit):,} pairs, {len(codes) - hit.sum()} others ({by_similarity})"
    )


def drawn(n: int, k: int = similarity.COMPONENTS) -> np.ndarray:
    """Unit vectors (n, k) float32: the first fifth are copies, each similar to one of the second fifth."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, k)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    copies, originals = vectors[: n // 5], vectors[n // 5 : n // 5 * 2]
    copies -= (copies * originals).sum(axis=1, keepdims=True) * originals
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    cosine = rng.uniform(THRESHOLD, 1, (len(copies), 1)).astype(np.float32)
    copies[:] = cosine * originals + np.sqrt(1 - cosine**2) * copies
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--hashes", type=int, nargs="+", default=[300_000, 1_000_000], help="more sizes, of hashes")
    args = parser.parse_args()
    for n in (*args.sizes, *args.hashes):
        of_hashes(n, compare=n in args.sizes)
    if packing.FEATURES_PATH.exists():
        features = packing.open_view_features()
        descriptors = duplicates.describe(features, np.arange(len(features[0])))
        assert descriptors is not None and descriptors.upper is not None
        of_descriptors("real images", descriptors.images)
        of_descriptors("upper parts of real images", descriptors.upper)
        of_descriptors("views of real images", np.concatenate([view for view in descriptors if view is not None]))
    for n in args.sizes:
        of_descriptors("drawn descriptors", drawn(n))


if __name__ == "__main__":
    main()
