"""Track faces over video frames: stable numbers, smoothed probabilities, and labels that do not flicker.

The module reads no clock: the time of each frame is passed in, in seconds from any origin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from face_mask.classifier import Prediction
from face_mask.cropping import intersection_over_union
from face_mask.schema import WITH_MASK, WITHOUT_MASK
from face_mask.settings import Live

UNSURE = "unsure"
# A face keeps its label until the probability is this far beyond the threshold; otherwise labels flicker around one.
HYSTERESIS = 0.05
# A face that moved too fast to overlap its last box is matched by the distance of the centres, up to this many box
# sides, if the areas differ by less than this factor.
MAX_DISTANCE, MAX_AREA_RATIO = 1.0, 1.8
MAX_FACES = 256  # tracked; a client whose frames all have the same time would add faces forever


@dataclass
class Face:
    number: int  # from 1; the same in every frame, never reused
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels, where it was last detected
    score: float  # the detector's, 0…1
    probability: float  # of with_mask, in the frame in which it was last detected
    smoothed: float  # the same, averaged over live.smoothing seconds
    label: str  # with_mask, without_mask or unsure, by `smoothed` and the limits of the tracker
    time: float  # seconds, of the frame in which it was last detected
    detected: bool  # in the last frame; if not, it is still expected at its last position


class FaceTracker:
    """Tracked faces, updated with the predictions of one frame after another."""

    def __init__(self, live: Live, limits: tuple[float, float] = (0.5, 0.5)) -> None:
        """`limits` are those of choose_label, low and high; another model has others."""
        self.live = live
        self.limits = limits
        self.faces: list[Face] = []
        self.time = -math.inf
        self.last_number = 0
        self.stale: set[int] = set()  # numbers of the faces whose probability is another model's

    def update(self, predictions: Sequence[Prediction], time: float) -> list[Face]:
        """The tracked faces after a frame at `time` seconds, by number: those detected in it and those still expected.

        They are at most MAX_FACES; beyond that, the ones not seen for the longest time are forgotten first.

        A time before the last frame's means that the video was rewound, and all faces are forgotten. The list is new;
        the next call changes the faces in it.
        """
        if time < self.time:
            self.faces = []
        self.time = time
        self.faces = [face for face in self.faces if time - face.time <= self.live.max_age]
        pairs = match(self.faces, predictions, self.live.iou_threshold)
        for face in self.faces:
            face.detected = False
        for i, j in pairs:
            self.update_face(self.faces[i], predictions[j], time)
        for j in sorted(set(range(len(predictions))) - {j for _, j in pairs}):
            self.faces.append(self.new_face(predictions[j], time))
        if len(self.faces) > MAX_FACES:
            latest = sorted(self.faces, key=lambda face: (face.detected, face.time, face.score))[-MAX_FACES:]
            self.faces = sorted(latest, key=lambda face: face.number)
        return list(self.faces)

    def new_face(self, prediction: Prediction, time: float) -> Face:
        self.last_number += 1
        p = prediction.with_mask
        label = choose_label(None, p, *self.limits)
        return Face(self.last_number, prediction.box, prediction.score, p, p, label, time, True)

    def update_face(self, face: Face, prediction: Prediction, time: float) -> None:
        previous: str | None = face.label
        weight = 1 - math.exp((face.time - time) / self.live.smoothing) if self.live.smoothing else 1.0
        if face.number in self.stale:
            previous, weight = None, 1.0
            self.stale.discard(face.number)
        face.smoothed += weight * (prediction.with_mask - face.smoothed)
        face.label = choose_label(previous, face.smoothed, *self.limits)
        face.box, face.score, face.probability = prediction.box, prediction.score, prediction.with_mask
        face.time, face.detected = time, True

    def reset_smoothing(self) -> None:
        """Keep the faces, but start their smoothed probabilities anew: the previous ones are another model's."""
        self.stale = {face.number for face in self.faces}


