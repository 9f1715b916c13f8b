"""Stage `features`: what the pretrained MobileNetV2 makes of every picture, computed once for all who need it.

    python -m pipeline.features

Reads data/split/images.npy and models/mobilenet_backbone.weights.h5; writes data/split/features.npy, of which
train_mobilenet trains its head and audit judges the labels. Parameter: seed, which random weights follow from.

Expect 25 s for 7,553 pictures on 2 cores.
"""

from __future__ import annotations

import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipeline import atomic, errors, params, tracking
from pipeline.data import packing
from pipeline.models import mobilenet, training

BATCH = 64


def pooled(backbone: keras.Model, images: np.ndarray) -> np.ndarray:
    """(n, 1280) float32: the backbone's features of (n, s, s, 3) raw pixels 0…255, averaged over each picture."""

    @tf.function(reduce_retracing=True)
    def forward(pixels):
        scaled = tf.cast(pixels, tf.float32) / 127.5 - 1.0
        return tf.reduce_mean(backbone(scaled, training=False), axis=(1, 2))

    starts = tqdm(range(0, len(images), BATCH), desc="features", unit="batch", delay=1)
    return np.concatenate([forward(tf.constant(images[i : i + BATCH])).numpy() for i in starts])


def main() -> None:
    started = time.time()
    p = params.load()
    tracking.check()
    training.make_repeatable(p.seed)
    images = packing.open_images()
    features = pooled(mobilenet.starting_backbone(images.shape[1]), images)
    with atomic.replacing(packing.FEATURES_PATH) as aside:
        np.save(aside, features)
    tracking.log_stage("features", params={"seed": p.seed}, started=started)
    print(f"features: {len(features)} pictures in {packing.FEATURES_PATH}; {time.time() - started:.1f} s")


if __name__ == "__main__":
    errors.run(main)
