"""Is one model better than the other, or was it luck? Both judged the same pictures, so the test is paired."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def mcnemar(this_right: np.ndarray, other_right: np.ndarray) -> dict[str, float | int]:
    """McNemar's exact test on two models' (n,) bool arrays: who was right on which picture.

    Under the null hypothesis each of the pictures that only one model gets right is as likely the one's as the
    other's; the p-value is two-sided, from the binomial distribution (McNemar 1947; Dietterich 1998), and 1 when the
    models never disagree.
    """
    only_this, only_other = int((this_right & ~other_right).sum()), int((~this_right & other_right).sum())
    disagree = only_this + only_other
    return {
        "both_right": int((this_right & other_right).sum()),
        "only_this_right": only_this,
        "only_other_right": only_other,
        "both_wrong": int((~this_right & ~other_right).sum()),
        "mcnemar_p": float(binomtest(only_this, disagree).pvalue) if disagree else 1.0,
    }
