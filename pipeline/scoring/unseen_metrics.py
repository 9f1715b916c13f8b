"""Metrics of one model on the unseen set, which may lack a class or contain incorrectly worn masks."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from face_mask.schema import LABELS
from pipeline.dataset.packing import to_classes
from pipeline.scoring import intervals
from pipeline.scoring.metrics import is_correct, wilson

SIZES = {"32_47": (32, 48), "48_95": (48, 96), "96_up": (96, np.inf)}  # pixels, half-open intervals


def unseen_metrics(
    faces: pd.DataFrame, y_prob: np.ndarray, threshold: float, confidence: float, resamples: int
) -> dict:
    """Compute all metrics of one model. `faces`: label and face_size of n faces; `y_prob` (n,): P(with_mask) in 0…1.

    Faces of neither class, with an incorrectly worn mask, count only in n_incorrect (how many there are) and
    incorrect_called_mask (how many of them are predicted as with_mask). A proportion of no faces is None; balanced
    accuracy and ROC AUC are None if a class is missing. Metrics that are not proportions have bootstrap intervals.

    `mean_confidence_LABEL` is what the original reports as accuracy on unseen images: the mean probability of the
    predicted class, correct or not, over the faces of that label. A model that is always confident and always
    incorrect scores 1.
    """
    in_class = faces["label"].isin(LABELS).to_numpy()
    y_true, y, size = to_classes(faces["label"][in_class]), y_prob[in_class], faces["face_size"][in_class].to_numpy()
    correct = is_correct(y_true, y, threshold)
    resampled = partial(bootstrap_metrics, y_true=y_true, y_prob=y, threshold=threshold)
    known = {name: float(values[0]) for name, values in resampled(np.ones((1, len(y)))).items()}
    known |= intervals.bootstrap(y_true, resampled, resamples=resamples, confidence=confidence)

    def with_interval(name: str) -> dict[str, float | None]:
        return {key: known.get(key) for key in (name, f"{name}_low", f"{name}_high")}

    return {
        "n": len(y),
        **{f"n_{label}": int((y_true == number).sum()) for number, label in reversed([*enumerate(LABELS)])},
        **accuracy_of(correct, confidence),
        **with_interval("balanced_accuracy"),
        **{f"recall_{label}": mean(correct[y_true == number]) for number, label in reversed([*enumerate(LABELS)])},
        **with_interval("roc_auc"),
        **with_interval("mean_confidence_with_mask"),
        **with_interval("mean_confidence_without_mask"),
        "n_incorrect": int((~in_class).sum()),
        "incorrect_called_mask": int((y_prob[~in_class] >= threshold).sum()),
        "by_size": {
            name: {"n": int(chosen.sum()), **accuracy_of(correct[chosen], confidence)}
            for name, chosen in ((name, (size >= low) & (size < high)) for name, (low, high) in SIZES.items())
        },
    }


def bootstrap_metrics(
    times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Metrics of unseen_metrics without a closed-form interval, (r,) each, except those that need a missing class.

    `times` (r, n): see intervals; `y_true` (n,) 0/1, `y_prob` (n,) P(with_mask).
    """
    of_predicted = np.where(y_prob >= threshold, y_prob, 1 - y_prob)
    correct = is_correct(y_true, y_prob, threshold)
    classes = {label: y_true == number for number, label in enumerate(LABELS) if (y_true == number).any()}

    def means(values: np.ndarray) -> dict[str, np.ndarray]:
        return {label: intervals.mean(times[:, members], values[members]) for label, members in classes.items()}

    found = {f"mean_confidence_{label}": values for label, values in means(of_predicted).items()}
    if len(classes) == len(LABELS):
        found["balanced_accuracy"] = np.mean([*means(correct).values()], axis=0)
        found["roc_auc"] = intervals.roc_auc(times, y_true, y_prob)
    return found


def mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def accuracy_of(correct: np.ndarray, confidence: float) -> dict[str, float | None]:
    """Fraction of (n,) bool that is true, and its Wilson interval."""
    low, high = wilson(int(correct.sum()), len(correct), confidence) if len(correct) else (None, None)
    return {"accuracy": mean(correct), "accuracy_low": low, "accuracy_high": high}
