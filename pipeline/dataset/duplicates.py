"""Groups of near-duplicates, each of which must stay in one split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from face_mask.schema import SPLITS
from pipeline.dataset import approximate, perceptual_hash, similarity


def describe(features: np.ndarray, rows: np.ndarray) -> similarity.Descriptors | None:
    """Whiten some rows of the views' features (6, n, d); None with too few rows to estimate whitening."""
    if len(rows) < similarity.MIN_IMAGES:
        return None
    return similarity.describe(features, rows, similarity.fit_whitenings(features, rows))


def find_pairs(
    hashes: np.ndarray,
    mirrored_hashes: np.ndarray,
    descriptors: similarity.Descriptors | None,
    hash_distance: int,
    thresholds: Mapping[str, float],
    cells: approximate.Cells | None = None,
) -> tuple[np.ndarray, dict[str, int]]:
    """Find all near-duplicate pairs (m, 2) int64, and count those found by hash only, by features only, and by both.

    `thresholds` has a similarity for each kind of similarity.COMPARISONS; the pairs of each kind are counted too. With
    `cells`, those by features are found approximately.
    """
    by_hash = perceptual_hash.near_pairs(hashes, mirrored_hashes, hash_distance)
    by_kind = {}
    for kind, threshold in thresholds.items():
        if descriptors is None:
            by_kind[kind] = np.empty((0, 2), np.int64)
        elif cells is None:
            by_kind[kind] = similarity.near_pairs(descriptors, kind, threshold)
        else:
            by_kind[kind] = approximate.near_pairs(descriptors, kind, threshold, cells)
    by_features = np.unique(np.concatenate(list(by_kind.values())), axis=0)
    every, found_by = np.unique(np.concatenate([by_hash, by_features]), axis=0, return_counts=True)
    both = int((found_by == 2).sum())
    counts = {"hash_only": len(by_hash) - both, "features_only": len(by_features) - both, "both": both}
    return every, counts | {kind: len(pairs) for kind, pairs in by_kind.items()}


def group_by_pairs(n: int, pairs: np.ndarray) -> np.ndarray:
    """Number the groups that chains of pairs form: (n,) int64, numbered by first appearance."""
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(links, directed=False)
    _, first = np.unique(component, return_index=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[component]


def size_histogram(groups: np.ndarray, max_group: int) -> dict[str, int]:
    """Count groups by size, and the images in groups larger than `max_group`, which all go to training."""
    sizes = np.unique(groups, return_counts=True)[1] if len(groups) else np.empty(0, np.int64)
    table = pd.cut(sizes, [0, 1, 2, 4, 8, 16, 32, np.inf], labels=["1", "2", "3_4", "5_8", "9_16", "17_32", "33_up"])
    return {
        **{str(k): int(v) for k, v in table.value_counts().items()},
        "images_in_large": int(sizes[sizes > max_group].sum()),
    }


def across_splits(
    descriptors: similarity.Descriptors | None, splits: np.ndarray, cells: approximate.Cells | None = None
) -> dict[str, dict]:
    """The largest similarity of each kind between images of two splits, by pair of splits; `splits` (n,) names.

    With `cells`, it is approximate: the largest that is found.
    """
    parts = {}
    if descriptors is not None:  # a copy of each split, made once, since descriptors are large
        parts = {name: descriptors.rows(splits == name) for name in SPLITS if (splits == name).any()}
    found: dict[str, dict] = {}
    for kind in similarity.COMPARISONS:
        found[kind] = {}
        for a, b in (("test", "train"), ("val", "train"), ("test", "val")):
            largest = None
            if a in parts and b in parts:
                if cells is None:
                    largest = float(similarity.max_similarity(parts[a], parts[b], kind).max())
                else:
                    largest = approximate.max_similarity(parts[a], parts[b], kind, cells)
            found[kind][f"{a}_{b}"] = largest
    return found
