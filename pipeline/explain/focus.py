"""Does a model look at the face, and at its lower half, where a face mask is or would be? In figures.

Gain: the share of the positive attribution that lies inside a box, divided by the box's share of the picture. 1 is what
a map that knows nothing of faces would get, evenly spread or random; a gain cannot be larger than 1 / area share. Only
attribution towards the class that the model called counts: what made it decide as it did, rightly or wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

TITLES = {"cnn": "the CNN", "mobilenet": "MobileNetV2"}


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


def verdict(figures: Mapping[str, Mapping]) -> str:
    """Which model looks where it should, in one sentence, from what metrics/xai_*.json hold; `figures` by model.

    A model looks where it should when the interval of its lower_face_gain lies above 1. One does so more than the other
    when the interval of the difference, paired picture by picture, lies above 0.
    """
    if any(of_model["lower_face_gain"] is None for of_model in figures.values()):
        return "No face was found in any picture, so nothing can be said of where the models look."
    ranked = sorted(figures, key=lambda name: -figures[name]["lower_face_gain"])
    better, other = ranked
    good = [name for name in ranked if figures[name]["lower_face_gain_low"] > 1]
    start = {
        2: "Both models look where they should",
        1: f"Only {TITLES[(good or ranked)[0]]} looks where it should",
        0: "Neither model looks where it should",
    }[len(good)]
    gains = " and ".join(f"{interval(figures[name], 'lower_face_gain')} in {TITLES[name]}" for name in ranked)
    apart = figures[better]["versus"]
    more = (
        f"{TITLES[better]} does so more than {TITLES[other]}, by {interval(apart, 'lower_face_gain')}"
        if (apart["lower_face_gain_low"] or 0) > 0
        else "the difference between the two may be chance"
    )
    return (
        f"{start}: the share of positive attribution on the lower half of the face, divided by the area it takes, is"
        f" {gains} (1 is no better than chance); {more}."
    )


def interval(figures: Mapping, name: str) -> str:
    return f"{figures[name]:.2f} ({figures[f'{name}_low']:.2f} to {figures[f'{name}_high']:.2f})"
