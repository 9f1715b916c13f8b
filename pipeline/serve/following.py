"""Which face of this frame is which of the last one? Faces get numbers, probabilities averaged over time, and labels.

There is no clock in here: a frame's time is passed in, in seconds from any zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.data.framing import intersection_over_union
from pipeline.params import Live
from pipeline.serve.judging import Judged

WITH_MASK, WITHOUT_MASK, UNSURE = "with_mask", "without_mask", "unsure"
# A label once given is kept until the probability is this far beyond the threshold: else it flickers around one.
HYSTERESIS = 0.05
# A face that moved too fast to overlap its last box is known by lying within this many box sides of it, if the areas
# differ by less than this factor.
REACH, GROWTH = 1.0, 1.8


@dataclass
class Face:
    number: int  # from 1; the same in every frame, never given again
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels, where it was last found
    score: float  # the detector's, 0…1
    probability: float  # of with_mask, of the frame in which it was last found
    smoothed: float  # the same, averaged over live.smoothing seconds
    label: str  # with_mask, without_mask or unsure, by `smoothed`
    time: float  # seconds, of the frame in which it was last found
    found: bool  # in the last frame; if not, it is still expected where it was


class Follower:
    """The faces known at the last frame, and what a next frame's detections make of them."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.faces: list[Face] = []
        self.time = -math.inf
        self.numbers = 0
        self.stale: set[int] = set()  # faces whose probability is another model's

    def follow(self, judged: Sequence[Judged], time: float) -> list[Face]:
        """The faces known after a frame of `time` seconds, by number: those found in it, and those still expected.

        A time before the last frame's is a film that was wound back: all known faces are forgotten then. The list is
        new, its faces are changed by the next call.
        """
        if time < self.time:
            self.faces = []
        self.time = time
        self.faces = [face for face in self.faces if time - face.time <= self.live.lost_after]
        pairs = matches(self.faces, judged, self.live.overlap)
        for face in self.faces:
            face.found = False
        for known, new in pairs:
            self.update(self.faces[known], judged[new], time)
        for new in sorted(set(range(len(judged))) - {new for _, new in pairs}):
            self.faces.append(self.first_seen(judged[new], time))
        return list(self.faces)

    def first_seen(self, one: Judged, time: float) -> Face:
        self.numbers += 1
        label = labelled(None, one.with_mask, self.live.unsure_low, self.live.unsure_high)
        return Face(self.numbers, one.box, one.score, one.with_mask, one.with_mask, label, time, True)

    def update(self, face: Face, one: Judged, time: float) -> None:
        before: str | None = face.label
        weight = 1 - math.exp((face.time - time) / self.live.smoothing) if self.live.smoothing else 1.0
        if face.number in self.stale:
            before, weight = None, 1.0
            self.stale.discard(face.number)
        face.smoothed += weight * (one.with_mask - face.smoothed)
        face.label = labelled(before, face.smoothed, self.live.unsure_low, self.live.unsure_high)
        face.box, face.score, face.probability = one.box, one.score, one.with_mask
        face.time, face.found = time, True

    def judge_anew(self) -> None:
        """Keep the faces, but average what comes with nothing before: that was another model's."""
        self.stale = {face.number for face in self.faces}


def labelled(before: str | None, probability: float, low: float, high: float) -> str:
    """What a face of this probability is called: unsure between `low` and `high`, and what it was `before` near them.

    With `low` equal to `high` no face is unsure.
    """
    if before == WITH_MASK and probability > max(high - HYSTERESIS, 0):
        return WITH_MASK
    if before == WITHOUT_MASK and probability < min(low + HYSTERESIS, 1):
        return WITHOUT_MASK
    if probability >= high:
        return WITH_MASK
    return WITHOUT_MASK if probability <= low else UNSURE


def matches(known: Sequence[Face], judged: Sequence[Judged], overlap: float) -> list[tuple[int, int]]:
    """Pairs of indices: which known face is which detection; each is in one pair at most.

    First by intersection over union of at least `overlap`, then those left over by nearness.
    """
    if not known or not judged:
        return []
    boxes, new = np.array([face.box for face in known], float), np.array([one.box for one in judged], float)
    shared = intersection_over_union(boxes, new)
    pairs = best(np.where(shared >= overlap, shared, 0.0))
    near = nearness(boxes, new)
    near[[i for i, _ in pairs]] = 0
    near[:, [j for _, j in pairs]] = 0
    return pairs + best(near)


def best(similarity: np.ndarray) -> list[tuple[int, int]]:
    """The one-to-one pairs with the largest sum of `similarity` (n, k); a similarity of 0 makes no pair."""
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if similarity[i, j] > 0]


def nearness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 for the same centre, 0 from REACH mean sides on and for areas that differ by more than GROWTH: (n, k)."""
    between = np.linalg.norm((a[:, None, :2] + a[:, None, 2:] - b[None, :, :2] - b[None, :, 2:]) / 2, axis=2)
    side = np.maximum((np.sqrt(areas(a))[:, None] + np.sqrt(areas(b))[None]) / 2, 1e-9)
    ratio = np.maximum(areas(a), 1e-9)[:, None] / np.maximum(areas(b), 1e-9)[None]
    alike = (ratio <= GROWTH) & (ratio >= 1 / GROWTH)
    return np.where(alike, np.clip(1 - between / (REACH * side), 0, None), 0.0)


def areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