def choose_label(previous: str | None, probability: float, low: float, high: float) -> str:
    """The label of a face by its P(with_mask): unsure between `low` and `high`, and with hysteresis around both.

    With `low` equal to `high` no face is unsure; with infinite ones, as conformal.Calibration.limits may return, all.
    """
    if previous == WITH_MASK and probability > max(high - HYSTERESIS, 0):
        return WITH_MASK
    if previous == WITHOUT_MASK and probability < min(low + HYSTERESIS, 1):
        return WITHOUT_MASK
    if probability >= high:
        return WITH_MASK
    return WITHOUT_MASK if probability <= low else UNSURE


def match(tracked: Sequence[Face], predictions: Sequence[Prediction], iou_threshold: float) -> list[tuple[int, int]]:
    """Match tracked faces to predictions, one to one: pairs of indices.

    First by intersection over union of at least `iou_threshold`, then the rest by proximity.
    """
    if not tracked or not predictions:
        return []
    old, new = np.array([face.box for face in tracked], float), np.array([one.box for one in predictions], float)
    iou = intersection_over_union(old, new)
    pairs = assign(np.where(iou >= iou_threshold, iou, 0.0))
    near = proximity(old, new)
    near[[i for i, _ in pairs]] = 0
    near[:, [j for _, j in pairs]] = 0
    return pairs + assign(near)


def assign(similarity: np.ndarray) -> list[tuple[int, int]]:
    """The one-to-one pairs with the largest sum of `similarity` (n, k); a similarity of 0 makes no pair.

    The Hungarian method, by shortest augmenting paths as in Jonker and Volgenant (1987). SciPy has it too, but would
    make up a third of the packages that prediction needs.
    """
    if similarity.shape[0] > similarity.shape[1]:
        return sorted((i, j) for j, i in assign(similarity.T))
    n, k = similarity.shape
    cost = -similarity
    row_of = np.full(k, -1)  # the row that each column is assigned to
    row_price, column_price = np.zeros(n), np.zeros(k)
    for start in range(n):
        distance, previous = np.full(k, np.inf), np.full(k, -1)  # of the shortest path from `start` to each column
        done = np.zeros(k, bool)
        row, column, length = start, -1, 0.0
        while row >= 0:
            step = length + cost[row] - row_price[row] - column_price
            shorter = ~done & (step < distance)
            distance[shorter], previous[shorter] = step[shorter], column
            length = distance[~done].min()
            nearest = np.flatnonzero(~done & (distance == length))
            column = int(nearest[row_of[nearest].argmin()])  # a free one ends the path
            done[column] = True
            row = row_of[column]
        passed = done & (row_of >= 0)
        row_price[row_of[passed]] += length - distance[passed]
        row_price[start] += length
        column_price[done] += distance[done] - length
        while column >= 0:  # along the path, each column takes the row of the column before it
            before = int(previous[column])
            row_of[column] = row_of[before] if before >= 0 else start
            column = before
    return [(int(i), int(j)) for i, j in sorted(zip(row_of, range(k), strict=True)) if i >= 0 and similarity[i, j] > 0]


def proximity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Proximity (n, k) of boxes (n, 4) and (k, 4): 1 at the same centre, 0 from MAX_DISTANCE mean sides on.

    It is also 0 for areas that differ by more than MAX_AREA_RATIO.
    """
    distance = np.linalg.norm((a[:, None, :2] + a[:, None, 2:] - b[None, :, :2] - b[None, :, 2:]) / 2, axis=2)
    side = np.maximum((np.sqrt(areas(a))[:, None] + np.sqrt(areas(b))[None]) / 2, 1e-9)
    ratio = np.maximum(areas(a), 1e-9)[:, None] / np.maximum(areas(b), 1e-9)[None]
    similar = (ratio <= MAX_AREA_RATIO) & (ratio >= 1 / MAX_AREA_RATIO)
    return np.where(similar, np.clip(1 - distance / (MAX_DISTANCE * side), 0, None), 0.0)


def areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
