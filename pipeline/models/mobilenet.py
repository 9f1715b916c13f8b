"""MobileNetV2 by transfer: a backbone with ImageNet weights and a small head of our own."""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers

from pipeline.models import pretrained

BACKBONE = Path("models/mobilenet_backbone.weights.h5")


def build_backbone(image_size: int) -> keras.Model:
    """MobileNetV2 1.0 without its top and without weights: (n, s, s, 3) in -1…1 to (n, s/32, s/32, 1280)."""
    return keras.applications.MobileNetV2(
        input_shape=(image_size, image_size, 3), include_top=False, weights=None, name="backbone"
    )


def starting_backbone(image_size: int) -> keras.Model:
    """The backbone with the weights that stage `pretrained` left, or random ones, of the seed set, where it left none.

    UserError where the file is missing or damaged.
    """
    backbone = build_backbone(image_size)
    pretrained.load_into(backbone, BACKBONE)
    return backbone


def build_head(dropout: float) -> keras.Model:
    """(n, 1280) pooled features to (n, 2) probabilities of (without_mask, with_mask)."""
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
    """The whole classifier: (n, s, s, 3) raw pixels 0…255 to (n, 2) probabilities.

    The backbone is called in inference mode even while training: the moving statistics of its BatchNormalization
    layers come from ImageNet and stay as they are.
    """
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    features = layers.GlobalAveragePooling2D()(backbone(scaled, training=False))
    return keras.Model(pixels, head(features), name="mobilenet")


def unfreeze(backbone: keras.Model, blocks: int) -> None:
    """Make the last `blocks` of the 17 inverted-residual blocks and the final convolution trainable, 17 all of them.

    BatchNormalization layers stay frozen everywhere.
    """
    first = f"block_{17 - blocks}" if blocks < 17 else "Conv1"
    trainable = False
    for layer in backbone.layers:
        trainable = trainable or layer.name.startswith(first)
        layer.trainable = trainable and not isinstance(layer, layers.BatchNormalization)
