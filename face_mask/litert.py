"""Exported models: where their LiteRT files are, and how to load and run one without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from face_mask.errors import UserError
from face_mask.quiet import stderr_closed

# A separate folder: the files models/NAME.* belong to the training and are logged with it.
MODELS = Path("models/exported")
FORMATS = ("float32", "float16", "int8")
Classify = Callable[[np.ndarray], np.ndarray]


def path_of(name: str, number_format: str = "float32", folder: Path = MODELS) -> Path:
    """Path of the LiteRT file that the stage `export` writes for a model, in one of FORMATS."""
    return folder / f"{name}.{number_format}.tflite"


def load(path: Path) -> Classify:
    """Load a LiteRT file as a function from raw pixels (n, s, s, 3) uint8 to P(with_mask), (n,) float32.

    The function runs one image at a time on one core and is not thread-safe. Raises UserError if the file is missing
    or damaged.
    """
    from ai_edge_litert.interpreter import Interpreter

    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro export`")
    try:
        with stderr_closed():  # it logs the kernels that it uses
            interpreter = Interpreter(str(path), num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc checkout`, or `dvc repro --force export`") from None
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify(images: np.ndarray) -> np.ndarray:
        probabilities = np.empty(len(images), np.float32)
        for i, image in enumerate(images):
            interpreter.set_tensor(inputs["index"], image[None].astype(inputs["dtype"]))
            interpreter.invoke()
            probabilities[i] = interpreter.get_tensor(outputs["index"])[0, 1]
        return probabilities

    return classify
