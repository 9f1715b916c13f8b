"""Near-duplicates by frozen features: cropped, rotated, stretched, relit and masked copies that a hash misses.

The features are those of MobileNetV2 with ImageNet weights (stage `features`), of each image and of other views of it
(views.py). Plain cosine similarity is high between any two faces of the same pose, so the features are first whitened:
projected on their principal components, each scaled to unit variance (Jégou and Chum 2012, "Negative evidences and
co-occurrences in image retrieval: the benefit of PCA and whitening"). Two images have three similarities, each the
largest scalar product of some of their views:

- `whole`: the images, and either with the mirror image of the other;
- `rotated`: either, rotated by views.ANGLE to either side, with the other or the other's mirror image;
- `upper`: as `whole`, of the images without what a face mask covers, so that a copy with a mask pasted on is found.

docs/results/duplicates.md has the evidence for them and for their thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from pipeline.core.params import Split
from pipeline.dataset.views import VIEWS

COMPONENTS = 256  # at most
# With fewer images the components fit single images, and unrelated images exceed the thresholds: of 120 images of the
# real data set, 22 pairs instead of the 2 that are found with all images; of 512, as many as with all.
MIN_IMAGES = 2 * COMPONENTS
ROWS_AT_ONCE = 256  # of the similarity matrix, so that memory grows with n and not with its square


class Whitening(NamedTuple):
    """The projection that whitens features."""

    mean: np.ndarray  # (d,) float64
    projection: np.ndarray  # (d, k) float64


class Descriptors(NamedTuple):
    """Whitened features as unit vectors, (n, k) float32 for each view; None for a view that is not available."""

    images: np.ndarray
    mirrored: np.ndarray | None = None
    rotated: np.ndarray | None = None
    rotated_back: np.ndarray | None = None
    upper: np.ndarray | None = None
    upper_mirrored: np.ndarray | None = None

    def rows(self, rows: np.ndarray | slice) -> Descriptors:
        """The descriptors of some of the images."""
        return Descriptors(self.images[rows], *(None if view is None else view[rows] for view in self[1:]))


# Which views of one image are compared with which of the other, and the reverse.
COMPARISONS: dict[str, list[tuple[str, str]]] = {
    "whole": [("images", "images"), ("images", "mirrored")],
    "rotated": [(view, other) for view in ("rotated", "rotated_back") for other in ("images", "mirrored")],
    "upper": [("upper", "upper"), ("upper", "upper_mirrored")],
}


def thresholds(split: Split) -> dict[str, float]:
    """The similarity of each kind from which two images are near-duplicates: split.whole_similarity and so on."""
    return {kind: getattr(split, f"{kind}_similarity") for kind in COMPARISONS}


def fit_whitening(features: np.ndarray, rows: np.ndarray | None = None) -> Whitening:
    """Fit the projection on some rows, or all, of (n, d) features; see MIN_IMAGES."""
    rows = np.arange(len(features)) if rows is None else rows
    n, d = len(rows), features.shape[1]
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in in_parts(features, rows)) / n
    covariance = np.zeros((d, d))
    for part in in_parts(features, rows):
        centred = part - mean
        covariance += centred.T @ centred / n
    variances, axes = np.linalg.eigh(covariance)
    kept = min(COMPONENTS, int((variances > 1e-9 * variances[-1]).sum()))
    return Whitening(mean, axes[:, -kept:] / np.sqrt(variances[-kept:]))


def whiten(features: np.ndarray, whitening: Whitening, rows: np.ndarray | None = None) -> np.ndarray:
    """Project some rows, or all, of (n, d) features to (m, k) float32 unit vectors."""
    rows = np.arange(len(features)) if rows is None else rows
    result = np.empty((len(rows), whitening.projection.shape[1]), np.float32)
    start = 0
    for part in in_parts(features, rows):
        projected = (part - whitening.mean) @ whitening.projection
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        result[start : start + len(part)] = projected / np.maximum(norms, 1e-12)
        start += len(part)
    return result


def in_parts(features: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of an array that may be memory-mapped, some at a time."""
    for start in range(0, len(rows), 4096):
        yield features[rows[start : start + 4096]]


def fit_whitenings(features: np.ndarray, rows: np.ndarray) -> tuple[Whitening, Whitening]:
    """Fit the projections of whole images and of their upper parts on some rows of the views' features (6, n, d)."""
    whole, upper = (fit_whitening(features[list(VIEWS).index(view)], rows) for view in ("images", "upper"))
    return whole, upper


def describe(features: np.ndarray, rows: np.ndarray, whitenings: tuple[Whitening, Whitening]) -> Descriptors:
    """Whiten some rows of the views' features (6, n, d)."""
    whole, upper = whitenings
    views = zip(VIEWS, features, strict=True)
    return Descriptors(
        **{view: whiten(part, upper if view.startswith("upper") else whole, rows) for view, part in views}
    )


def blocks(a: Descriptors, b: Descriptors, kind: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, similarities (r, m) float32 in -1…1) of a's images to b's, for some rows at a time.

    `kind` is one of COMPARISONS. The similarity is -1 where neither side has the views.
    """
    pairs = [pair for left, right in COMPARISONS[kind] for pair in {(left, right): None, (right, left): None}]
    sides = [(getattr(a, left), getattr(b, right)) for left, right in pairs]
    sides = [(left, right) for left, right in sides if left is not None and right is not None]
    for start in range(0, len(a.images), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        similarity = np.full((len(a.images[rows]), len(b.images)), -1, np.float32)
        for left, right in sides:
            np.maximum(similarity, left[rows] @ right.T, out=similarity)
        yield start, similarity


def near_pairs(descriptors: Descriptors, kind: str, threshold: float) -> np.ndarray:
    """Find all pairs i < j whose similarity is at least `threshold`: (m, 2) int64. Time is quadratic, memory linear."""
    found = []
    for start in range(0, len(descriptors.images), ROWS_AT_ONCE):  # only the upper triangle of a symmetric matrix
        rows = descriptors.rows(slice(start, start + ROWS_AT_ONCE))
        for _, similarity in blocks(rows, descriptors.rows(slice(start, None)), kind):
            i, j = np.nonzero(similarity >= threshold)
            found.append(np.stack([i, j], axis=1)[i < j] + start)
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def max_similarity(a: Descriptors, b: Descriptors, kind: str) -> np.ndarray:
    """The similarity of each of a's images to the most similar of b's: (n,) float32, -1 if b has none."""
    if not len(b.images):
        return np.full(len(a.images), -1, np.float32)
    return np.concatenate([np.empty(0, np.float32), *(similarity.max(axis=1) for _, similarity in blocks(a, b, kind))])


def near_any(a: Descriptors, b: Descriptors, thresholds: Mapping[str, float]) -> np.ndarray:
    """Whether each of a's images is a near-duplicate of any of b's, by any kind of similarity: (n,) bool."""
    return np.any([max_similarity(a, b, kind) >= threshold for kind, threshold in thresholds.items()], axis=0)
