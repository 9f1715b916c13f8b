"""Keras: image_dataset_from_directory, into one array, or into `predict` of a model.

python -m bench.peers.keras_files FOLDER
python -m bench.peers.keras_files FOLDER WORKSPACE MODEL
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import keras
import numpy as np

from bench import worker
from bench.peers import keras_predict

SIZE = 128


def dataset(folder: Path):
    """The images of a folder in batches, float32 0…255, decoded by as many threads as there are cores."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False  # its thread would end late, and the time with it
    images = keras.utils.image_dataset_from_directory(
        folder / "images", labels=None, image_size=(SIZE, SIZE), batch_size=128, shuffle=False, verbose=False
    )
    return images.with_options(options)


def measure() -> float:
    start = time.perf_counter()
    images = np.concatenate([batch.numpy().astype(np.uint8) for batch in dataset(Path(sys.argv[1]))])
    return len(images) / (time.perf_counter() - start)


def measure_predict() -> float:
    start = time.perf_counter()
    probabilities = model.predict(dataset(Path(sys.argv[1])), verbose=0)
    return len(probabilities) / (time.perf_counter() - start)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        model = keras_predict.load(*sys.argv[2:])
        worker.serve(measure_predict)
    else:
        worker.serve(measure)
