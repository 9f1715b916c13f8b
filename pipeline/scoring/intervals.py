"""Bootstrap confidence intervals for metrics that are not proportions.

A resample is represented by how often it contains each image, so that a thousand resamples are evaluated at once:
`times` (r, n), one row of counts per resample of n images. The metrics here equal scikit-learn's with these counts as
sample weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


def bootstrap(
    y_true: np.ndarray,
    metrics: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    resamples: int,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Compute NAME_low and NAME_high of each metric by the percentile bootstrap (Efron & Tibshirani 1993, ch. 13).

    `y_true` (n,) 0/1; `metrics` maps `times` (resamples, n) to (resamples,) values by name. Images are drawn with
    replacement within their class, since the test set is balanced by design. The same seed gives the same intervals.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(y_true == one) for one in (0, 1)]
    times = np.empty((resamples, len(y_true)))
    for row in times:
        drawn = [generator.choice(of_class, len(of_class)) for of_class in members]
        row[:] = np.bincount(np.concatenate(drawn), minlength=len(y_true))
    tail = (1 - confidence) / 2
    result: dict[str, float] = {}
    for name, values in metrics(times).items():
        low, high = np.quantile(values, [tail, 1 - tail])
        result |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def bootstrap_metrics(
    times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Metrics of metrics.classification_metrics that have no closed-form interval, (r,) each, for the bootstrap.

    The calibration error is omitted: resampling inflates a sum of absolute gaps, so its interval would lie above it.
    """
    actual, predicted = y_true == 1, y_prob >= threshold
    return {
        "f1_with_mask": f1(times, actual, predicted),
        "f1_without_mask": f1(times, ~actual, ~predicted),
        "roc_auc": roc_auc(times, y_true, y_prob),
        "average_precision": average_precision(times, y_true, y_prob),
        "brier": mean(times, (y_prob - y_true) ** 2),
    }


def mean(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(r,): mean of `values` (n,) in each resample."""
    return times @ values / times.sum(axis=1)


def f1(times: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(r,): 2 TP / (2 TP + FP + FN) of a class, 0 if it is neither actual nor predicted. Both (n,) bool."""
    hits, members = times @ (actual & predicted), times @ actual.astype(float) + times @ predicted.astype(float)
    return np.divide(2 * hits, members, out=np.zeros(len(times)), where=members > 0)


def roc_auc(times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """(r,): area under the ROC curve by the trapezoid rule; both classes are in every resample."""
    true_positives, false_positives = counts_by_threshold(times, y_true, y_prob)
    area = np.trapezoid(true_positives, false_positives, axis=1)
    return area / (true_positives[:, -1] * false_positives[:, -1])


def average_precision(times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """(r,): sum over thresholds of the increase in recall times the precision at that threshold."""
    true_positives, false_positives = counts_by_threshold(times, y_true, y_prob)
    predicted = (true_positives + false_positives)[:, 1:]
    precision = np.divide(true_positives[:, 1:], predicted, out=np.zeros(predicted.shape), where=predicted > 0)
    return (np.diff(true_positives, axis=1) * precision).sum(axis=1) / true_positives[:, -1]


def counts_by_threshold(times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count true and false positives, (r, k + 1) each: 0, then counts at the k distinct probabilities, falling."""
    order = np.argsort(-y_prob, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(y_prob[order])), len(order) - 1)  # equal probabilities share a threshold
    both = []
    for of_class in (y_true == 1, y_true == 0):
        counts = np.cumsum(times[:, order] * of_class[order], axis=1)[:, ends]
        both.append(np.pad(counts, ((0, 0), (1, 0))))
    return both[0], both[1]
