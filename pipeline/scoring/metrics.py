"""Classification metrics of one model on one set of images. `with_mask` is class 1, the positive class."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from pipeline.scoring.calibration import expected_calibration_error


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), computed by SciPy."""
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def proportion(name: str, correct: np.ndarray, confidence: float) -> dict[str, float | int | None]:
    """Fraction of (n,) bool that is true, its Wilson interval NAME_low to NAME_high, and n as NAME_n."""
    n = len(correct)
    value = float(correct.mean()) if n else None
    low, high = wilson(int(correct.sum()), n, confidence) if n else (None, None)
    return {f"{name}_n": n, name: value, f"{name}_low": low, f"{name}_high": high}


def classification_metrics(
    y_true: np.ndarray, y_prob: np.ndarray, *, threshold: float = 0.5, confidence: float = 0.95, bins: int = 10
) -> dict[str, float | int]:
    """Compute all metrics of one model. `y_true` (n,) 0/1, both present; `y_prob` (n,) P(with_mask) in 0…1.

    with_mask is predicted if the probability is at least `threshold`. A false positive is without_mask predicted as
    with_mask. The precision of a class that is never predicted is 0.
    """
    y_pred = is_with_mask(y_prob, threshold).astype(int)
    (true_negatives, false_positives), (false_negatives, true_positives) = confusion_matrix(
        y_true, y_pred, labels=[0, 1]
    ).tolist()
    precision, recall, f1, _ = precision_recall_fscore_support(y_true, y_pred, labels=[0, 1], zero_division=0.0)
    correct = true_negatives + true_positives
    low, high = wilson(correct, len(y_true), confidence)
    return {
        "n": len(y_true),
        "accuracy": correct / len(y_true),
        "accuracy_low": low,
        "accuracy_high": high,
        "precision_with_mask": float(precision[1]),
        "precision_without_mask": float(precision[0]),
        "recall_with_mask": float(recall[1]),
        "recall_without_mask": float(recall[0]),
        "f1_with_mask": float(f1[1]),
        "f1_without_mask": float(f1[0]),
        "false_positives": false_positives,
        "false_negatives": false_negatives,
        "roc_auc": float(roc_auc_score(y_true, y_prob)),
        "average_precision": float(average_precision_score(y_true, y_prob)),
        "brier": float(brier_score_loss(y_true, y_prob)),
        "ece": expected_calibration_error(y_true, y_prob, bins),
    }


def is_with_mask(y_prob: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) bool: which images are classified as with_mask. Raises ValueError for NaN, which would be without_mask."""
    if np.isnan(y_prob).any():
        raise ValueError("a probability is NaN")
    return y_prob >= threshold


def is_correct(y_true: np.ndarray, y_prob: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) bool: which images are classified correctly."""
    return is_with_mask(y_prob, threshold) == (y_true == 1)


def accuracy(y_true: np.ndarray, y_prob: np.ndarray, threshold: float) -> float:
    """Fraction of images that are classified correctly."""
    return float(is_correct(y_true, y_prob, threshold).mean())


def rounded(value, digits: int = 6):
    """Round the floats in `value`, a number or nested dicts, to `digits` significant digits."""
    if isinstance(value, dict):
        return {key: rounded(inner, digits) for key, inner in value.items()}
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
