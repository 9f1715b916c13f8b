"""Keras as its guides show it: image_dataset_from_directory, preprocessing layers in the input pipeline, and `fit`.

`keras_cnn` decodes every image in every epoch. `keras_cnn_cached` follows the guide's advice on performance: decoded
images are kept in memory (as uint8), shuffled as images, and batches are prefetched. The changes are of the same kinds
and strengths as ours, without low resolution and JPEG compression. MobileNetV2 is frozen and runs on every batch.
"""

from __future__ import annotations

import os
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

from bench import training_worker
from bench.training_worker import Phase

SIDE = 128
CLASSES = ["without_mask", "with_mask"]


def augmentation() -> keras.Sequential:
    return keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(20 / 360),
            layers.RandomZoom((-0.2, 0.2)),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomShear(0.14, 0.14),
            layers.RandomBrightness(0.3),
            layers.RandomContrast(0.3),
            layers.RandomSaturation((0.4, 0.6)),
            layers.RandomGaussianBlur(0.3, kernel_size=5, sigma=1.0),
            layers.RandomErasing(0.2, scale=(0.04, 0.16), fill_value=127.0),
        ]
    )


def read(folder: Path, batch_size: int | None, *, shuffle: bool) -> tf.data.Dataset:
    return keras.utils.image_dataset_from_directory(
        folder,
        class_names=CLASSES,
        label_mode="categorical",
        image_size=(SIDE, SIDE),
        batch_size=batch_size,
        shuffle=shuffle,
        seed=0,
        verbose=False,
    )


def training_batches(folder: Path, batch_size: int, *, cached: bool) -> tf.data.Dataset:
    if cached:
        images = read(folder, None, shuffle=False).map(lambda x, y: (tf.cast(x, tf.uint8), y)).cache()
        dataset = images.shuffle(10_000).batch(batch_size, drop_remainder=True)
    else:
        dataset = read(folder, batch_size, shuffle=True)
    augment = augmentation()
    augmented = dataset.map(
        lambda x, y: (augment(tf.cast(x, tf.float32), training=True), y), num_parallel_calls=os.cpu_count()
    ).prefetch(4)
    # Autotuning would fill its buffers while others are measured, and then be timed taking batches out of them.
    options = tf.data.Options()
    options.autotune.enabled = False
    return augmented.with_options(options)


def build_cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.25),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.25),
            layers.Dense(2, activation="softmax"),
        ]
    )


def build_mobilenet(weights: Path) -> keras.Model:
    """A new head on the frozen backbone; `weights` are ImageNet's in the file of the stage `pretrained`."""
    backbone = keras.applications.MobileNetV2(
        input_shape=(SIDE, SIDE, 3), include_top=False, weights=None, name="backbone"
    )
    backbone.load_weights(weights)
    backbone.trainable = False
    pixels = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    x = layers.GlobalAveragePooling2D()(backbone(x, training=False))
    x = layers.Dropout(0.25)(layers.Dense(128, activation="relu")(x))
    return keras.Model(pixels, layers.Dense(2, activation="softmax")(x))


def way(folder: Path, model: keras.Model, batch_size: int, epochs: int, *, cached: bool) -> list[Phase]:
    train = training_batches(folder / "train", batch_size, cached=cached)
    val = read(folder / "val", 64, shuffle=False).cache()
    n = sum(1 for _ in (folder / "train").glob("*/*"))
    model.compile(keras.optimizers.Adam(0.001), "categorical_crossentropy", metrics=["accuracy"])
    iterator = iter(train.repeat())
    model.make_train_function()

    def step() -> dict[str, float]:
        return {key: float(value) for key, value in model.train_function(iterator).items()}  # what `fit` calls

    def accuracy() -> float:
        model.reset_metrics()
        return float(model.evaluate(val, verbose=0, return_dict=True)["accuracy"])

    return [Phase("train", batch_size, max(1, n // batch_size), epochs, lambda: next(iterator), step, accuracy)]


def keras_cnn(folder: Path) -> list[Phase]:
    return way(folder, build_cnn(), 64, 60, cached=False)


def keras_cnn_cached(folder: Path) -> list[Phase]:
    return way(folder, build_cnn(), 64, 60, cached=True)


def keras_mobilenet(folder: Path) -> list[Phase]:
    return way(folder, build_mobilenet(folder / "backbone.weights.h5"), 32, 40, cached=True)


WAYS = {"keras_cnn": keras_cnn, "keras_cnn_cached": keras_cnn_cached, "keras_mobilenet": keras_mobilenet}

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    training_worker.main(WAYS)
