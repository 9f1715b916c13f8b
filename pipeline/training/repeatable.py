"""What makes a stage that computes with TensorFlow give the same bytes again on the same machine."""

from __future__ import annotations

import keras
import tensorflow as tf


def make_repeatable(seed: int) -> None:
    """Seed Keras, NumPy and TensorFlow and make all ops deterministic, so that a machine reproduces its weights."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
