"""Which picture goes to which split: balanced classes, exact shares, no duplicate group in two splits.

Chance comes from a hash of seed and path, not from a generator's state: a picture keeps its place in the random order
when others are added or removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from pipeline.errors import UserError

SPLITS = ("train", "val", "test")
EXCLUDED = "excluded"  # left out: split.exclude lists it
SURPLUS = "surplus"  # left out: its class has more pictures than the other
NOT_SAMPLED = "not_sampled"  # left out: split.per_class


def random_keys(names: Sequence[str], seed: int) -> np.ndarray:
    """(n,) float64 in [0, 1): each name's fixed place in the seed's random order."""
    digests = (hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in names)
    return np.array([int.from_bytes(digest, "big") >> 11 for digest in digests], np.float64) * 2.0**-53


def keep_first(labels: np.ndarray, keys: np.ndarray, per_class: int, among: np.ndarray | None = None) -> np.ndarray:
    """(n,) bool: the first `per_class` pictures of each class in the random order, of those in `among` (n,) bool."""
    kept = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & (True if among is None else among))
        kept[members[np.argsort(keys[members], kind="stable")[:per_class]]] = True
    return kept


def split_sizes(per_class: int, train: float, val: float) -> dict[str, int]:
    """Pictures of each class in each split; the test set takes what rounding leaves."""
    n_train, n_val = round(per_class * train), round(per_class * val)
    return {"train": n_train, "val": n_val, "test": per_class - n_train - n_val}


def assign(labels: np.ndarray, groups: np.ndarray, keys: np.ndarray, train: float, val: float) -> np.ndarray:
    """Assign balanced pictures to splits: (n,) str array of "train", "val" or "test".

    `labels` (n,) 0/1, as many of each; `groups` (n,) numbers, a group stays together; `keys` (n,) from random_keys.
    Groups of several pictures are drawn first, into val and test in proportion to their shares and only while they
    fit; single pictures then fill both to the exact size, and train takes the rest. With all groups single this is
    the plain stratified random split. UserError when too few single pictures are there to fill a split.
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
                    f"split: {len(waiting)} pictures without a near-duplicate are too few for the {name} split, which"
                    f" lacks {wanted}: add pictures, or lower split.hash_distance"
                )
            splits[waiting[:wanted]] = name
            waiting = waiting[wanted:]
    return splits


def crossing(groups: np.ndarray, splits: np.ndarray) -> int:
    """Pictures in val or test of whose duplicate group a member is in another split."""
    used = np.isin(splits, SPLITS)
    groups, splits = groups[used], splits[used]
    order = np.argsort(groups, kind="stable")
    groups, splits = groups[order], splits[order]
    _, start, count = np.unique(groups, return_index=True, return_counts=True)
    several = [splits[s : s + c] for s, c in zip(start, count, strict=True) if c > 1]
    return int(sum((members != "train").sum() for members in several if len(set(members)) > 1))
