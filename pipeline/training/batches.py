"""What a training sees and is validated on: shuffled, gathered and augmented images; reproducible from the seed.

A part of the images are counterfactuals: changed copies, with a mask added, an object before the mouth, and so on.
Validation has the same proportion of them as training, so that the best epoch is the best at both.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from face_mask import cores
from pipeline.dataset import packing
from pipeline.training.augmentation import augment

TEACHER_TEMPERATURE = 2.0  # flattens the teacher's probabilities: p^(1/T), normalized
TEACHER_WEIGHT = 0.5  # of the teacher's probabilities; the rest is that of the label


class Images(NamedTuple):
    """The images of a split and their changed copies, each as a packed array, rows of it, and classes of these rows."""

    pixels: np.ndarray  # (n, s, s, 3) uint8, of all splits
    rows: np.ndarray  # (m,) int64
    classes: np.ndarray  # (m,) int64
    changed_pixels: np.ndarray  # (k, s, s, 3) uint8, of all splits
    changed_rows: np.ndarray  # (l,) int64
    changed_classes: np.ndarray  # (l,) int64

    def changed_of_class(self) -> list[np.ndarray]:
        """Rows of the changed copies of each class; of neither class if one has none."""
        rows = [self.changed_rows[self.changed_classes == k] for k in range(2)]
        return rows if all(len(one) for one in rows) else [self.changed_rows[:0]] * 2


def read(split: str, exclude_suspects: bool = False) -> Images:
    """Open the images of a split, on request without those whose label the stage `audit` suspects, and their copies."""
    manifest = packing.read_manifest()
    if exclude_suspects:
        manifest = packing.without_suspects(manifest)
    pixels, copies = packing.open_counterfactuals()
    rows, classes = packing.rows_of(manifest, split)
    copies = copies[copies["source_row"].isin(rows)]
    images = Images(packing.open_images(), rows, classes, pixels, *packing.rows_of(copies, split))
    if not len(images.changed_of_class()[0]):
        print(f"{split}: no changed copies of each class, so none are used (stage counterfactuals)")
    return images


def training_batches(
    images: Images,
    *,
    batch_size: int,
    seed: int,
    changes: dict[str, float],
    counterfactual_prob: float,
    first: int = 0,
) -> tf.data.Dataset:
    """Return an endless dataset of augmented (b, s, s, 3) float32 raw pixels and (b, 2) float32 one-hot classes.

    `changes` are the arguments of `augment`. Every epoch is a new permutation of the rows; its last, incomplete batch
    is dropped. Each image is replaced with `counterfactual_prob` by a changed copy of any image, both classes alike. A
    batch's images and augmentation depend on the seed and its number alone, in whatever order batches are made; the
    dataset starts with number `first`.
    """
    per_epoch = steps_per_epoch(len(images.rows), batch_size)
    of_class = images.changed_of_class()
    probability = counterfactual_prob if len(of_class[0]) else 0.0

    def gather(number: np.int64) -> tuple[np.ndarray, np.ndarray]:
        epoch, step = divmod(int(number), per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(images.rows))
        # Sorted, because sequential reads from a memory map are faster.
        chosen = np.sort(order[step * batch_size : (step + 1) * batch_size])
        pixels, classes = images.pixels[images.rows[chosen]], images.classes[chosen]
        rng = np.random.default_rng([seed, epoch, step + 1])  # [seed, epoch, 0] would be [seed, epoch]
        for i in np.flatnonzero(rng.random(len(classes)) < probability):
            classes[i] = rng.integers(2)
            pixels[i] = images.changed_pixels[rng.choice(of_class[classes[i]])]
        return pixels, np.eye(2, dtype=np.float32)[classes]

    def make(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # `gather` depends on the number alone. TensorFlow would call a stateful function for one batch at a time.
        pixels, one_hot = tf.numpy_function(gather, [number], [tf.uint8, tf.float32], stateful=False)
        pixels.set_shape([None, *images.pixels.shape[1:]])
        one_hot.set_shape([None, 2])
        return augment(pixels, tf.stack([seed, tf.cast(number, tf.int32)]), **changes), one_hot

    # Half of the cores make batches, which on two cores is one at a time: the other computes the training's steps.
    at_once = max(1, cores.available() // 2)
    return tf.data.Dataset.counter(first).map(make, num_parallel_calls=at_once).prefetch(4)


def validation_batches(
    images: Images, *, seed: int, counterfactual_prob: float, batch_size: int = 64
) -> tf.data.Dataset:
    """Return a dataset of the unchanged images in order, and then changed copies: (b, s, s, 3) uint8, (b, 2) float32.

    The copies, of both classes alike and drawn by seed, are the fraction `counterfactual_prob` of all, or as many as
    there are.
    """
    of_class = images.changed_of_class()
    wanted = len(images.rows) * counterfactual_prob / max(1 - counterfactual_prob, 1e-9)
    number = int(min(wanted / 2, *map(len, of_class)))
    rng = np.random.default_rng([seed, 0, 0, 1])
    chosen = np.concatenate([rng.permutation(rows)[:number] for rows in of_class])
    one_hot = np.eye(2, dtype=np.float32)[np.concatenate([images.classes, np.repeat([0, 1], number)])]
    n = len(images.rows)

    def gather(start: np.int64) -> tuple[np.ndarray, np.ndarray]:
        stop = min(int(start) + batch_size, len(one_hot))
        first, second = images.rows[start:stop], chosen[max(start - n, 0) : max(stop - n, 0)]
        return np.concatenate([images.pixels[first], images.changed_pixels[second]]), one_hot[start:stop]

    def make(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, classes = tf.numpy_function(gather, [start], [tf.uint8, tf.float32])
        pixels.set_shape([None, *images.pixels.shape[1:]])
        classes.set_shape([None, 2])
        return pixels, classes

    return tf.data.Dataset.range(0, len(one_hot), batch_size).map(make).prefetch(2)


def with_teacher(batches: tf.data.Dataset, teacher: keras.Model) -> tf.data.Dataset:
    """Mix the one-hot classes (b, 2) of batches of raw pixels with the teacher's probabilities for them: distillation.

    The teacher sees the same augmented images as the model that learns from it, which Beyer et al., "Knowledge
    distillation: A good teacher is patient and consistent", CVPR 2022, found to be what matters.
    """

    def soften(pixels: tf.Tensor, one_hot: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        flat = tf.pow(teacher(pixels, training=False), 1 / TEACHER_TEMPERATURE)
        flat /= tf.reduce_sum(flat, axis=1, keepdims=True)
        return pixels, TEACHER_WEIGHT * flat + (1 - TEACHER_WEIGHT) * one_hot

    return batches.map(soften, num_parallel_calls=1).prefetch(4)


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
