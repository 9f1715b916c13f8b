"""Metrics of one model on hard cases, paired with the unchanged photos, and on subsets of photos as they are.

The copies of a face are not independent, so intervals of means over cases come from a bootstrap over faces. Those of a
single case are Wilson's, and Newcombe's for its paired change. The worst group and the gap between groups are chosen by
the metrics themselves, so they are somewhat larger than on new faces; their intervals are those of the chosen groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from face_mask.conformal import Calibration
from face_mask.schema import LABELS, WITH_MASK, WITHOUT_MASK
from pipeline.dataset.hard_cases import UNKNOWN
from pipeline.dataset.packing import to_classes
from pipeline.scoring import conformal, intervals
from pipeline.scoring.metrics import is_correct, proportion, wilson

MIN_N = 30  # faces that a subset needs to count as the worst or the best,
MIN_OF_CLASS = 10  # and of each class that is in the set
RATES = {WITH_MASK: "recall", WITHOUT_MASK: "false_positive_rate"}  # what is reported of faces of each class


def hard_case_metrics(
    table: pd.DataFrame,
    y_prob: np.ndarray,
    calibration: Calibration,
    *,
    original: str,
    threshold: float,
    confidence: float,
    resamples: int,
) -> dict:
    """Compute all metrics on drawn images. `table`: case, group, label, source_row; `y_prob` (n,) P(with_mask).

    Each face is also in `table` unchanged, as the case `original`. Every case counts the same in a group's mean, also
    each class of a case with both. Without images the result has no cases and the means are None.
    """
    y_true = to_classes(table["label"])
    table = table.assign(
        correct=is_correct(y_true, y_prob, threshold),
        covered=conformal.prediction_sets(y_prob, calibration)[np.arange(len(table)), y_true],
        unsure=~conformal.is_sure(y_prob, calibration, threshold),
    )
    unchanged = table[table["case"] == original].set_index("source_row")
    changed = table[table["case"] != original]
    cases: dict[str, dict] = {}
    for (name, label), rows in changed.groupby(["case", "label"], sort=False):
        before = unchanged["correct"].reindex(rows["source_row"]).to_numpy(bool)
        one = rate(rows["correct"].to_numpy(), str(label), confidence)
        one |= paired_change(before, rows["correct"].to_numpy(), str(label), confidence)
        cases.setdefault(str(name), {"group": rows["group"].iloc[0]}).update(one)
    means = partial(group_means, changed, unchanged)
    values, ends = with_bootstrap(means, to_classes(unchanged["label"]), confidence, resamples)
    known = values | ends
    groups = {
        group: {"cases": len(rows.groupby(["case", "label"]))}
        | {key: known.get(f"{group}.{key}") for metric in MEANS for key in named(metric)}
        for group, rows in changed.groupby("group", sort=False)
    }
    return {
        "faces": len(unchanged),
        **{key: known.get(f"all.{key}") for metric in MEANS for key in named(metric)},
        "original_accuracy": float(unchanged["correct"].mean()) if len(unchanged) else None,
        **worst_and_gap(groups, values, means, unchanged, confidence, resamples),
        "groups": groups,
        "cases": cases,
    }


MEANS = {"accuracy": "correct", "coverage": "covered", "unsure": "unsure"}


def named(metric: str) -> tuple[str, str, str]:
    return metric, f"{metric}_low", f"{metric}_high"


def group_means(changed: pd.DataFrame, unchanged: pd.DataFrame, times: np.ndarray) -> dict[str, np.ndarray]:
    """GROUP.METRIC and all.METRIC, (r,) each: the mean over cases of their means over faces, in each resample.

    `times` (r, faces): see intervals; the faces are those of `unchanged`.
    """
    place = pd.Series(np.arange(len(unchanged)), index=unchanged.index)
    parts: dict[str, list[np.ndarray]] = {}
    for (_, _, group), rows in changed.groupby(["case", "label", "group"], sort=False):
        here = times[:, place[rows["source_row"]]]
        weight = here.sum(axis=1)
        for metric, column in MEANS.items():
            values = rows[column].to_numpy(float)
            # A resample without any face of a rare case tells nothing about it.
            mean = np.where(weight > 0, here @ values / np.maximum(weight, 1), values.mean())
            for name in (group, "all"):
                parts.setdefault(f"{name}.{metric}", []).append(mean)
    return {name: np.mean(means, axis=0) for name, means in parts.items()}


def with_bootstrap(means, classes: np.ndarray, confidence: float, resamples: int) -> tuple[dict, dict]:
    """What `means` gives for all faces, and the intervals of the bootstrap over faces of `classes` (n,)."""
    if not len(classes):
        return {}, {}
    values = {name: float(value[0]) for name, value in means(np.ones((1, len(classes)))).items()}
    return values, intervals.bootstrap(classes, means, resamples=resamples, confidence=confidence)


def worst_and_gap(groups, values, means, unchanged: pd.DataFrame, confidence: float, resamples: int) -> dict:
    """The groups with the lowest and the highest accuracy, and the difference `group_gap` with its interval."""
    keys = ("worst_group", *named("worst_accuracy"), "best_group", *named("group_gap"))
    if not groups:
        return dict.fromkeys(keys)
    worst = min(groups, key=lambda name: values[f"{name}.accuracy"])
    best = max(groups, key=lambda name: values[f"{name}.accuracy"])

    def gap(times: np.ndarray) -> dict[str, np.ndarray]:
        found = means(times)
        return {"group_gap": found[f"{best}.accuracy"] - found[f"{worst}.accuracy"]}

    value, ends = with_bootstrap(gap, to_classes(unchanged["label"]), confidence, resamples)
    accuracies = [groups[worst][key] for key in named("accuracy")]
    names = worst.replace("_", " "), best.replace("_", " ")
    return dict(zip(keys, (names[0], *accuracies, names[1], *(value | ends).values()), strict=True))


def rate(correct: np.ndarray, label: str, confidence: float) -> dict:
    """Recall of faces with a mask, false positive rate of those without, with n and Wilson interval."""
    found = proportion(RATES[label], correct if label == WITH_MASK else ~correct, confidence)
    n = found.pop(f"{RATES[label]}_n")
    return {f"n_{label}": n, **found}


def paired_change(before: np.ndarray, after: np.ndarray, label: str, confidence: float) -> dict[str, float]:
    """How the error rate of the same faces (n,) changes, with Newcombe's interval: METRIC_change of errors."""
    difference, low, high = newcombe_paired(~after, ~before, confidence)
    key = f"error_change_{label}"
    return {key: difference, f"{key}_low": low, f"{key}_high": high}


