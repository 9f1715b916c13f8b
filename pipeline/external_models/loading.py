"""Load a classifier of any origin, LiteRT, ONNX or Keras, as one function, with the shape of its input."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from face_mask.errors import UserError
from face_mask.evaluate import MAX_SIDE
from face_mask.quiet import stderr_closed

MAX_OUTPUTS = 10  # numbers per image; a detector has thousands
BATCH = 32  # images at a time, where the model leaves it open
REMEDY = "choose a model that classifies one face as with or without a mask"
SUFFIXES = {".tflite": "LiteRT", ".onnx": "ONNX", ".keras": "Keras", ".h5": "Keras HDF5", ".hdf5": "Keras HDF5"}


@dataclass(frozen=True)
class InputShape:
    """The input of a model: a batch of images of one size."""

    batch: int | None  # None: any number
    height: int
    width: int
    channels: int  # 3, or 1 for grey
    channels_first: bool

    def of(self, n: int) -> tuple[int, ...]:
        """The shape of a batch of n images."""
        sides = (self.height, self.width)
        return (n, self.channels, *sides) if self.channels_first else (n, *sides, self.channels)


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run."""

    path: Path
    format: str  # one of the values of SUFFIXES
    shape: InputShape
    dtype: str  # of its input, such as float32
    limits: tuple[float, float] | None  # least and largest value that an integer input can represent
    outputs: int  # numbers per image
    run_batch: Callable[[np.ndarray], np.ndarray]  # float32, in the shape of the input, to (batch, outputs) float32

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Map preprocessed images in the input's layout, (n, …) float32, to (n, outputs) float32."""
        size = self.shape.batch or BATCH
        parts = [np.empty((0, self.outputs), np.float32)]
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            missing = self.shape.batch - len(batch) if self.shape.batch else 0
            padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
            parts.append(self.run_batch(padded)[: len(batch)])
        return np.concatenate(parts)


def load(path: Path, size: tuple[int, int] | None = None, layout: str | None = None) -> LoadedModel:
    """Load the model at `path`; its content decides the format, not its name.

    `size` (height, width) and `layout` (nhwc or nchw) are for a model that leaves them open. No code from the file is
    run: Keras models are loaded in safe mode, without custom objects. Raises UserError if the file is missing or not a
    model, cannot be run, or is not a classifier of single images.
    """
    kind = format_of(path)
    loader = {"LiteRT": load_litert, "ONNX": load_onnx}.get(kind, load_keras)
    return loader(path, kind, size, layout)


def format_of(path: Path) -> str:
    """The format of a model file, one of the values of SUFFIXES. Raises UserError for anything else."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file, for a SavedModel after converting it to .tflite or .onnx")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: name a .tflite, .onnx, .keras or .h5 file") from None
    if start[4:8] == b"TFL3":
        return "LiteRT"
    if start == b"\x89HDF\r\n\x1a\n":
        return "Keras HDF5"
    if start[:2] == b"PK":
        if is_keras(path):
            return "Keras"
    elif path.suffix.lower() == ".onnx":  # has no mark at its start
        return "ONNX"
    expected = SUFFIXES.get(path.suffix.lower())
    if expected:
        raise UserError(
            f"{path} is not a valid {expected} file: it is damaged or has the wrong name; download it again"
        )
    hint = "export it with torch.onnx.export" if path.suffix.lower() in (".pt", ".pth", ".bin") else "convert it"
    raise UserError(f"{path} is not a .tflite, .onnx, .keras or .h5 model: {hint}")


def is_keras(path: Path) -> bool:
    """Whether a file that starts as a zip is a .keras file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def input_shape(shape: Sequence[object], path: Path, size: tuple[int, int] | None, layout: str | None) -> InputShape:
    """Interpret the shape of a model's input, in which what is not a positive integer is open. Raises UserError."""
    dims = [int(one) if isinstance(one, int | np.integer) and one > 0 else None for one in shape]
    if len(dims) != 4:
        raise UserError(f"{path} takes an input of {len(dims)} dimensions, not a batch of images: {REMEDY}")
    first = layout == "nchw" if layout else dims[3] not in (1, 3) and dims[1] in (1, 3)
    channels = dims[1] if first else dims[3]
    if channels is None and layout:
        channels = 3
    if channels not in (1, 3):
        raise UserError(
            f"{path} takes an input of shape {tuple(one or '?' for one in dims)}, in which no axis has 3 channels:"
            f" {'give --layout nhwc or nchw' if None in dims[1:] else REMEDY}"
        )
    sides = dims[2:] if first else dims[1:3]
    height, width = (side or given for side, given in zip(sides, size or (None, None), strict=True))
    if not height or not width:
        raise UserError(f"{path} takes images of any size: give --input-size, such as 224x224")
    at_once = dims[0] or 1
    if max(height, width) > MAX_SIDE or at_once * height * width > BATCH * MAX_SIDE**2:
        raise UserError(
            f"{path} takes {at_once} images of {height}x{width} pixels at once, more than {BATCH} of"
            f" {MAX_SIDE}x{MAX_SIDE}: {REMEDY}"
        )
    return InputShape(dims[0], height, width, channels, first)


