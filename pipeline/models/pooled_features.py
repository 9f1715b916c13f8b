"""Features of the frozen pretrained MobileNetV2 backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipeline.models.frozen import frozen

BATCH = 32
THREADS = 2  # batches at once: TensorFlow runs many of the backbone's operations on one core
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


def write_pooled(
    path: Path, forward: Callable[[np.ndarray], np.ndarray], images: np.ndarray, views: Sequence[View]
) -> None:
    """Write the features of (n, s, s, 3) raw pixels 0…255 to a .npy file: (views, n, 1280) float32.

    Each of `views` turns a batch of images into others of the same shape. Memory does not grow with n.
    """
    # Not into a memory map: where the disk is full, writing to one kills the process.
    with path.open("wb") as file, ThreadPoolExecutor(THREADS) as threads:
        for start in tqdm(range(0, len(images), BATCH), desc="features", unit="batch", delay=1):
            batch = images[start : start + BATCH]
            features = np.stack(list(threads.map(lambda view, batch=batch: forward(view(batch)), views)))
            if start == 0:
                shape = (len(views), len(images), features.shape[2])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                first = file.tell()
            for i, of_view in enumerate(features.astype("<f4", copy=False)):
                file.seek(first + (i * len(images) + start) * of_view[0].nbytes)
                file.write(of_view.tobytes())
