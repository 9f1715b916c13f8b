"""Significance of the difference between two models that classified the same images (a paired test)."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def mcnemar(this_correct: np.ndarray, other_correct: np.ndarray) -> dict[str, float | int]:
    """McNemar's exact test on two (n,) bool arrays: which images each model classifies correctly.

    Under the null hypothesis, an image that only one model classifies correctly is equally likely to be either
    model's. The p-value is two-sided, from the binomial distribution (McNemar 1947; Dietterich 1998), and 1 if the
    models are correct on the same images.
    """
    only_this, only_other = int((this_correct & ~other_correct).sum()), int((~this_correct & other_correct).sum())
    disagree = only_this + only_other
    return {
        "both_correct": int((this_correct & other_correct).sum()),
        "only_this_correct": only_this,
        "only_other_correct": only_other,
        "both_incorrect": int((~this_correct & ~other_correct).sum()),
        "mcnemar_p": float(binomtest(only_this, disagree).pvalue) if disagree else 1.0,
    }
