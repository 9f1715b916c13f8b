"""Exported models: where their LiteRT files are, and how to load and run one without TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from face_mask import conformal
from face_mask.conformal import Calibration
from face_mask.errors import UserError
from face_mask.quiet import stderr_closed

# A separate folder: the files models/NAME.* belong to the training and are logged with it.
MODELS = Path("models/exported")
FORMATS = ("float32", "float16", "int8")
RESTORE = "run `dvc checkout`, or `dvc repro --force --single-item export`"  # a damaged file
ROUNDING = 1e-3  # by which float16 and int8 outputs may exceed 0…1
# Images at once. More would cost MobileNetV2 up to 30 %, since what its layers pass on no longer fits into the cache;
# a large model is limited by reading its weights: the dense layer of the CNN has 29 MB.
BATCH, LARGE_BATCH = 4, 16
LARGE_BYTES = 10 << 20  # of a file
Classify = Callable[[np.ndarray], np.ndarray]


def calibration_of(content: bytes, path: Path) -> Calibration | None:
    """The calibration in the content of the file `path`, None if there is none. Raises UserError if it is damaged."""
    try:
        return conformal.extract(content)
    except conformal.BadCalibration as error:
        raise UserError(f"{path} is damaged ({error}): {RESTORE}") from None


def path_of(name: str, number_format: str = "float32", folder: Path = MODELS) -> Path:
    """Path of the LiteRT file that the stage `export` writes for a model, in one of FORMATS."""
    return folder / f"{name}.{number_format}.tflite"


def load(path: Path, sha256: str | None = None) -> Classify:
    """Load a LiteRT file as a function from raw pixels (n, s, s, 3) uint8 to P(with_mask), (n,) float32.

    The function runs several images at a time on one core, or one at a time if the file takes no more, as with files
    of earlier versions; the probabilities are the same. It is not thread-safe: on several cores each thread has a
    function of its own, which is faster than a batch on all cores. It holds the whole file, so that it does not matter
    what becomes of the file afterwards. It raises UserError for an output that is not a number in 0…1.
    Raises UserError if the file is missing or damaged, or if `sha256` is given and is not the file's.
    """
    return to_function(read(path, sha256), path)


def read(path: Path, sha256: str | None = None) -> bytes:
    """The content of a LiteRT file. Raises UserError if it is missing or has another digest than `sha256`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro export`") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path} is damaged (its SHA-256 is not {sha256[:12]}…): install the package again, or for a registered"
            " model delete the version and run `python -m pipeline.register`"
        )
    return content


def to_function(content: bytes, path: Path) -> Classify:
    """The function that `load` returns, for the content of the file `path`. Raises UserError if it is damaged."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        with stderr_closed():  # it logs the kernels that it uses
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}): {RESTORE}") from None
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    batch = LARGE_BATCH if len(content) > LARGE_BYTES else BATCH
    batch = batch if inputs["shape_signature"][0] == -1 else 1
    at_once = 1  # images that the interpreter's tensors are for

    def classify(images: np.ndarray) -> np.ndarray:
        nonlocal at_once
        probabilities = np.empty(len(images), np.float32)
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            if len(part) != at_once:  # takes a tenth of a millisecond
                interpreter.resize_tensor_input(inputs["index"], (len(part), *inputs["shape"][1:]))
                interpreter.allocate_tensors()
                at_once = len(part)
            interpreter.set_tensor(inputs["index"], part.astype(inputs["dtype"]))
            interpreter.invoke()
            probabilities[start : start + batch] = interpreter.get_tensor(outputs["index"])[:, 1]
        return checked(probabilities, path)

    return classify


def checked(probabilities: np.ndarray, path: Path) -> np.ndarray:
    """Return the probabilities, without rounding errors beyond 0…1.

    Raises UserError, naming the model's file and the image's place, if one is NaN or not in 0…1.
    """
    valid = (probabilities >= -ROUNDING) & (probabilities <= 1 + ROUNDING)  # NaN is neither
    if not valid.all():
        place = f", that of image {valid.argmin() + 1} of {len(valid)}" if len(valid) > 1 else ""
        raise UserError(f"{path} is damaged (a probability is not a number from 0 to 1{place}): {RESTORE}")
    return probabilities.clip(0, 1)
