"""Focus: how much of the attribution lies on the face, and on its lower half, where a face mask is or would be.

Gain: the fraction of the positive attribution inside a box, divided by the box's fraction of the image area. A uniform
or random map has an expected gain of 1; the maximum is 1 / area fraction. Only attribution towards the predicted class
counts: the evidence for the model's decision, correct or not.

Insight: a model looks at the face (or its lower half) if the whole confidence interval of the gain is above 1, and
elsewhere if it is below. One model is more focused than the other if the confidence interval of the difference between
their gains for the lower half, paired by image, excludes 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def towards_predicted(attributions: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Convert (n, s, s, 3) attributions of the margin to (n, s, s) maps, positive in favour of the predicted class.

    `predicted` (n,) bool: whether the model predicts with_mask. The channels are summed.
    """
    return attributions.sum(axis=-1) * np.where(predicted, 1, -1)[:, None, None]


def coverage(box: np.ndarray, size: int) -> np.ndarray:
    """(size, size): fraction of each pixel inside `box`: left, top, right, bottom as fractions 0…1 of the side."""
    edges = np.arange(size + 1)
    left, top, right, bottom = np.clip(np.asarray(box, float), 0, 1) * size
    across = np.clip(np.minimum(edges[1:], right) - np.maximum(edges[:-1], left), 0, None)
    down = np.clip(np.minimum(edges[1:], bottom) - np.maximum(edges[:-1], top), 0, None)
    return np.outer(down, across)


def lower_half(box: np.ndarray) -> np.ndarray:
    """Return the lower half of a box: left, top, right, bottom."""
    left, top, right, bottom = box
    return np.array([left, (top + bottom) / 2, right, bottom])


def gain(towards: np.ndarray, box: np.ndarray) -> float:
    """Compute the gain of one map (s, s) for a box in fractions; NaN if nothing is positive or the box is empty."""
    inside = coverage(box, len(towards))
    positive = np.maximum(towards, 0).astype(np.float64)
    if not positive.sum() or not inside.sum():
        return float("nan")
    return float((positive * inside).sum() / positive.sum() / inside.mean())


def against_chance(low: float, high: float) -> str:
    """Compare a gain's interval with 1, the expected gain of a random map."""
    return "above chance" if low > 1 else "below chance" if high < 1 else "not distinguishable from chance"


def insight(own: Mapping) -> str:
    """State where a model looks and whether it is more focused than the other. `own`: its flat xai.* metrics."""
    parts = []
    for key, where in (("xai.face_gain", "face"), ("xai.lower_face_gain", "lower half")):
        value, low, high = (own.get(name) for name in (key, f"{key}_low", f"{key}_high"))
        comparison = against_chance(low, high) if low is not None and high is not None else "no interval"
        parts.append(f"{where} gain unknown" if value is None else f"{where} gain {value:.2f} ({comparison})")
    low, high = (own.get(f"xai.versus.lower_face_gain_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return ", ".join(parts)
    difference = "more focused than" if low > 0 else "less focused than" if high < 0 else "not distinguishable from"
    return f"{', '.join(parts)}; {difference} the other model"
