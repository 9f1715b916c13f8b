"""The proportion of people with a mask, corrected for the errors of the detector and the model, with an interval.

    corrected(450, 150, rates)   # of 600 detected faces, 450 are predicted as with_mask

The model's errors are corrected as by Rogan and Gladen (1978): of the detected faces, the proportion with a mask is
q = (p + specificity - 1) / (sensitivity + specificity - 1), where p is the proportion predicted as with_mask. The
detector misses faces with and without a mask at different rates, so the odds of q are then multiplied by its recall of
without_mask over that of with_mask.

The interval accounts for all five counts. Each has its Wilson interval; the differences that its two ends make to the
estimate are added in squares, separately below and above the estimate (method of variance estimates recovery, Zou and
Donner 2008). With a perfect model and detector it is Wilson's. tests/test_prevalence.py simulates its coverage.

It takes faces as independent. People who stand together are alike, and one person in many frames is one person: then
the interval is too short. And the rates hold for pictures like those that they were measured on, and need not on
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from math import inf, sqrt
from statistics import NormalDist
from typing import Any

Count = tuple[int, int]  # k of n
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Rates:
    """How many of the annotated faces of each class are detected, and how many of those are predicted correctly."""

    min_face: int  # pixels; the smallest side of the faces that were counted, smaller ones being left out
    with_mask_n: int
    with_mask_detected: int
    with_mask_correct: int
    without_mask_n: int
    without_mask_detected: int
    without_mask_correct: int

    def __post_init__(self) -> None:
        """Raise ValueError if a value is not a whole number, or a part is larger than the whole."""
        if any(type(getattr(self, field.name)) is not int for field in fields(self)):
            raise ValueError("a count is not a whole number")
        for correct, detected, n in (self.counts("with_mask"), self.counts("without_mask")):
            if not 0 <= correct <= detected <= n:
                raise ValueError(f"{correct} correct of {detected} detected of {n} faces is impossible")

    def counts(self, label: str) -> tuple[int, int, int]:
        """The numbers of faces of this label that are correct, detected, and annotated."""
        correct, detected, n = (getattr(self, f"{label}_{name}") for name in ("correct", "detected", "n"))
        return correct, detected, n

    @classmethod
    def read(cls, values: Any) -> Rates | None:
        """The rates in a metrics file or card, None if they are missing or invalid: then nothing is corrected."""
        try:
            return cls(**values)
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Proportion:
    """A proportion of people with a mask."""

    n: int  # faces that are counted
    predicted: float | None  # proportion predicted as with_mask; None of no faces
    corrected: float | None = None  # estimate, 0…1; None if it is undefined
    low: float | None = None  # ends of the confidence interval of `corrected`
    high: float | None = None
    confidence: float = 0.95
    reason: str = ""  # why `corrected` is None

    def __str__(self) -> str:
        """Both proportions, or why there is none, in words."""
        if self.predicted is None:
            return self.reason
        found = f"{self.predicted:.1%} with a mask as predicted"
        if self.corrected is None or self.low is None or self.high is None:
            return f"{found}, uncorrected: {self.reason}"
        return (
            f"{found}, {self.corrected:.1%} corrected for missed and misclassified faces"
            f" ({self.confidence:.0%} interval {self.low:.1%} to {self.high:.1%})"
        )


def corrected(with_mask: int, without_mask: int, rates: Rates | None, confidence: float = 0.95) -> Proportion:
    """Estimate the proportion of people with a mask from the numbers of faces predicted as with and without one.

    Undefined without faces or rates, or if the model is no better than chance: sensitivity + specificity <= 1.
    """
    n = with_mask + without_mask
    if not n:
        return Proportion(0, None, confidence=confidence, reason="no face detected")
    predicted = with_mask / n

    def undefined(reason: str) -> Proportion:
        return Proportion(n, predicted, confidence=confidence, reason=reason)

    if rates is None:
        return undefined("the error rates of this model are not known")
    of_mask, of_bare = rates.counts("with_mask"), rates.counts("without_mask")
    if not of_mask[1] or not of_bare[1]:
        return undefined("the error rates of this model were measured without detected faces of both classes")
    counts: list[Count] = [(with_mask, n), of_mask[:2], of_bare[:2], of_mask[1:], of_bare[1:]]
    values = [k / total for k, total in counts]
    value = in_population(values)
    if value is None:
        return undefined("the model was no better than chance where its error rates were measured")
    below = above = 0.0
    for i, (k, total) in enumerate(counts):
        for end in wilson(k, total, confidence):
            changed = in_population([*values[:i], end, *values[i + 1 :]])
            if changed is None:  # the model may be no better than chance
                below = above = inf
            elif changed < value:
                below += (value - changed) ** 2
            else:
                above += (changed - value) ** 2
    value, low, high = (min(max(one, 0.0), 1.0) for one in (value, value - sqrt(below), value + sqrt(above)))
    return Proportion(n, predicted, value, low, high, confidence)


def in_population(values: Sequence[float]) -> float | None:
    """The corrected proportion, which sampling errors can put outside 0…1; None if it is undefined.

    `values` are the proportion predicted, sensitivity, specificity, and the recall of with_mask and of without_mask.
    """
    predicted, sensitivity, specificity, recall_with_mask, recall_without_mask = values
    if sensitivity + specificity <= 1:
        return None
    of_detected = (predicted + specificity - 1) / (sensitivity + specificity - 1)
    with_mask, without_mask = of_detected * recall_without_mask, (1 - of_detected) * recall_with_mask
    # The sum is 0 or less only for a proportion far outside 0…1: it is then 0 or 1 after all.
    return with_mask / (with_mask + without_mask) if with_mask + without_mask > 0 else float(of_detected > 0)


def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def estimate(faces: Iterable[tuple[Box, bool]], rates: Rates | None) -> Proportion:
    """The proportion of people in several images: for each face its box in pixels and whether it is with_mask.

    Faces whose shorter side is below that of the faces that the rates were measured on are left out.
    """
    smallest = rates.min_face if rates else 0
    labels = [with_mask for box, with_mask in faces if shorter_side(box) >= smallest]
    return corrected(sum(labels), len(labels) - sum(labels), rates)


def shorter_side(box: Box) -> float:
    left, top, right, bottom = box
    return min(right - left, bottom - top)
