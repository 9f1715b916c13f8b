"""Integrated Gradients (Sundararajan, Taly and Yan 2017) of the margin between the logits, on raw pixels 0…255.

The attribution of a pixel is its difference from the baseline times the mean of its gradient along the straight path
from baseline to image. The attributions of an image add up to F(image) - F(baseline): completeness. F is known at every
point where the gradient is, so the error of every step of the path is known: the trapezoid rule's integral over the
step minus the actual increase of F. The steps with the largest errors are halved until the total error is small enough.

The models are ReLU networks, whose gradient is discontinuous along the path, most of all near the baseline. Rules of
higher order therefore do not help: with the same number of points, 8 to 64, Gauss-Legendre was no more accurate than
the trapezoid rule, and it cannot reuse its points when their number is doubled. Adaptive halving does help: on five
validation images MobileNetV2 took 40 steps from black on average, and 24 from white, whereas doubling the number of
uniform steps took from 128 to more than 512.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pipeline.explain.baselines import baselines
from pipeline.explain.logits import logits_model, margin

# Maps b points, (b, s, s, 3) float32, to the gradients at the points, of the same shape, and the margins, (b,).
Gradients = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

FIRST_STEPS = 8  # denser near the baseline: their points are (k/8)²
BATCH = 16  # points per call; the size is constant, so the function is traced only once
IMAGES_AT_ONCE = 12  # bounds memory: at most this many times 2 (max_steps + 1) gradients of image size
# Errors are relative to the difference, or to this if the difference is smaller, since an error relative to almost 0 is
# meaningless. 1 % of 1 logit changes a probability by at most a quarter of a percentage point.
FLOOR = 1.0


class Attributions(NamedTuple):
    attributions: np.ndarray  # (n, s, s, 3) float32, in logits; positive values are evidence for with_mask
    completeness_error: np.ndarray  # (n,) |sum of the attributions - difference| / max(|difference|, floor)
    steps: np.ndarray  # (n,) int, total over the paths of an image


class Path:
    """The straight path from a baseline to an image, both (s, s, 3), with the gradients and margins at its points."""

    def __init__(self, start: np.ndarray, image: np.ndarray):
        self.start, self.difference = start, np.asarray(image, np.float32) - start
        self.done = False
        self.alphas: np.ndarray = np.empty(0)  # (m,) ascending; the other arrays are in the same order
        self.margins: np.ndarray = np.empty(0)
        self.slopes: np.ndarray = np.empty(0)  # of the margin along the path
        self.index: np.ndarray = np.empty(0, int)  # of the gradient in `gradients`
        self.gradients: list[np.ndarray] = []  # m of (s, s, 3), in order of computation: sorting them would be slow

    @property
    def steps(self) -> int:
        return len(self.alphas) - 1

    def new_alphas(self, max_steps: int) -> np.ndarray:
        """Midpoints of the steps with the largest errors: the fewest steps that make up half of the total error."""
        if not self.gradients:
            return (np.arange(FIRST_STEPS + 1) / FIRST_STEPS) ** 2
        size = np.abs(self.errors())
        worst = np.argsort(-size, kind="stable")
        total = np.cumsum(size[worst])
        chosen = worst[: np.searchsorted(total, total[-1] / 2) + 1][: max_steps - self.steps]
        return (self.alphas[chosen] + self.alphas[chosen + 1]) / 2

    def points(self, alphas: np.ndarray) -> np.ndarray:
        return self.start + alphas.astype(np.float32)[:, None, None, None] * self.difference

    def add(self, alphas: np.ndarray, gradients: np.ndarray, margins: np.ndarray) -> None:
        slopes = gradients.reshape(len(gradients), -1) @ self.difference.ravel()
        index = len(self.gradients) + np.arange(len(gradients))
        self.gradients += [one.copy() for one in gradients]  # not views, which would keep whole batches in memory
        alphas = np.concatenate([self.alphas, alphas])
        order = np.argsort(alphas, kind="stable")
        self.alphas = alphas[order]
        self.margins = np.concatenate([self.margins, margins])[order]
        self.slopes = np.concatenate([self.slopes, slopes])[order]
        self.index = np.concatenate([self.index, index])[order]

    def errors(self) -> np.ndarray:
        """(m - 1,): error of every step: the trapezoid rule's integral minus the actual increase of the margin."""
        return (self.slopes[1:] + self.slopes[:-1]) / 2 * np.diff(self.alphas) - np.diff(self.margins)

    def attribution(self) -> np.ndarray:
        """(s, s, 3) float32: difference times mean gradient, by the trapezoid rule."""
        widths = np.diff(self.alphas, prepend=0.0, append=1.0)
        mean = np.zeros_like(self.difference)
        for i, weight in zip(self.index, (widths[1:] + widths[:-1]) / 2, strict=True):
            mean += np.float32(weight) * self.gradients[i]
        return self.difference * mean


