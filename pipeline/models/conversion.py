"""Conversion of Keras models to LiteRT and ONNX. All map raw pixels to probabilities of (without_mask, with_mask)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from face_mask.litert import checked
from face_mask.quiet import stderr_closed
from pipeline.models import frozen


def litert(model: keras.Model, number_format: str, calibration: np.ndarray) -> bytes:
    """Convert the model to a LiteRT file for one image (1, s, s, 3), or after resizing its input for n at once.

    `number_format` is float32; float16, which stores weights in half precision and computes in float32; or int8, for
    both weights and computation, with activation ranges calibrated on `calibration`, (n, s, s, 3) uint8 training
    images. int8 takes uint8 pixels, the others float32; all return float32 probabilities.
    """
    # Silences two warnings: the converter API is deprecated, and int8 has no ranges for its input but calibrated ones.
    logging.getLogger("absl").setLevel(logging.ERROR)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen_function(model, batch=None)])
    if number_format != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if number_format == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if number_format == "int8":
        converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with stderr_closed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return converter.convert()


def onnx(model: keras.Model) -> bytes:
    """Convert the model to an ONNX file: input `pixels` (n, s, s, 3) float32, output `probabilities` (n, 2)."""
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    pixels = (tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="pixels"),)

    @tf.function(input_signature=pixels)
    def forward(pixels):
        return {"probabilities": model(pixels, training=False)}

    converted, _ = tf2onnx.convert.from_function(forward, pixels, opset=17)
    name_by_position(converted.graph)
    return converted.SerializeToString(deterministic=True)


def add_property(encoded: bytes, key: str, value: str) -> bytes:
    """The ONNX file with a metadata property; the same bytes for the same input."""
    import onnx

    model = onnx.load_model_from_string(encoded)
    onnx.helper.set_model_props(model, {key: value})
    return model.SerializeToString(deterministic=True)


def name_by_position(graph: Any) -> None:
    """Rename an ONNX graph's nodes, tensors and weights, in place, by their position in it.

    tf2onnx numbers them in the arbitrary order of its sets, so two conversions of a model would be different files.
    """
    names = {one.name: one.name for one in (*graph.input, *graph.output)}
    weights = {one.name: one for one in graph.initializer}
    used: list[Any] = []
    for i, node in enumerate(graph.node):
        for name in node.input:
            if name in weights and name not in names:
                names[name] = f"weights_{len(used)}"
                used.append(weights[name])
        for j, name in enumerate(node.output):
            names.setdefault(name, f"{node.op_type}_{i}_{j}")
        node.name, node.doc_string = f"{node.op_type}_{i}", ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for one in used:
        one.name = names[one.name]
    for one in (*graph.input, *graph.output):
        one.type.tensor_type.shape.dim[0].dim_param = "n"
    del graph.initializer[:]
    graph.initializer.extend(used)
    del graph.value_info[:]  # intermediate shapes, under the old names; they can be inferred from the graph
    graph.doc_string = ""


def frozen_function(model: keras.Model, batch: int | None) -> Any:
    """Return the model as a concrete function with constant weights: LiteRT's converter omits variables."""
    spec = tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, name="pixels")
    return frozen.concrete(lambda pixels: model(pixels, training=False), spec)


def load_onnx(encoded: bytes, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (n, s, s, 3) uint8 raw pixels to P(with_mask), (n,) float32, like litert.load.

    It runs the images one at a time on one core, and names the file `path` in the UserError for an output that is not
    a number in 0…1.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(encoded, options, providers=["CPUExecutionProvider"])

    def classify(images: np.ndarray) -> np.ndarray:
        y_prob = [session.run(None, {"pixels": image[None].astype(np.float32)})[0][0, 1] for image in images]
        return checked(np.array(y_prob, np.float32), path)

    return classify
