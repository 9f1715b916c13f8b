"""Prediction of packed images by a Keras model."""

from __future__ import annotations

import keras
import numpy as np


def predict(model: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Return P(with_mask), (n,) float64, of the given rows (n,) of the packed array."""
    import tensorflow as tf

    forward = tf.function(lambda pixels: model(pixels, training=False)[:, 1], reduce_retracing=True)
    parts = [forward(tf.constant(images[rows[i : i + batch_size]])).numpy() for i in range(0, len(rows), batch_size)]
    return np.concatenate(parts).astype(np.float64)
