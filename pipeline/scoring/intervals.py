"""How sure is a figure that is no plain share? Intervals from resampled pictures.

A resampling is told by how often it holds each picture, so that a thousand of them are judged in one go: `times`
(r, n), numbers, a row a resampling of n pictures. The figures here are those of scikit-learn with such weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


def bootstrap(
    y_true: np.ndarray,
    figures: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    resamples: int,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """NAME_low and NAME_high of each of `figures`' results: percentile bootstrap (Efron & Tibshirani 1993, ch. 13).

    `y_true` (n,) 0/1; `figures` takes `times` (resamples, n) and gives (resamples,) of each name. Pictures are drawn
    with replacement within their class, since the test set is balanced by design. The same seed gives the same
    intervals.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(y_true == one) for one in (0, 1)]
    times = np.empty((resamples, len(y_true)))
    for row in times:
        drawn = [generator.choice(of_class, len(of_class)) for of_class in members]
        row[:] = np.bincount(np.concatenate(drawn), minlength=len(y_true))
    tail = (1 - confidence) / 2
    result: dict[str, float] = {}
    for name, found in figures(times).items():
        low, high = np.quantile(found, [tail, 1 - tail])
        result |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def no_plain_shares(
    times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Those of metrics.classification_metrics' figures whose interval no formula gives, (r,) each, for the bootstrap.

    Without the calibration error: a sum of absolute gaps grows with every resampling, and its interval would lie above
    it.
    """
    masked, called = y_true == 1, y_prob >= threshold
    return {
        "f1_with_mask": f1(times, masked, called),
        "f1_without_mask": f1(times, ~masked, ~called),
        "roc_auc": roc_auc(times, y_true, y_prob),
        "average_precision": average_precision(times, y_true, y_prob),
        "brier": mean(times, (y_prob - y_true) ** 2),
    }


def mean(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(r,): of each resampling the mean of `values` (n,)."""
    return times @ values / times.sum(axis=1)


def f1(times: np.ndarray, of_class: np.ndarray, called: np.ndarray) -> np.ndarray:
    """(r,): 2 TP / (2 TP + FP + FN) of a class, 0 where it is neither there nor called. Both arguments (n,) bool."""
    hits, members = times @ (of_class & called), times @ of_class.astype(float) + times @ called.astype(float)
    return np.divide(2 * hits, members, out=np.zeros(len(times)), where=members > 0)


def roc_auc(times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """(r,): the area under the ROC curve by the trapezoid rule; both classes are in every resampling."""
    true_positives, false_positives = counts_by_threshold(times, y_true, y_prob)
    area = np.trapezoid(true_positives, false_positives, axis=1)
    return area / (true_positives[:, -1] * false_positives[:, -1])


def average_precision(times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """(r,): the sum over thresholds of what recall gains times the precision there."""
    true_positives, false_positives = counts_by_threshold(times, y_true, y_prob)
    called = (true_positives + false_positives)[:, 1:]
    precision = np.divide(true_positives[:, 1:], called, out=np.zeros(called.shape), where=called > 0)
    return (np.diff(true_positives, axis=1) * precision).sum(axis=1) / true_positives[:, -1]


def counts_by_threshold(times: np.ndarray, y_true: np.ndarray, y_prob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives, (r, k + 1) each, at k thresholds: none, then all the probabilities, falling."""
    order = np.argsort(-y_prob, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(y_prob[order])), len(order) - 1)  # equal probabilities are called together
    both = []
    for of_class in (y_true == 1, y_true == 0):
        counts = np.cumsum(times[:, order] * of_class[order], axis=1)[:, ends]
        both.append(np.pad(counts, ((0, 0), (1, 0))))
    return both[0], both[1]
