"""Near-duplicates by features without comparing all pairs, for many images: a few pairs are missed, none is invented.

An inverted file (Jégou, Douze and Schmid 2011, "Product quantization for nearest neighbor search", without the
quantization): the descriptors lie in cells around about 4 √n centres, and each is compared only with those in the
PROBED cells whose centres are nearest to it. Time grows as n^1.5. docs/scale.md has the recall.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from pipeline.dataset.similarity import COMPARISONS, Descriptors

CELLS = 4  # times √n
PROBED = 64  # cells with which each image is compared
ROUNDS = 5  # of k-means
SAMPLE = 64  # images for each cell, on which the centres are fitted
ROWS_AT_ONCE = 65_536  # that are compared, so that memory does not grow with the number of comparisons
ASSIGNED_AT_ONCE = 1024


class Cells(NamedTuple):
    """The centres of the cells, (c, k) float32 unit vectors, for images and for their upper parts."""

    images: np.ndarray
    upper: np.ndarray


def fit_cells(descriptors: Descriptors) -> Cells:
    """Fit the centres of cells on the descriptors, which must have upper parts."""
    assert descriptors.upper is not None
    return Cells(fit_centres(descriptors.images), fit_centres(descriptors.upper))


def fit_centres(vectors: np.ndarray) -> np.ndarray:
    """Cluster unit vectors (n, k) by spherical k-means: (c, k) float32. The same vectors give the same centres."""
    n, rng = len(vectors), np.random.default_rng(0)
    number = min(round(CELLS * n**0.5), n)
    sample = vectors[np.sort(rng.choice(n, min(SAMPLE * number, n), replace=False))]
    centres = sample[rng.choice(len(sample), number, replace=False)]
    for _ in range(ROUNDS):
        cell = nearest(sample, centres, 1)[:, 0]
        ones = np.ones(len(sample), np.float32)
        sums = csr_array((ones, (cell, np.arange(len(sample)))), shape=(number, len(sample))) @ sample
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres).astype(np.float32)
    return centres


def nearest(vectors: np.ndarray, centres: np.ndarray, number: int) -> np.ndarray:
    """The cells of the `number` centres nearest to each of the vectors, in no order: (n, number) int64."""
    number = min(number, len(centres))
    found = np.empty((len(vectors), number), np.int64)
    for start in range(0, len(vectors), ASSIGNED_AT_ONCE):
        rows = slice(start, start + ASSIGNED_AT_ONCE)
        similarity = vectors[rows] @ centres.T
        if number == 1:
            found[rows, 0] = similarity.argmax(axis=1)
        else:
            found[rows] = np.argpartition(similarity, -number, axis=1)[:, -number:]
    return found


def blocks(a: Descriptors, b: Descriptors, kind: str, cells: Cells) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield rows of a's images (r,), rows of b's (m,), and similarities (r, m) float32, for each cell.

    Of each pair of views in similarity.COMPARISONS, the left one is taken from a and the right one from b.
    """
    centres = cells.upper if kind == "upper" else cells.images
    for left, right in COMPARISONS[kind]:
        queries, members = getattr(a, left), getattr(b, right)
        if queries is None or members is None:
            continue
        of_member, rows_of_cell = by_cell(nearest(members, centres, 1), len(centres))
        for start in range(0, len(queries), ROWS_AT_ONCE):
            probed = nearest(queries[start : start + ROWS_AT_ONCE], centres, PROBED)
            of_query, queries_of_cell = by_cell(probed, len(centres))
            for cell in range(len(centres)):
                rows = start + of_query[slice(*queries_of_cell[cell : cell + 2])]
                others = of_member[slice(*rows_of_cell[cell : cell + 2])]
                if len(rows) and len(others):
                    yield rows, others, queries[rows] @ members[others].T


def by_cell(cells: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows by their cells (n, p): the rows, and where those of each of `number` cells start, and end."""
    flat = cells.ravel()
    order = np.argsort(flat, kind="stable")
    return order // cells.shape[1], np.searchsorted(flat[order], np.arange(number + 1))


def near_pairs(descriptors: Descriptors, kind: str, threshold: float, cells: Cells) -> np.ndarray:
    """Find nearly all pairs i < j whose similarity is at least `threshold`: (m, 2) int64."""
    n, found = len(descriptors.images), [np.empty(0, np.int64)]
    for rows, others, similarity in blocks(descriptors, descriptors, kind, cells):
        i, j = np.nonzero(similarity >= threshold)
        i, j = rows[i], others[j]
        found.append((np.minimum(i, j) * n + np.maximum(i, j))[i != j])
    return np.stack(np.divmod(np.unique(np.concatenate(found)), n), axis=1)


def max_similarity(a: Descriptors, b: Descriptors, kind: str, cells: Cells) -> float:
    """The largest similarity of an image of a to one of b; that of another pair, which is lower, if it is missed."""
    pairs = ((a, b), (b, a))
    return max((float(similarity.max()) for x, y in pairs for *_, similarity in blocks(x, y, kind, cells)), default=-1)
