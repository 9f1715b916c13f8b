"""The manifest of the split: one row per image, with its group, and its split or the reason why it is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from face_mask.errors import UserError, printable
from face_mask.schema import LABELS, SPLITS
from pipeline.core.params import Split
from pipeline.dataset import duplicates, packing, splitting

COLUMNS = ["path", "label", "split", "group", "row", "content_hash", "perceptual_hash", "width", "height", "format"]
BAD = "bad"  # how `split` begins for an image that cannot be decoded; the reason follows


def start(decoded: pd.DataFrame, excluded: set[str], seed: int, per_class: int | None) -> pd.DataFrame:
    """Start a manifest from decoded.csv: `row` is the place in the arrays, -1 for an image that is not used.

    `split` is the reason why an image is left out, and empty for the others: at most `per_class` of each class, drawn
    by seed from those that are not in `excluded`.
    """
    classes = packing.to_classes(decoded["label"])
    left_out = decoded["path"].isin(excluded).to_numpy()
    sampled = splitting.keep_first(
        classes, splitting.random_keys(decoded["path"].tolist(), seed), per_class or len(decoded), among=~left_out
    )
    bad = (decoded["bad"] != "").to_numpy()
    split = np.select(
        [left_out, ~sampled, bad], [splitting.EXCLUDED, splitting.NOT_SAMPLED, BAD + ": " + decoded["bad"]], ""
    )
    row = np.where(split == "", np.arange(len(decoded)), -1)
    return decoded.assign(split=split, group=-1, row=row)[COLUMNS]


def usable(manifest: pd.DataFrame) -> np.ndarray:
    """Rows of the images that are not left out: (m,) int64."""
    return np.flatnonzero(manifest["row"] >= 0)


def check_undecodable(manifest: pd.DataFrame, limit: float) -> None:
    """Print the images that cannot be decoded.

    Raises UserError if they are more than the fraction `limit`, or if a class has no image left.
    """
    bad = manifest[manifest["split"].str.startswith(BAD)]
    n = len(bad) + len(usable(manifest))
    for path, reason in zip(bad["path"], bad["split"], strict=True):
        print(f"left out: {printable(path)}: {reason.removeprefix(f'{BAD}: ')}")
    if len(bad) > limit * n:
        raise UserError(
            f"{len(bad)} of {n} images cannot be decoded, the first is {bad['path'].iloc[0]}"
            f" ({bad['split'].iloc[0].removeprefix(f'{BAD}: ')}): fix the archive, or raise data.max_bad_fraction"
        )
    left = set(manifest["label"].iloc[usable(manifest)])
    if missing := [label for label in LABELS if label not in left]:
        raise UserError(
            f"no image of class {missing[0]} is left: all are listed in split.exclude or cannot be decoded: shorten the"
            " list or fix the archive"
        )


def assign(manifest: pd.DataFrame, used: np.ndarray, seed: int, p: Split) -> None:
    """Balance the classes and fill the column `split` of the rows `used` in place; their `group` must be set."""
    classes = packing.to_classes(manifest["label"])[used]
    keys = splitting.random_keys(manifest["path"].iloc[used].tolist(), seed)
    kept = splitting.keep_first(classes, keys, int(np.bincount(classes, minlength=2).min()))
    manifest.loc[used[~kept], "split"] = splitting.SURPLUS
    groups = manifest["group"].to_numpy()[used][kept] if p.group_duplicates else np.arange(int(kept.sum()))
    manifest.loc[used[kept], "split"] = splitting.assign(classes[kept], groups, keys[kept], p.train, p.val, p.max_group)


def summary(manifest: pd.DataFrame, max_group: int) -> dict:
    """Summarize for metrics/split.json: counts per split and class, images left out by reason, duplicate groups."""
    reasons = manifest["split"].str.partition(":")[0]
    used = manifest[manifest["row"] >= 0]
    group_sizes = used.groupby("group").size()
    mixed = used.groupby("group")["label"].nunique() > 1
    counts = {
        name: {label: int(((reasons == name) & (manifest["label"] == label)).sum()) for label in LABELS[::-1]}
        for name in SPLITS
    }
    left_out = (BAD, splitting.EXCLUDED, splitting.SURPLUS, splitting.NOT_SAMPLED)
    return {
        "images": len(manifest),
        **counts,
        "left_out": {reason: int((reasons == reason).sum()) for reason in left_out},
        "duplicate_groups": int((group_sizes > 1).sum()),
        "images_in_duplicate_groups": int(group_sizes[group_sizes > 1].sum()),
        "duplicate_groups_of_both_classes": int((mixed & (group_sizes > 1)).sum()),
        "largest_duplicate_group": int(group_sizes.max()),
        "group_sizes": duplicates.size_histogram(used["group"].to_numpy(), max_group),
        "exact_copies": int(used["content_hash"].duplicated().sum()),
        "cross_split_duplicates": splitting.count_cross_split_duplicates(
            manifest["group"].to_numpy(), manifest["split"].to_numpy(dtype="<U16")
        ),
    }
