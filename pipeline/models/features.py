"""What the frozen backbone makes of pictures, computed once for all who need it."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm


def pooled(backbone: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """(n, 1280) float32: the backbone's features of the given rows of the packed array, averaged over the image."""

    @tf.function(reduce_retracing=True)
    def forward(pixels):
        scaled = tf.cast(pixels, tf.float32) / 127.5 - 1.0
        return tf.reduce_mean(backbone(scaled, training=False), axis=(1, 2))

    starts = tqdm(range(0, len(rows), batch_size), desc="features", unit="batch", delay=1)
    return np.concatenate([forward(tf.constant(images[rows[i : i + batch_size]])).numpy() for i in starts])
