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
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pipeline.explain.baselines import baselines
from pipeline.explain.logits import logits_model, margin

# Maps b points, (b, s, s, 3) float32, to the gradients at the points, of the same shape, and the margins, (b,). Two
# threads call it at the same time.
Gradients = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

FIRST_STEPS = 8  # denser near the baseline: their points are (k/8)²
BATCH = 16  # points per call, at most
THREADS = 2  # calls at once: TensorFlow runs many of a model's operations on one core
IMAGES_AT_ONCE = 8  # bounds memory: at most this many times 2 (max_steps + 1) gradients of image size
# Errors are relative to the difference, or to this if the difference is smaller, since an error relative to almost 0 is
# meaningless. 1 % of 1 logit changes a probability by at most a quarter of a percentage point.
FLOOR = 1.0


class Attributions(NamedTuple):
    attributions: np.ndarray  # (n, s, s, 3) float32, in logits; positive values are evidence for with_mask
    completeness_error: np.ndarray  # (n,) |sum of the attributions - difference| / max(|difference|, floor)
    steps: np.ndarray  # (n,) int, total over the paths of an image


class Known(NamedTuple):
    """What is known of a point."""

    gradient: np.ndarray  # (s, s, 3)
    margin: float


Key = bytes | tuple[int, float]


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

    def point(self, alpha: float) -> np.ndarray:
        return self.start + np.float32(alpha) * self.difference

    def key(self, alpha: float) -> Key:
        """What the point is known by: an end by its pixels, which other paths may have too."""
        return self.point(alpha).tobytes() if alpha in (0, 1) else (id(self), alpha)

    def add(self, alphas: np.ndarray, known: list[Known]) -> None:
        margins = [one.margin for one in known]
        slopes = [one.gradient.ravel() @ self.difference.ravel() for one in known]
        index = len(self.gradients) + np.arange(len(known))
        self.gradients += [one.gradient for one in known]
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

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)])
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
    starts: dict[Key, Known] = {}
    while True:
        # The new points of several images share calls; a finished image is replaced by the next.
        active |= islice(waiting, IMAGES_AT_ONCE - len(active))
        if not active:
            return Attributions(attributions, error, steps)
        refine([path for paths in active.values() for path in paths if not path.done], gradients, max_steps, starts)
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


def refine(paths: list[Path], gradients: Gradients, max_steps: int, starts: dict[Key, Known]) -> None:
    """Add the new points of every path, those that several have in common computed once.

    These are the ends: an image, if it has two baselines, and a black or white baseline, kept in `starts`.
    """
    new = [path.new_alphas(max_steps) for path in paths]
    keys = [[path.key(alpha) for alpha in alphas] for path, alphas in zip(paths, new, strict=True)]
    points = {
        key: path.point(alpha)
        for path, alphas, of_path in zip(paths, new, keys, strict=True)
        for alpha, key in zip(alphas, of_path, strict=True)
        if key not in starts
    }
    found = starts | dict(zip(points, evaluate(gradients, list(points.values())), strict=True))
    for path, alphas, of_path in zip(paths, new, keys, strict=True):
        path.add(alphas, [found[key] for key in of_path])
        starts |= {key: found[key] for alpha, key in zip(alphas, of_path, strict=True) if alpha == 0}


def evaluate(gradients: Gradients, points: list[np.ndarray]) -> list[Known]:
    """Evaluate `gradients` at any number of points (s, s, 3), in calls of at most BATCH points each."""
    size = -(-len(points) // -(-len(points) // BATCH))  # of all calls about the same
    batches = [np.stack(points[i : i + size]) for i in range(0, len(points), size)]
    with ThreadPoolExecutor(THREADS) as threads:
        found = [pair for both in threads.map(gradients, batches) for pair in zip(*both, strict=True)]
    # Copies, because views would keep whole batches in memory.
    return [Known(gradient.copy(), float(value)) for gradient, value in found]
