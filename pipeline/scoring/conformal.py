"""Conformal calibration on validation images, and how often it holds on others. face_mask/conformal.py uses it.

The score of an image for a class is 1 - P(class). A class is in an image's prediction set if its score is at most the
k-th smallest of the n validation images of that class, k = ceil((n + 1) (1 - error)). If another image of the class is
exchangeable with those, its set lacks the class with a probability of at most `error`, whatever the model (Vovk,
Gammerman and Shafer 2005, section 4.5; Angelopoulos and Bates 2023, sections 1 and 4.2). With k > n, both classes are
always in the set.
"""

from __future__ import annotations

import math

import numpy as np

from face_mask.conformal import Calibration
from face_mask.schema import WITH_MASK, WITHOUT_MASK
from pipeline.scoring.metrics import is_correct, is_with_mask, proportion

SHOWN = (f"coverage_{WITH_MASK}", f"coverage_{WITHOUT_MASK}", "unsure", "sure_accuracy")
DIGITS = 6  # of the thresholds: what follows them in a probability differs between machines


def quantile(scores: np.ndarray, error: float) -> float:
    """The k-th smallest of n scores, k = ceil((n + 1) (1 - error)); infinity if there are fewer than k."""
    n = len(scores)
    k = n + 1 - math.floor(round((n + 1) * error, 9))  # rounded: 100 * 0.29 is 28.999999999999996
    return float(np.sort(scores)[k - 1]) if k <= n else math.inf


def calibrate(y_true: np.ndarray, y_prob: np.ndarray, error: float) -> Calibration:
    """Compute the thresholds from validation images: `y_true` (n,) 0/1, `y_prob` (n,) P(with_mask) in 0…1.

    Both are thresholds on P(with_mask). They are rounded away from each other's class, which only enlarges sets.
    """
    with_mask, without_mask = y_prob[y_true == 1], y_prob[y_true == 0]
    # As scores, -p and p order the images as 1 - p and 1 - (1 - p) do, without their rounding errors.
    with_mask_from, without_mask_to = -quantile(-with_mask, error), quantile(without_mask, error)
    return Calibration(
        error=error,
        with_mask_from=max(0.0, round_down(with_mask_from)),
        without_mask_to=min(1.0, -round_down(-without_mask_to)),
        n_with_mask=len(with_mask),
        n_without_mask=len(without_mask),
    )


def round_down(value: float) -> float:
    """The largest number with DIGITS decimals that is not above the value."""
    if math.isinf(value):
        return value
    nearest = round(value, DIGITS)
    return nearest if nearest <= value else round(nearest - 10**-DIGITS, DIGITS)


def shortage(y_true: np.ndarray, error: float) -> str | None:
    """State in a line that `y_true` (n,) 0/1 are too few validation images for the error level; None if enough."""
    needed = math.ceil(round(1 / error, 9)) - 1
    n = int(min((y_true == 0).sum(), (y_true == 1).sum()))
    if n >= needed:
        return None
    return (
        f"conformal.error = {error:g} needs {needed} validation images of each class, but there are {n}:"
        " a class with fewer is in every prediction set; raise conformal.error"
    )


def prediction_sets(y_prob: np.ndarray, calibration: Calibration) -> np.ndarray:
    """(n, 2) bool: whether without_mask and with_mask are in the prediction set of each P(with_mask) (n,)."""
    return np.stack([y_prob <= calibration.without_mask_to, y_prob >= calibration.with_mask_from], axis=1)


def is_sure(y_prob: np.ndarray, calibration: Calibration, threshold: float) -> np.ndarray:
    """(n,) bool: whether the prediction set is exactly the predicted class, that is with_mask from `threshold` on."""
    predicted = is_with_mask(y_prob, threshold)
    return (prediction_sets(y_prob, calibration) == np.stack([~predicted, predicted], axis=1)).all(axis=1)


def summary(metrics: dict) -> str:
    """State the result of `conformal_metrics` in a line."""
    shown = {key: "unknown" if metrics[key] is None else f"{metrics[key]:.2%}" for key in SHOWN}
    return (
        f"prediction sets at error level {metrics['error']:g} contain the class of {shown[SHOWN[0]]} with and"
        f" {shown[SHOWN[1]]} without a mask; unsure about {shown[SHOWN[2]]}, accuracy on the rest {shown[SHOWN[3]]}"
    )


def conformal_metrics(
    y_true: np.ndarray, y_prob: np.ndarray, calibration: Calibration, *, threshold: float, confidence: float
) -> dict[str, float | int | None]:
    """Coverage of each class, the fraction that is unsure, and the accuracy on the rest, with n and Wilson intervals.

    `y_true` (n,) 0/1; `y_prob` (n,) P(with_mask) in 0…1. The coverage of a class is the fraction of its images whose
    prediction set contains it. A metric of no images is None.
    """
    covered = prediction_sets(y_prob, calibration)[np.arange(len(y_true)), y_true]
    sure = is_sure(y_prob, calibration, threshold)
    return {
        "error": calibration.error,
        "with_mask_from": calibration.with_mask_from,
        "without_mask_to": calibration.without_mask_to,
        **proportion(f"coverage_{WITH_MASK}", covered[y_true == 1], confidence),
        **proportion(f"coverage_{WITHOUT_MASK}", covered[y_true == 0], confidence),
        **proportion("unsure", ~sure, confidence),
        **proportion("sure_accuracy", is_correct(y_true, y_prob, threshold)[sure], confidence),
    }
