"""Does a model look at the face, and at its lower half, where a face mask is or would be? In figures.

Gain: the share of the positive attribution that lies inside a box, divided by the box's share of the picture. 1 is what
a map that knows nothing of faces would get, evenly spread or random; a gain cannot be larger than 1 / area share. Only
attribution towards the class that the model called counts: what made it decide as it did, rightly or wrongly.

Insight: a model looks at the face (or the face's lower half) when the gain's whole interval is above 1, and elsewhere
when it is below. One model looks more sharply than the other when the interval of the difference between their gains
for the lower half, paired picture by picture, does not hold 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def towards_called(attributions: np.ndarray, called: np.ndarray) -> np.ndarray:
    """(n, s, s, 3) attributions of the margin to (n, s, s) maps; positive speaks for the called class.

    `called` (n,) bool: whether the model called the picture with_mask. The channels are added up.
    """
    return attributions.sum(axis=-1) * np.where(called, 1, -1)[:, None, None]


def coverage(box: np.ndarray, size: int) -> np.ndarray:
    """(size, size): how much of each pixel lies inside `box`, its left, top, right, bottom as fractions 0…1."""
    edges = np.arange(size + 1)
    left, top, right, bottom = np.clip(np.asarray(box, float), 0, 1) * size
    across = np.clip(np.minimum(edges[1:], right) - np.maximum(edges[:-1], left), 0, None)
    down = np.clip(np.minimum(edges[1:], bottom) - np.maximum(edges[:-1], top), 0, None)
    return np.outer(down, across)


def lower_half(box: np.ndarray) -> np.ndarray:
    """The lower half of a box of left, top, right, bottom."""
    left, top, right, bottom = box
    return np.array([left, (top + bottom) / 2, right, bottom])


def gain(towards: np.ndarray, box: np.ndarray) -> float:
    """The gain of one map (s, s) for a box in fractions; NaN where nothing is positive or the box is empty."""
    inside = coverage(box, len(towards))
    positive = np.maximum(towards, 0).astype(np.float64)
    if not positive.sum() or not inside.sum():
        return float("nan")
    return float((positive * inside).sum() / positive.sum() / inside.mean())


def place(low: float, high: float) -> str:
    """Where a gain's interval lies against chance."""
    return "above chance" if low > 1 else "below chance" if high < 1 else "not told from chance"


def insight(own: Mapping) -> str:
    """Where a model looks, in words, and whether more sharply than the other. `own`: its xai.* figures, flat."""
    parts = []
    for key, where in (("xai.face_gain", "face"), ("xai.lower_face_gain", "lower half")):
        value, low, high = (own.get(name) for name in (key, f"{key}_low", f"{key}_high"))
        told = place(low, high) if low is not None and high is not None else "no interval"
        parts.append(f"{where} unknown" if value is None else f"{where} {value:.2f} ({told})")
    low, high = (own.get(f"xai.versus.lower_face_gain_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return ", ".join(parts)
    against = "sharper than" if low > 0 else "less sharp than" if high < 0 else "not told from"
    return f"{', '.join(parts)}; {against} the other model"
