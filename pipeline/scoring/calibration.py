"""Calibration: is a prediction with a confidence of 90 % correct nine times in ten?"""

from __future__ import annotations

import numpy as np
import pandas as pd


def reliability(y_true: np.ndarray, y_prob: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Bin the images by confidence; one row per non-empty bin: confidence (mean), accuracy, n.

    The confidence is that of the predicted class, max(p, 1 - p), in 0.5…1; the `bins` bins have equal width.
    `y_true` (n,) 0/1, `y_prob` (n,) P(with_mask).
    """
    confidence = np.maximum(y_prob, 1 - y_prob)
    correct = (y_prob >= 0.5) == (y_true == 1)
    index = np.minimum((2 * (confidence - 0.5) * bins).astype(int), bins - 1)
    table = pd.DataFrame({"bin": index, "confidence": confidence, "accuracy": correct.astype(float)})
    grouped = table.groupby("bin")
    return grouped.mean().assign(n=grouped.size()).reset_index(drop=True)


def expected_calibration_error(y_true: np.ndarray, y_prob: np.ndarray, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by image count (Guo et al. 2017, eq. 3)."""
    table = reliability(y_true, y_prob, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["n"]).sum() / table["n"].sum())
