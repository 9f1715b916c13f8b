"""Features of the frozen pretrained MobileNetV2 backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.dataset import packing
from pipeline.models.frozen import frozen

BATCH = 32
THREADS = 2  # views at once: TensorFlow runs many of the backbone's operations on one core
View = Callable[[np.ndarray], np.ndarray]


def forward_function(backbone: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (b, s, s, 3) raw pixels 0…255 to (b, 1280) float32, averaged over image positions."""

    def pooled(pixels):
        scaled = tf.cast(pixels, tf.float32) / 127.5 - 1.0
        return tf.reduce_mean(backbone(scaled, training=False), axis=(1, 2))

    forward = frozen(pooled, tf.TensorSpec((None, *backbone.input_shape[1:]), tf.float32))

    def forward_in_batches(pixels: np.ndarray) -> np.ndarray:
        batches = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
        return np.concatenate([forward(batch)[0] for batch in batches])

    return forward_in_batches


def pool_views(
    batch: np.ndarray, forward: Callable[[np.ndarray], np.ndarray], views: Sequence[View], threads: int = THREADS
) -> np.ndarray:
    """(views, b, 1280) float32: the features of (b, s, s, 3) raw pixels 0…255 in each view.

    Each of `views` turns a batch of images into others of the same shape; `threads` are computed at once.
    """
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(lambda view: forward(view(batch)), views)))


def write_pooled(path: Path, batches: Iterable[np.ndarray], n: int, shard_images: int = 0) -> None:
    """Write the features of n images to a .npy file, (views, n, 1280) float32, from those of their batches in order.

    See packing.write_array for `shard_images`. Memory does not grow with n.
    """
    packing.write_array(path, (batch.astype("<f4", copy=False) for batch in batches), n, shard_images, axis=1)
