"""Does a stated confidence of 90 % mean right nine times in ten?"""

from __future__ import annotations

import numpy as np
import pandas as pd


def reliability(y_true: np.ndarray, y_prob: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """A row for each bin that holds pictures: confidence (mean), accuracy, n.

    Binned is the confidence in the class that was called, max(p, 1 - p), which lies in 0.5…1, in `bins` bins of equal
    width. `y_true` (n,) 0/1, `y_prob` (n,) P(with_mask).
    """
    confidence = np.maximum(y_prob, 1 - y_prob)
    right = (y_prob >= 0.5) == (y_true == 1)
    place = np.minimum((2 * (confidence - 0.5) * bins).astype(int), bins - 1)
    table = pd.DataFrame({"place": place, "confidence": confidence, "accuracy": right.astype(float)})
    grouped = table.groupby("place")
    return grouped.mean().assign(n=grouped.size()).reset_index(drop=True)


def expected_calibration_error(y_true: np.ndarray, y_prob: np.ndarray, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their pictures (Guo et al. 2017, eq. 3)."""
    table = reliability(y_true, y_prob, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["n"]).sum() / table["n"].sum())
