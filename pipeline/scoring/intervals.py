"""How sure is a figure that is no plain share? Intervals from resampled pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


def bootstrap(
    y_true: np.ndarray,
    y_prob: np.ndarray,
    figures: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    *,
    resamples: int,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """NAME_low and NAME_high of each of `figures`' results: percentile bootstrap (Efron & Tibshirani 1993, ch. 13).

    `y_true` (n,) 0/1, `y_prob` (n,) P(with_mask). Pictures are drawn with replacement within their class, since the
    test set is balanced by design. The same seed gives the same intervals.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(y_true == one) for one in (0, 1)]
    drawn = []
    for _ in range(resamples):
        chosen = np.concatenate([generator.choice(of_class, len(of_class)) for of_class in members])
        drawn.append(figures(y_true[chosen], y_prob[chosen]))
    tail = (1 - confidence) / 2
    result: dict[str, float] = {}
    for name in drawn[0]:
        low, high = np.quantile([one[name] for one in drawn], [tail, 1 - tail])
        result |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return result
