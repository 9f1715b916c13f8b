"""Integrated Gradients as they are usually computed: a fixed number of steps, the same for every part of the path.

`loop` is the original's: an image at a time, an eager gradient tape per step, trapezoid rule. `captum` does what
Captum's IntegratedGradients does by default, in TensorFlow: Gauss-Legendre, all steps in calls of `internal_batch_size`
points, here of one traced function. Both start with 50 steps, the default of each. The baseline is black.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

FIRST_STEPS = 50
INTERNAL_BATCH_SIZE = 16


def margin(logits: tf.Tensor) -> tf.Tensor:
    return logits[:, 1] - logits[:, 0]


def loop(model: keras.Model, image: np.ndarray, steps: int) -> np.ndarray:
    """Attributions (s, s, 3) of the margin of a model of logits, to raw pixels."""
    pixels = tf.constant(image, tf.float32)
    gradients = []
    for alpha in np.linspace(0, 1, steps + 1):
        point = (alpha * pixels)[None]
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = margin(model(point))
        gradients.append(tape.gradient(value, point)[0])
    mean = (tf.reduce_mean(gradients[:-1], axis=0) + tf.reduce_mean(gradients[1:], axis=0)) / 2
    return (pixels * mean).numpy()


def batched(model: keras.Model, rule: str) -> Callable[[np.ndarray, int], np.ndarray]:
    """The same in one traced function, by the rule "gausslegendre" or "trapezoid"."""

    @tf.function(reduce_retracing=True)
    def weighted_gradients(points: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            value = margin(model(points))
        return tf.tensordot(weights, tape.gradient(value, points), 1)

    def attribute(image: np.ndarray, steps: int) -> np.ndarray:
        pixels = image.astype(np.float32)
        alphas, weights = points_and_weights(rule, steps)
        total = np.zeros_like(pixels)
        for start in range(0, len(alphas), INTERNAL_BATCH_SIZE):
            part = slice(start, start + INTERNAL_BATCH_SIZE)
            points = alphas[part, None, None, None] * pixels
            total += weighted_gradients(tf.constant(points), tf.constant(weights[part])).numpy()
        return pixels * total

    return attribute


def points_and_weights(rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in 0…1 and their weights, which add up to 1, as float32."""
    if rule == "gausslegendre":
        alphas, weights = np.polynomial.legendre.leggauss(steps)
        alphas, weights = (1 + alphas) / 2, weights / 2
    else:
        alphas, weights = np.linspace(0, 1, steps + 1), np.full(steps + 1, 1 / steps)
        weights[[0, -1]] /= 2
    return alphas.astype(np.float32), weights.astype(np.float32)


def steps_needed(
    attribute: Callable[[np.ndarray, int], np.ndarray], image: np.ndarray, difference: float, error: float, limit: int
) -> int:
    """The first of 50, 100, 200, … steps whose completeness error, relative to the difference, is small enough.

    At most `limit`, also if the error is still larger. As for ours, the error is relative to at least one logit.
    """
    steps = FIRST_STEPS
    while steps < limit and abs(attribute(image, steps).sum() - difference) > error * max(abs(difference), 1.0):
        steps *= 2
    return min(steps, limit)