def gradients_of(model: keras.Model) -> Gradients:
    """Return the gradients of a classifier's margin with respect to raw pixels, as one traced function."""
    logits = logits_model(model)

    @tf.function(reduce_retracing=True)
    def traced(points):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            margins = margin(logits(points, training=False))
        return tape.gradient(margins, points), margins

    def gradients(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, margins = traced(tf.constant(points, tf.float32))
        return found.numpy(), margins.numpy()

    return gradients


def integrated_gradients(
    gradients: Gradients,
    images: np.ndarray,
    *,
    baseline: str = "black_white",
    completeness: float = 0.01,
    max_steps: int = 256,
    floor: float = FLOOR,
) -> Attributions:
    """Compute attributions of the margin to the pixels of `images`, (n, s, s, 3) of any numeric dtype, raw 0…255.

    With two baselines the attribution is the mean of both. A path is refined until its own error is at most
    `completeness` times the image's difference, F(image) minus the mean of F over its baselines, or until it has
    `max_steps` steps, so the returned error is at most `completeness` unless a path ran out of steps.
    """
    if max_steps < FIRST_STEPS:
        raise ValueError(f"max_steps = {max_steps} is too small: at least {FIRST_STEPS}")
    n = len(images)
    attributions, error, steps = np.zeros(images.shape, np.float32), np.zeros(n), np.zeros(n, int)
    waiting = ((i, [Path(start, image) for start in baselines(baseline, image)]) for i, image in enumerate(images))
    active: dict[int, list[Path]] = {}
    while True:
        # The new points of several images share calls; a finished image is replaced by the next.
        active |= islice(waiting, IMAGES_AT_ONCE - len(active))
        if not active:
            return Attributions(attributions, error, steps)
        refine([path for paths in active.values() for path in paths if not path.done], gradients, max_steps)
        for i, paths in list(active.items()):
            difference = np.mean([path.margins[-1] - path.margins[0] for path in paths])
            scale = max(abs(difference), floor)
            errors = [path.errors().sum() for path in paths]
            for path, path_error in zip(paths, errors, strict=True):
                path.done = abs(path_error) <= completeness * scale or path.steps >= max_steps
            if all(path.done for path in paths):
                attributions[i] = sum(path.attribution() for path in paths) / len(paths)
                error[i] = abs(np.mean(errors)) / scale
                steps[i] = sum(path.steps for path in paths)
                del active[i]


def refine(paths: list[Path], gradients: Gradients, max_steps: int) -> None:
    """Add the new points of every path."""
    new = [path.new_alphas(max_steps) for path in paths]
    points = np.concatenate([path.points(alphas) for path, alphas in zip(paths, new, strict=True)])
    found, margins = evaluate(gradients, points)
    cuts = np.cumsum([len(alphas) for alphas in new])[:-1]
    for path, *known in zip(paths, new, np.split(found, cuts), np.split(margins, cuts), strict=True):
        path.add(*known)


def evaluate(gradients: Gradients, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate `gradients` at any number of points, in calls of BATCH points each; the last is padded."""
    found, margins = [], []
    for i in range(0, len(points), BATCH):
        part = points[i : i + BATCH]
        filled = np.concatenate([part, np.repeat(part[-1:], BATCH - len(part), axis=0)])
        at_points, of_points = gradients(filled)
        found.append(at_points[: len(part)])
        margins.append(of_points[: len(part)])
    return np.concatenate(found), np.concatenate(margins)