def newcombe_paired(first: np.ndarray, second: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """The difference between two proportions of the same n, (n,) bool each, and its score interval.

    Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 17, 1998: method 10.
    """
    n = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    p1, p2 = (both + only_first) / n, (both + only_second) / n
    l1, u1 = wilson(both + only_first, n, confidence)
    l2, u2 = wilson(both + only_second, n, confidence)
    product = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    excess: float = both * neither - only_first * only_second
    if excess > n / 2:
        excess -= n / 2  # continuity correction
    elif excess > 0:
        excess = 0
    phi = excess / np.sqrt(product) if product else 0.0
    down = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    up = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    return p1 - p2, p1 - p2 - float(np.sqrt(max(down, 0))), p1 - p2 + float(np.sqrt(max(up, 0)))


def subset_metrics(
    faces: pd.DataFrame, y_prob: np.ndarray, bins: Mapping[str, Sequence[str]], *, threshold: float, confidence: float
) -> dict:
    """Metrics by subset. `faces`: label, and the name of each face's bin in one column per key of `bins`.

    A descriptor's bins are in the order of `bins[key]`; those without faces are left out. Bins have different fractions
    of the classes, so they are compared by `balanced_accuracy`, the mean of both classes' accuracies (or that of the
    only class in the set); None with fewer than MIN_OF_CLASS of one. `gap` is its difference between the best and the
    worst bin of at least MIN_N faces, except UNKNOWN, which is not one kind of faces but counts for `worst_group`; None
    if there are fewer than two.
    """
    y_true = to_classes(faces["label"])
    correct = is_correct(y_true, y_prob, threshold)
    found: dict[str, dict] = {}
    counted: list[tuple[Any, str, dict]] = []
    for key, names in bins.items():
        classes = np.unique(y_true[faces[key].isin(list(names))])
        by_bin: dict[str, dict[str, Any]] = {}
        for name in names:
            inside = (faces[key] == name).to_numpy()
            if inside.any():
                by_bin[name] = {
                    "n": int(inside.sum()),
                    **balanced(correct[inside], y_true[inside], classes, confidence),
                }
                for number, label in reversed([*enumerate(LABELS)]):
                    members = inside & (y_true == number)
                    by_bin[name] |= rate(correct[members], label, confidence) if members.any() else {f"n_{label}": 0}
        found[key] = {**dict.fromkeys(named("gap")), "bins": by_bin}
        large = [
            (one["balanced_accuracy"], name)
            for name, one in by_bin.items()
            if one["n"] >= MIN_N and one["balanced_accuracy"] is not None
        ]
        certain = sorted((value, name) for value, name in large if name != UNKNOWN)
        if len(certain) > 1:
            (_, worst_bin), (_, best_bin) = certain[0], certain[-1]
            ends = difference(by_bin[best_bin], by_bin[worst_bin])
            found[key] |= dict(zip(named("gap"), ends, strict=True)) | {"worst": worst_bin, "best": best_bin}
        counted += [(value, f"{key}: {name}".replace("_", " "), by_bin[name]) for value, name in large]
    keys = ("worst_group", *named("worst_accuracy"))
    worst = dict.fromkeys(keys)
    if counted:
        _, name, one = min(counted, key=lambda item: item[:2])
        worst = dict(zip(keys, (name, *(one[metric] for metric in named("balanced_accuracy"))), strict=True))
    return {**worst, "by": found}


def balanced(correct: np.ndarray, y_true: np.ndarray, classes: np.ndarray, confidence: float) -> dict:
    """balanced_accuracy with its interval: mean of the accuracies of `classes`; None with too few faces of one.

    The interval combines the classes' Wilson intervals: Zou and Donner, "Construction of confidence limits about effect
    measures", Statistics in Medicine 27, 2008.
    """
    of_class = [correct[y_true == number] for number in classes]
    if min(map(len, of_class), default=0) < MIN_OF_CLASS:
        return dict.fromkeys(named("balanced_accuracy"))
    values = np.array([one.mean() for one in of_class])
    ends = np.array([wilson(int(one.sum()), len(one), confidence) for one in of_class])
    value, n = float(values.mean()), len(values)
    low = value - float(np.linalg.norm(values - ends[:, 0])) / n
    high = value + float(np.linalg.norm(ends[:, 1] - values)) / n
    return dict(zip(named("balanced_accuracy"), (value, low, high), strict=True))


def difference(first: dict, second: dict) -> tuple[float, float, float]:
    """The difference between two independent balanced accuracies, and its interval as by Newcombe 1998, page 873."""
    (p1, l1, u1), (p2, l2, u2) = ([one[key] for key in named("balanced_accuracy")] for one in (first, second))
    return p1 - p2, p1 - p2 - np.hypot(p1 - l1, u2 - p2), p1 - p2 + np.hypot(u1 - p1, p2 - l2)


def error_rates(found: dict) -> pd.DataFrame:
    """case, label, group, n, error_rate, low, high, one row per case and class, of what hard_case_metrics returns."""
    rows = []
    for name, case in found["cases"].items():
        for label in LABELS:
            if f"n_{label}" in case:
                value, low, high = (case[key] for key in named(RATES[label]))
                errors = (1 - value, 1 - high, 1 - low) if label == WITH_MASK else (value, low, high)
                rows.append((name, label, case["group"], case[f"n_{label}"], *errors))
    return pd.DataFrame(rows, columns=["case", "label", "group", "n", "error_rate", "low", "high"])


def headlines(found: dict) -> dict:
    """The means of all cases and of groups, for MLflow: it should not have a column for every bound of every case."""
    return {
        "test": {key: value for key, value in found["test"].items() if key != "cases"},
        "subsets": {
            split: {key: value for key, value in one.items() if key != "by"} for split, one in found["subsets"].items()
        },
    }


def summary(found: dict) -> str:
    """The main results in a line."""
    if not found["cases"]:
        return "no face on which hard cases could be drawn"
    return (
        f"accuracy {found['accuracy']:.2%} on hard cases drawn on {found['faces']} test faces (unchanged"
        f" {found['original_accuracy']:.2%}), lowest on {found['worst_group']}: {found['worst_accuracy']:.2%}"
    )
