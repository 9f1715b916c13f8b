"""Prediction of packed images by a Keras model."""

from __future__ import annotations

import keras
import numpy as np

from face_mask.errors import UserError


def predict(model: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Return P(with_mask), (n,) float64, of the given rows (n,) of the packed array.

    Raises UserError if one is not finite.
    """
    import tensorflow as tf

    forward = tf.function(lambda pixels: model(pixels, training=False)[:, 1], reduce_retracing=True)
    parts = [forward(tf.constant(images[rows[i : i + batch_size]])).numpy() for i in range(0, len(rows), batch_size)]
    probabilities = np.concatenate(parts).astype(np.float64)
    if not np.isfinite(probabilities).all():
        raise UserError(
            f"{model.name} predicts probabilities that are not finite: its weights are damaged or its training"
            f" diverged: run `dvc checkout`, or `dvc repro --force train_{model.name}`"
        )
    return probabilities
