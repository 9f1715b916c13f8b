"""Grad-CAM (Selvaraju et al. 2017) on the last convolution: an independent, coarse second opinion.

The channels of the last convolution's output are weighted by the mean gradient of the score with respect to them and
summed; positive values are evidence for the class. The map is as coarse as that layer (61×61 in the CNN and 4×4 in
MobileNetV2 at 128 pixels), and unlike Integrated Gradients it has no completeness property.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pipeline.explain.logits import logits_model, margin

BATCH = 32


def grad_cam(model: keras.Model, images: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Compute (n, s, s) float32 maps in 0…1, each divided by its maximum (all 0 if nothing is positive).

    `images` (n, s, s, 3) raw pixels 0…255; `towards` (n,) is 1 to explain with_mask and -1 for without_mask.
    """
    before, after = halves(logits_model(model))

    @tf.function(reduce_retracing=True)
    def traced(pixels, signs):
        features = before(pixels)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            score = signs * margin(after(features))
        weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
        cam = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
        return tf.image.resize(cam, tf.shape(pixels)[1:3])[..., 0]

    parts = [
        traced(tf.constant(images[i : i + BATCH], tf.float32), tf.constant(towards[i : i + BATCH], tf.float32)).numpy()
        for i in range(0, len(images), BATCH)
    ]
    cams = np.concatenate(parts)
    largest = cams.max(axis=(1, 2), keepdims=True)
    return np.divide(cams, largest, out=np.zeros_like(cams), where=largest > 0)


def halves(model: keras.Model) -> tuple[Callable, Callable]:
    """Split the model after its last convolution, including the activation, into two functions.

    The model's own layers must form a chain; if the last convolution is in a nested model (a backbone), that whole
    model belongs to the first half. Raises ValueError if there is no convolution.
    """
    chain = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    positions = [i for i, layer in enumerate(chain) if has_convolution(layer)]
    if not positions:
        raise ValueError(f"{model.name} has no convolution")
    last = positions[-1] + 1
    return applied(chain[:last]), applied(chain[last:])


def has_convolution(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.Model):
        return any(has_convolution(inner) for inner in layer.layers)
    return isinstance(layer, keras.layers.Conv2D)


def applied(layers: list[keras.layers.Layer]) -> Callable:
    """Compose the layers into one function."""

    def function(values):
        for layer in layers:
            values = layer(values)
        return values

    return function
