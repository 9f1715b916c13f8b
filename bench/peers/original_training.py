"""The original's recipe: all images in one float64 array, ImageDataGenerator, Adam with learning rate 0.001, `fit`.

The pixels are divided by 255, so the array has eight bytes per value. It holds the training images alone: the arrays of
the whole data set and their copies in train_test_split, which the original has as well, are left out in its favour.
ImageDataGenerator has the geometric changes and changes of colour, but no blur and no occlusion.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from PIL import Image

from bench import training_worker
from bench.peers.keras_training import CLASSES, SIDE, build_cnn, build_mobilenet
from bench.training_worker import Phase


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for index, label in enumerate(CLASSES):
        for path in sorted((folder / label).iterdir()):
            images.append(np.array(Image.open(path).convert("RGB").resize((SIDE, SIDE))))
            labels.append(index)
    return np.array(images) / 255.0, keras.utils.to_categorical(labels, 2)


def way(folder: Path, model: keras.Model, batch_size: int, epochs: int) -> list[Phase]:
    x_train, y_train = read(folder / "train")
    x_val, y_val = read(folder / "val")
    generator = ImageDataGenerator(
        rotation_range=20,
        width_shift_range=0.1,
        height_shift_range=0.1,
        shear_range=8,
        zoom_range=0.2,
        channel_shift_range=0.15,
        horizontal_flip=True,
        fill_mode="nearest",
    )
    batches = generator.flow(x_train, y_train, batch_size=batch_size, shuffle=True, seed=0)
    model.compile(keras.optimizers.Adam(0.001), "categorical_crossentropy", metrics=["accuracy"])

    def step() -> object:
        return model.train_on_batch(*next(batches))

    def accuracy() -> float:
        model.reset_metrics()
        return float(model.evaluate(x_val, y_val, batch_size=64, verbose=0, return_dict=True)["accuracy"])

    steps = max(1, len(x_train) // batch_size)
    return [Phase("train", batch_size, steps, epochs, lambda: next(batches), step, accuracy)]


def without_rescaling(model: keras.Model) -> keras.Model:
    """The same model for pixels that are already divided by 255."""
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Rescaling(255.0), model])


def original_cnn(folder: Path) -> list[Phase]:
    return way(folder, without_rescaling(build_cnn()), 64, 60)


def original_mobilenet(folder: Path) -> list[Phase]:
    return way(folder, without_rescaling(build_mobilenet(folder / "backbone.weights.h5")), 32, 40)


WAYS = {"original_cnn": original_cnn, "original_mobilenet": original_mobilenet}

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    training_worker.main(WAYS)
