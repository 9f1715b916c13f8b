"""MobileNetV2 for transfer learning: a backbone with ImageNet weights and a small classification head."""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers

from pipeline.models import imagenet_weights

BACKBONE = Path("models/mobilenet_backbone.weights.h5")


def build_backbone(image_size: int) -> keras.Model:
    """Build MobileNetV2 1.0 without its top, with random weights: (n, s, s, 3) in -1…1 to (n, s/32, s/32, 1280)."""
    return keras.applications.MobileNetV2(
        input_shape=(image_size, image_size, 3), include_top=False, weights=None, name="backbone"
    )


def starting_backbone(image_size: int) -> keras.Model:
    """Build the backbone with the weights written by the stage `pretrained`, or random ones if it wrote none.

    Random weights follow the global seed. Raises UserError if the file is missing or damaged.
    """
    backbone = build_backbone(image_size)
    imagenet_weights.load_into(backbone, BACKBONE)
    return backbone


def build_head(dropout: float) -> keras.Model:
    """Build the head: (n, 1280) pooled features to (n, 2) probabilities of (without_mask, with_mask)."""
    return keras.Sequential(
        [
            keras.Input((1280,), name="features"),
            layers.Dense(128, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(2, activation="softmax", name="probabilities"),
        ],
        name="head",
    )


def assemble(backbone: keras.Model, head: keras.Model, image_size: int) -> keras.Model:
    """Combine both into the classifier: (n, s, s, 3) raw pixels 0…255 to (n, 2) probabilities.

    The backbone runs in inference mode even during training, which keeps the moving statistics of its
    BatchNormalization layers, computed on ImageNet.
    """
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(pixels)
    features = layers.GlobalAveragePooling2D(dtype="float32")(backbone(scaled, training=False))
    return keras.Model(pixels, head(features), name="mobilenet")


def unfreeze(backbone: keras.Model, blocks: int) -> None:
    """Make the last `blocks` of the 17 inverted residual blocks and the final convolution trainable.

    17 unfreezes the first convolution as well. BatchNormalization layers stay frozen.
    """
    first = f"block_{17 - blocks}" if blocks < 17 else "Conv1"
    trainable = False
    for layer in backbone.layers:
        trainable = trainable or layer.name.startswith(first)
        layer.trainable = trainable and not isinstance(layer, layers.BatchNormalization)
