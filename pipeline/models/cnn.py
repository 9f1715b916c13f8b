"""The small CNN that is trained from scratch; its architecture is prescribed."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers, ops


def build(image_size: int, dropout: float) -> keras.Model:
    """Build two convolutions, two hidden dense layers and a softmax over (without_mask, with_mask).

    Maps (n, image_size, image_size, 3) raw pixels 0…255, of any numeric dtype, to (n, 2) float32 probabilities. It has
    7,400,706 parameters at an image size of 128.
    """
    return keras.Sequential(
        [
            keras.Input((image_size, image_size, 3), name="pixels"),
            # -1…1: zero-centred inputs, as LeCun et al. (1998, 4.3) advise; not compared with 0…1.
            layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(64, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(2, activation="softmax", name="probabilities", dtype="float32"),
        ],
        name="cnn",
    )


def for_training(model: keras.Model) -> keras.Model:
    """Return the same function of the same weights as the model of `build`, in a form that trains faster.

    The bias is added and ReLU applied after the pooling, which gives the same values, also in floating point, with a
    quarter of the operations. What matters more is that the convolution has no bias of its own: oneDNN 3.7 takes
    several times as long for the gradient of a kernel if it computes that of the bias as well.
    """
    scaling, first, first_pooling, second, second_pooling, *dense = model.layers
    pairs = [(first, first_pooling), (second, second_pooling)]
    return keras.Sequential(
        [keras.Input(model.input_shape[1:]), scaling, *(PooledConvolution(*pair) for pair in pairs), *dense],
        name=model.name,
    )


class PooledConvolution(layers.Layer):
    """relu(pooling(kernel * x) + bias), which is pooling(relu(kernel * x + bias)), with a convolution's weights."""

    def __init__(self, convolution: layers.Conv2D, pooling: layers.MaxPooling2D):
        super().__init__(dtype=convolution.dtype_policy)
        self.convolution, self.pooling = convolution, pooling

    def call(self, x: tf.Tensor) -> tf.Tensor:
        pooled = self.pooling(ops.conv(x, self.convolution.kernel))
        return tf.nn.relu(tf.nn.bias_add(pooled, ops.convert_to_tensor(self.convolution.bias)))
