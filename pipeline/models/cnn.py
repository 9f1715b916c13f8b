"""The small CNN that is trained from scratch; its architecture is prescribed."""

from __future__ import annotations

import keras
from keras import layers


def build(image_size: int, dropout: float) -> keras.Model:
    """Build two convolutions, two hidden dense layers and a softmax over (without_mask, with_mask).

    Maps (n, image_size, image_size, 3) raw pixels 0…255, of any numeric dtype, to (n, 2) float32 probabilities. It has
    7,400,706 parameters at an image size of 128.
    """
    return keras.Sequential(
        [
            keras.Input((image_size, image_size, 3), name="pixels"),
            # -1…1: zero-centred inputs, as LeCun et al. (1998, 4.3) advise; not compared with 0…1.
            layers.Rescaling(1 / 127.5, offset=-1.0),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(64, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(2, activation="softmax", name="probabilities"),
        ],
        name="cnn",
    )
