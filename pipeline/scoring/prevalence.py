"""Check the corrected proportion of people with a mask: rates from one half of the images, counts from the other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from face_mask.prevalence import Rates, corrected
from face_mask.schema import INCORRECT, LABELS, WITH_MASK, WITHOUT_MASK

SPLITS = 200  # into halves, at random
KEYS = ("annotated", "naive", "corrected", "corrected_low", "corrected_high", "naive_error", "corrected_error")
RATES = [f"{label}_{part}" for label in (WITH_MASK, WITHOUT_MASK) for part in ("n", "detected", "correct")]


def count_by_image(
    faces: pd.DataFrame, false: pd.DataFrame, name: str, threshold: float, min_face: int
) -> pd.DataFrame:
    """Counts per image, sorted by name, from which both functions below are computed; columns are RATES and OTHERS.

    `faces` has path (IMAGE#NUMBER), label, detected (bool) and P(with_mask) as column `name`; `false`, the detections
    that match no face, has image, face_size and the column `name`.
    """
    false = false[false["face_size"] >= min_face]
    table = pd.concat([
        faces.assign(image=faces["path"].str.rsplit("#", n=1).str[0])[["image", "label", "detected", name]],
        false[["image", name]].assign(label="", detected=True),
    ])  # fmt: skip
    label, detected, with_mask = table["label"], table["detected"].astype(bool), table[name] >= threshold
    counts: dict[str, pd.Series] = {}
    for one in LABELS:
        counts |= {
            f"{one}_n": label == one,
            f"{one}_detected": (label == one) & detected,
            f"{one}_correct": (label == one) & detected & (with_mask == (one == WITH_MASK)),
        }
    other = ~label.isin(LABELS) & detected
    counts |= {"incorrect": label == INCORRECT, "other_with": other & with_mask, "other_without": other & ~with_mask}
    return pd.DataFrame(counts).astype(int).groupby(table["image"]).sum()


def count_rates(counts: pd.Series, min_face: int) -> Rates:
    """The rates in the sums of some rows of `count_by_image`."""
    return Rates(min_face, **{key: int(counts[key]) for key in RATES})


def held_out(counts: pd.DataFrame, min_face: int, confidence: float, *, everything: bool = False) -> dict:
    """Annotated, predicted (naive) and corrected proportion in one half of the images, with the rates of the other.

    Means over the `splits` halvings in which all of them are defined, of SPLITS with a fixed seed; None if there is
    none. Errors are absolute differences from the annotated proportion; `coverage` is the fraction of the intervals
    that contain it: a description of this set, no test of the interval, since the halvings overlap and the faces of an
    image are alike. `everything` also counts false detections, and incorrectly worn masks as no mask, in the held-out
    half: both are in what `predict` counts, and no rate describes them.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(SPLITS):
        first = np.isin(np.arange(len(counts)), generator.permutation(len(counts))[: len(counts) // 2])
        rest = counts[~first].sum()
        with_mask, without_mask = rest[f"{WITH_MASK}_n"], rest[f"{WITHOUT_MASK}_n"] + everything * rest["incorrect"]
        missed_masks = rest[f"{WITH_MASK}_detected"] - rest[f"{WITH_MASK}_correct"]
        false_masks = rest[f"{WITHOUT_MASK}_detected"] - rest[f"{WITHOUT_MASK}_correct"]
        predicted_with = rest[f"{WITH_MASK}_correct"] + false_masks + everything * rest["other_with"]
        predicted_without = rest[f"{WITHOUT_MASK}_correct"] + missed_masks + everything * rest["other_without"]
        rates = count_rates(counts[first].sum(), min_face)
        result = corrected(int(predicted_with), int(predicted_without), rates, confidence)
        if result.corrected is None or not with_mask + without_mask:
            continue
        annotated = with_mask / (with_mask + without_mask)
        values = (annotated, result.predicted, result.corrected, result.low, result.high)
        found.append((*values, abs(result.predicted - annotated), abs(result.corrected - annotated)))
    table = np.array(found, float).reshape(-1, len(KEYS))
    means = table.mean(axis=0).tolist() if found else [None] * len(KEYS)
    covered = (table[:, 3] <= table[:, 0]) & (table[:, 0] <= table[:, 4])
    return {"splits": len(found), **dict(zip(KEYS, means, strict=True)),
            "coverage": float(covered.mean()) if found else None}  # fmt: skip
