"""Is one model better than the other, or was it luck? Both judged the same pictures, so the test is paired."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def mcnemar(right: dict[str, np.ndarray]) -> dict[str, float | int]:
    """McNemar's exact test on two models' (n,) bool arrays, by model name: who was right on which picture.

    Under the null hypothesis each of the pictures that only one model gets right is as likely the one's as the
    other's; the p-value is two-sided, from the binomial distribution (McNemar 1947; Dietterich 1998), and 1 when the
    models never disagree.
    """
    (a, a_right), (b, b_right) = right.items()
    only_a, only_b = int((a_right & ~b_right).sum()), int((~a_right & b_right).sum())
    disagree = only_a + only_b
    return {
        "n": len(a_right),
        "both_right": int((a_right & b_right).sum()),
        f"only_{a}_right": only_a,
        f"only_{b}_right": only_b,
        "both_wrong": int((~a_right & ~b_right).sum()),
        "mcnemar_p": float(binomtest(only_a, disagree).pvalue) if disagree else 1.0,
    }
