"""Training batches from the memory-mapped images: shuffled, gathered and augmented; reproducible from the seed."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipeline.training.augmentation import augment


def training_batches(
    images: np.ndarray, rows: np.ndarray, classes: np.ndarray, *, batch_size: int, seed: int, changes: dict[str, float]
) -> tf.data.Dataset:
    """Return an endless dataset of augmented (b, s, s, 3) float32 raw pixels and (b, 2) float32 one-hot classes.

    `images` is the whole packed array; `rows` (n,) selects the training images, of `classes` (n,); `changes` are the
    arguments of `augment`. Every epoch is a new permutation of the rows; its last, incomplete batch is dropped. A
    batch's images and augmentation depend on the seed and its number alone, in whatever order batches are made.
    """
    per_epoch = steps_per_epoch(len(rows), batch_size)

    def gather(number: np.int64) -> tuple[np.ndarray, np.ndarray]:
        epoch, step = divmod(int(number), per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        # Sorted, because sequential reads from a memory map are faster.
        chosen = np.sort(order[step * batch_size : (step + 1) * batch_size])
        return images[rows[chosen]], np.eye(2, dtype=np.float32)[classes[chosen]]

    def make(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, one_hot = tf.numpy_function(gather, [number], [tf.uint8, tf.float32])
        pixels.set_shape([None, *images.shape[1:]])
        one_hot.set_shape([None, 2])
        return augment(pixels, tf.stack([seed, tf.cast(number, tf.int32)]), **changes), one_hot

    return tf.data.Dataset.counter().map(make, num_parallel_calls=1).prefetch(4)


def plain_batches(images: np.ndarray, rows: np.ndarray, classes: np.ndarray, batch_size: int = 64) -> tf.data.Dataset:
    """Return a dataset of the unchanged images in order: (b, s, s, 3) uint8 and (b, 2) float32 one-hot classes."""
    starts = tf.data.Dataset.range(0, len(rows), batch_size)

    def gather(start: np.int64) -> tuple[np.ndarray, np.ndarray]:
        part = slice(int(start), int(start) + batch_size)
        return images[rows[part]], np.eye(2, dtype=np.float32)[classes[part]]

    def make(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, one_hot = tf.numpy_function(gather, [start], [tf.uint8, tf.float32])
        pixels.set_shape([None, *images.shape[1:]])
        one_hot.set_shape([None, 2])
        return pixels, one_hot

    return starts.map(make).prefetch(2)


def feature_batches(features: np.ndarray, classes: np.ndarray, *, batch_size: int, seed: int) -> tf.data.Dataset:
    """Return an endless shuffled dataset of (b, d) float32 features and (b, 2) float32 one-hot classes."""
    one_hot = np.eye(2, dtype=np.float32)[classes]
    dataset = tf.data.Dataset.from_tensor_slices((features, one_hot))
    return dataset.shuffle(len(features), seed=seed).repeat().batch(batch_size)


def plain_feature_batches(features: np.ndarray, classes: np.ndarray, batch_size: int = 256) -> tf.data.Dataset:
    """Return a dataset of the features in order: (b, d) float32 and (b, 2) float32 one-hot classes."""
    return tf.data.Dataset.from_tensor_slices((features, np.eye(2, dtype=np.float32)[classes])).batch(batch_size)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Number of complete batches in an epoch, at least one."""
    return max(1, n // batch_size)
