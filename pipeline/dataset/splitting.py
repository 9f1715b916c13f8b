"""Assignment of images to splits: balanced classes, exact sizes, no group of duplicates in two splits.

Randomness comes from a hash of seed and path, not from a generator's state: an image keeps its place in the random
order when others are added or removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from face_mask.errors import UserError
from face_mask.schema import LABELS, SPLITS

EXCLUDED = "excluded"  # left out: split.exclude lists it
SURPLUS = "surplus"  # left out: its class has more images than the other
NOT_SAMPLED = "not_sampled"  # left out: split.per_class


def random_keys(names: Sequence[str], seed: int) -> np.ndarray:
    """Each name's fixed place in the seed's random order: (n,) float64 in [0, 1)."""
    digests = (hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in names)
    return np.array([int.from_bytes(digest, "big") >> 11 for digest in digests], np.float64) * 2.0**-53


def keep_first(labels: np.ndarray, keys: np.ndarray, per_class: int, among: np.ndarray | None = None) -> np.ndarray:
    """Select the first `per_class` images of each class in the random order, among `among` (n,) bool: (n,) bool."""
    kept = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & (True if among is None else among))
        kept[members[np.argsort(keys[members], kind="stable")[:per_class]]] = True
    return kept


def split_sizes(per_class: int, train: float, val: float) -> dict[str, int]:
    """Number of images of each class in each split; the test set takes the rest.

    Raises UserError if a split would be empty.
    """
    n_train, n_val = round(per_class * train), round(per_class * val)
    sizes = {"train": n_train, "val": n_val, "test": per_class - n_train - n_val}
    if empty := [name for name, size in sizes.items() if size < 1]:
        raise UserError(
            f"{per_class} images per class are too few: the {empty[0]} split would be empty: add images, or change"
            " split.train and split.val"
        )
    return sizes


def assign(
    labels: np.ndarray, groups: np.ndarray, keys: np.ndarray, train: float, val: float, max_group: int
) -> np.ndarray:
    """Assign balanced images to splits: (n,) str array of "train", "val" or "test".

    `labels` (n,) 0/1, equally many of each; `groups` (n,) numbers of groups that stay together; `keys` (n,) from
    random_keys.
    Groups of several images are drawn first, into val and test in proportion to their fractions and only while they
    fit; single images then fill both to the exact size, and train takes the rest. Groups of more than `max_group`
    images go to train: chains of similar faces, of which val and test would otherwise hold too many. With all groups
    single this is the plain stratified random split. Raises UserError if too few single images remain to fill a split.
    """
    sizes = split_sizes(len(labels) // 2, train, val)
    splits = np.full(len(labels), "train", dtype="<U5")
    room = {name: np.array([sizes[name]] * 2) for name in ("test", "val")}

    order = np.argsort(keys, kind="stable")
    members_of: dict[int, list[int]] = {}
    for i in order:
        members_of.setdefault(int(groups[i]), []).append(int(i))

    singles: tuple[list[int], list[int]] = ([], [])
    for members in members_of.values():
        if len(members) == 1:
            singles[labels[members[0]]].append(members[0])
            continue
        draw = keys[members].sum() % 1.0  # uniform, as each key is; the first member's key would be biased to be low
        if len(members) > max_group:
            continue
        name = "test" if draw < 1 - train - val else "val" if draw < 1 - train else "train"
        count = np.bincount(labels[members], minlength=2)
        if name != "train" and (count <= room[name]).all():
            splits[members] = name
            room[name] -= count

    for label in (0, 1):
        waiting = singles[label]
        for name in ("test", "val"):
            wanted = int(room[name][label])
            if len(waiting) < wanted:
                raise UserError(
                    f"{len(waiting)} {LABELS[label]} images without near-duplicates are too few for the {name} split,"
                    f" which needs {wanted}: add images, raise split.whole_similarity, or lower split.hash_distance"
                )
            splits[waiting[:wanted]] = name
            waiting = waiting[wanted:]
    return splits


def count_cross_split_duplicates(groups: np.ndarray, splits: np.ndarray) -> int:
    """Count the images in val or test whose group of duplicates also has members in another split."""
    used = np.isin(splits, SPLITS)
    groups, splits = groups[used], splits[used]
    order = np.argsort(groups, kind="stable")
    groups, splits = groups[order], splits[order]
    _, start, count = np.unique(groups, return_index=True, return_counts=True)
    several = [splits[s : s + c] for s, c in zip(start, count, strict=True) if c > 1]
    return int(sum((members != "train").sum() for members in several if len(set(members)) > 1))
