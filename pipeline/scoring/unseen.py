"""What the metric files say of one model on the foreign set, which may lack a class, or hold masks worn wrong."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from pipeline.data.packing import LABELS, to_classes
from pipeline.scoring import intervals
from pipeline.scoring.metrics import called_right, wilson

SIZES = {"32_47": (32, 48), "48_95": (48, 96), "96_up": (96, np.inf)}  # pixels, from and below


def unseen_metrics(
    faces: pd.DataFrame, y_prob: np.ndarray, threshold: float, confidence: float, resamples: int
) -> dict:
    """All figures of one model. `faces`: label and face_size of n faces; `y_prob` (n,): P(with_mask) in 0…1.

    Faces whose label is neither class, as a mask worn wrong is, count in n_incorrect and incorrect_called_mask alone:
    how many there are, and how many of them are called with_mask. A share of no faces is None, and so are balanced
    accuracy and ROC AUC where a class is missing. Figures that are no plain shares have the bootstrap's interval.

    `mean_confidence_LABEL` is what the original reports as accuracy on unseen pictures: the mean probability of the
    class that was called, right or wrong, over the faces of the class. A model that is always sure and always wrong
    has 1.
    """
    judged = faces["label"].isin(LABELS).to_numpy()
    y_true, y, size = to_classes(faces["label"][judged]), y_prob[judged], faces["face_size"][judged].to_numpy()
    right = called_right(y_true, y, threshold)
    figures = partial(no_plain_shares, y_true=y_true, y_prob=y, threshold=threshold)
    known = {name: float(found[0]) for name, found in figures(np.ones((1, len(y)))).items()}
    known |= intervals.bootstrap(y_true, figures, resamples=resamples, confidence=confidence)

    def with_interval(name: str) -> dict[str, float | None]:
        return {key: known.get(key) for key in (name, f"{name}_low", f"{name}_high")}

    return {
        "n": len(y),
        **{f"n_{label}": int((y_true == number).sum()) for number, label in reversed([*enumerate(LABELS)])},
        **accuracy_of(right, confidence),
        **with_interval("balanced_accuracy"),
        **{f"recall_{label}": mean(right[y_true == number]) for number, label in reversed([*enumerate(LABELS)])},
        **with_interval("roc_auc"),
        **with_interval("mean_confidence_with_mask"),
        **with_interval("mean_confidence_without_mask"),
        "n_incorrect": int((~judged).sum()),
        "incorrect_called_mask": int((y_prob[~judged] >= threshold).sum()),
        "by_size": {
            name: {"n": int(chosen.sum()), **accuracy_of(right[chosen], confidence)}
            for name, chosen in ((name, (size >= low) & (size < high)) for name, (low, high) in SIZES.items())
        },
    }


def no_plain_shares(
    times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Those of unseen_metrics' figures whose interval no formula gives, (r,) each; only those that are known.

    `times` (r, n): see intervals; `y_true` (n,) 0/1, `y_prob` (n,) P(with_mask); a class may be missing.
    """
    called = np.where(y_prob >= threshold, y_prob, 1 - y_prob)
    right = called_right(y_true, y_prob, threshold)
    classes = {label: y_true == number for number, label in enumerate(LABELS) if (y_true == number).any()}

    def means(values: np.ndarray) -> dict[str, np.ndarray]:
        return {label: intervals.mean(times[:, members], values[members]) for label, members in classes.items()}

    found = {f"mean_confidence_{label}": one for label, one in means(called).items()}
    if len(classes) == len(LABELS):
        found["balanced_accuracy"] = np.mean([*means(right).values()], axis=0)
        found["roc_auc"] = intervals.roc_auc(times, y_true, y_prob)
    return found


def mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def accuracy_of(right: np.ndarray, confidence: float) -> dict[str, float | None]:
    """The share of (n,) bool that is true, and its Wilson interval."""
    low, high = wilson(int(right.sum()), len(right), confidence) if len(right) else (None, None)
    return {"accuracy": mean(right), "accuracy_low": low, "accuracy_high": high}
