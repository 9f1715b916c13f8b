"""Keras: `predict` of one image as the original notebooks call it, the model as a function, and compiled.

python -m bench.peers.keras_predict one_image predict|call|compiled WORKSPACE MODEL CALLS
python -m bench.peers.keras_predict batches predict|compiled WORKSPACE MODEL COUNT
    python -m bench.peers.keras_predict save FILE.keras WORKSPACE
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from bench import worker
from bench.latency import latency

SIZE = 128
BATCH = 128


def load(workspace: str, model: str) -> keras.Model:
    """The trained model of the workspace."""
    folder = Path(workspace) / "models"
    loaded = keras.models.model_from_json((folder / f"{model}.json").read_text())
    loaded.load_weights(folder / f"{model}.weights.h5")
    return loaded


def function(model: keras.Model, way: str) -> Callable[[np.ndarray], np.ndarray]:
    """From images (n, 128, 128, 3) to probabilities (n, 2)."""
    import tensorflow as tf

    if way == "predict":
        return lambda images: model.predict(images, batch_size=BATCH, verbose=0)
    if way == "call":
        return lambda images: model(images, training=False).numpy()
    compiled = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda images: np.concatenate(
        [compiled(tf.constant(images[i : i + BATCH])).numpy() for i in range(0, len(images), BATCH)]
    )


def main(what: str, way: str, workspace: str, model: str, count: str) -> None:
    predict = function(load(workspace, model), way)
    images = np.random.default_rng(0).integers(256, size=(int(count), SIZE, SIZE, 3), dtype=np.uint8)
    if what == "one_image":
        worker.serve(latency(lambda: predict(images[:1]), int(count)))
        return

    def measure() -> float:
        start = time.perf_counter()
        predict(images)
        return len(images) / (time.perf_counter() - start)

    worker.serve(measure)


if __name__ == "__main__":
    if sys.argv[1] == "save":
        load(sys.argv[3], "mobilenet").save(sys.argv[2])
    else:
        main(*sys.argv[1:])