def finished(
    path: Path,
    kind: str,
    shape: InputShape,
    dtype: str,
    limits: tuple[float, float] | None,
    run_batch: Callable[[np.ndarray], np.ndarray],
    errors: tuple[type[Exception], ...],
) -> LoadedModel:
    """Run the model once and check its output. Raises UserError.

    A model that leaves the number of images open may still take only one at a time: so two are tried.
    """
    inputs = np.zeros(shape.of(shape.batch or 1), np.float32)
    try:
        outputs = run_batch(inputs)
    except errors as error:
        raise not_runnable(path, error) from None
    if outputs.ndim != 2 or not 1 <= outputs.shape[1] <= MAX_OUTPUTS:
        raise UserError(
            f"{path} gives {outputs.size // len(inputs)} numbers per image, as a detector or feature extractor does,"
            f" not 1 to {MAX_OUTPUTS}: {REMEDY}"
        )
    if shape.batch is None:
        try:
            one_by_one = run_batch(np.zeros(shape.of(2), np.float32)).shape != (2, outputs.shape[1])
        except errors:
            one_by_one = True
        shape = replace(shape, batch=1) if one_by_one else shape
    return LoadedModel(path, kind, shape, dtype, limits, outputs.shape[1], run_batch)


def not_runnable(path: Path, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return UserError(f"{path} cannot be loaded or run ({reason}): export it again, with standard operations alone")


def only_one(tensors: Sequence[Any], path: Path, what: str) -> Any:
    """The only input or output of a model. Raises UserError if there are several."""
    if len(tensors) != 1:
        raise UserError(f"{path} has {len(tensors)} {what}s, not one: {REMEDY}")
    return tensors[0]


def load_litert(path: Path, kind: str, size: tuple[int, int] | None, layout: str | None) -> LoadedModel:
    """Load a LiteRT file. An integer input or output is converted by its scale and zero point, if it has them."""
    from ai_edge_litert.interpreter import Interpreter

    errors = (ValueError, RuntimeError)
    try:
        with stderr_closed():  # it logs the kernels that it uses
            interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
            taken = only_one(interpreter.get_input_details(), path, "input")
            given = only_one(interpreter.get_output_details(), path, "output")
            # The signature has -1 for an open axis where the shape has 1.
            shape = input_shape(list(taken["shape_signature"]), path, size, layout)
            batch = shape.batch or 1
            shape = InputShape(batch, shape.height, shape.width, shape.channels, shape.channels_first)
            interpreter.resize_tensor_input(taken["index"], shape.of(batch))
            interpreter.allocate_tensors()
    except errors as error:
        raise not_runnable(path, error) from None
    dtype = np.dtype(taken["dtype"])
    scale, zero = taken["quantization"]
    limits = None
    if dtype.kind in "iu":
        information = np.iinfo(dtype)
        scale, zero = (scale, zero) if scale else (1.0, 0)
        limits = (scale * (information.min - zero), scale * (information.max - zero))

    def run_batch(inputs: np.ndarray) -> np.ndarray:
        if limits:
            rounded = np.rint(inputs / scale) + zero
            inputs = rounded.clip(information.min, information.max)
        interpreter.set_tensor(taken["index"], inputs.astype(dtype))
        interpreter.invoke()
        outputs = interpreter.get_tensor(given["index"])
        factor, offset = given["quantization"]
        if outputs.dtype.kind in "iu":
            outputs = (outputs.astype(np.float32) - offset) * (factor or 1 / 255)
        return outputs.astype(np.float32).reshape(len(inputs), -1)

    return finished(path, kind, shape, dtype.name, limits, run_batch, errors)


def load_onnx(path: Path, kind: str, size: tuple[int, int] | None, layout: str | None) -> LoadedModel:
    """Load an ONNX file, and what it stores beside itself. Operations are ONNX Runtime's own alone."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented",
             "RuntimeException")  # fmt: skip
    errors = (*(getattr(state, name) for name in names), RuntimeError, ValueError)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise not_runnable(path, error) from None
    taken = only_one(session.get_inputs(), path, "input")
    only_one(session.get_outputs(), path, "output")
    types = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
             "tensor(uint8)": "uint8", "tensor(int8)": "int8"}  # fmt: skip
    if taken.type not in types:
        raise UserError(f"{path} takes {taken.type}, not numbers of pixels: {REMEDY}")
    dtype = np.dtype(types[taken.type])
    limits = (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)) if dtype.kind in "iu" else None

    def run_batch(inputs: np.ndarray) -> np.ndarray:
        rounded = np.rint(inputs).clip(*limits) if limits else inputs
        (outputs,) = session.run(None, {taken.name: rounded.astype(dtype)})
        return np.asarray(outputs, np.float32).reshape(len(inputs), -1)

    return finished(path, kind, input_shape(taken.shape, path, size, layout), dtype.name, limits, run_batch, errors)


def load_keras(path: Path, kind: str, size: tuple[int, int] | None, layout: str | None) -> LoadedModel:
    """Load a .keras or an HDF5 file in safe mode, which refuses Lambda layers and other code."""
    import keras
    import tensorflow as tf

    # Whatever a configuration that does not fit raises while layers are made of it, and damaged weights.
    errors = (ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, RuntimeError, IndexError,
              zipfile.BadZipFile, zlib.error, EOFError, tf.errors.OpError)  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as folder:
            readable = path if kind == "Keras" else modernized(path, Path(folder) / "model.h5")
            model = keras.models.load_model(readable, compile=False, safe_mode=True)
        taken, _ = only_one(model.inputs, path, "input"), only_one(model.outputs, path, "output")
    except errors as error:
        raise not_runnable(path, error) from None
    dtype = str(keras.backend.standardize_dtype(taken.dtype))
    # The batch is the caller's: Keras takes any.
    shape = input_shape([None, *taken.shape[1:]], path, size, layout)
    limits = (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)) if "int" in dtype else None

    def run_batch(inputs: np.ndarray) -> np.ndarray:
        rounded = np.rint(inputs).clip(*limits) if limits else inputs
        given = rounded.astype(dtype)
        if not isinstance(model, keras.Sequential):
            given = keras.tree.pack_sequence_as(model.input, [given])  # perhaps a list of one
        (outputs,) = keras.tree.flatten(model.predict_on_batch(given))
        return np.asarray(outputs, np.float32).reshape(len(inputs), -1)

    return finished(path, kind, shape, dtype, limits, run_batch, errors)


def modernized(path: Path, copy: Path) -> Path:
    """Copy an HDF5 model so that Keras 3 can read it: without arguments that Keras 2 wrote and Keras 3 refuses.

    Keras 2 saved a dtype with each initializer and, in later versions, groups with each DepthwiseConv2D. Raises
    ValueError if the file has weights alone or is damaged.
    """
    import json
    import shutil

    import h5py

    shutil.copyfile(path, copy)
    copy.chmod(0o600)
    with h5py.File(copy, "r+") as file:
        if "model_config" not in file.attrs:
            raise ValueError("it has weights, but no model")
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(without_old_arguments(config))
    return copy


def without_old_arguments(value: Any) -> Any:
    """A Keras 2 configuration, at any depth, without the arguments that `modernized` names."""
    if isinstance(value, list):
        return [without_old_arguments(one) for one in value]
    if not isinstance(value, dict):
        return value
    value = {key: without_old_arguments(one) for key, one in value.items()}
    config = value.get("config")
    if isinstance(config, dict) and "class_name" in value:
        if value["class_name"] == "DepthwiseConv2D":
            config.pop("groups", None)
        if "name" not in config:  # an initializer; layers have names
            config.pop("dtype", None)
    return value
