"""The metrics in the card of the packaged model: proportions with intervals, and calibration, on any set of images."""

from __future__ import annotations

import numpy as np

from face_mask.schema import WITH_MASK, WITHOUT_MASK
from pipeline.scoring.calibration import expected_calibration_error
from pipeline.scoring.metrics import is_correct, proportion


def card_metrics(y_true: np.ndarray, y_prob: np.ndarray, *, threshold: float, confidence: float, bins: int) -> dict:
    """Accuracy and the recall of each class, with n and Wilson interval, and the calibration error `ece`.

    `y_true` (n,) 0/1; `y_prob` (n,) P(with_mask) in 0…1. A metric of no images is None.
    """
    correct = is_correct(y_true, y_prob, threshold)
    return {
        **proportion("accuracy", correct, confidence),
        **proportion(f"recall_{WITH_MASK}", correct[y_true == 1], confidence),
        **proportion(f"recall_{WITHOUT_MASK}", correct[y_true == 0], confidence),
        "ece": expected_calibration_error(y_true, y_prob, bins) if len(y_true) else None,
    }
