"""A trained model as a LiteRT file: loaded in a tenth of a second, without TensorFlow, and asked about pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline import quiet
from pipeline.errors import UserError

# A folder of their own: what lies beside a model as models/NAME.* belongs to its training, and is logged with it.
MODELS = Path("models/exported")
NAMES = ("cnn", "mobilenet")
FORMATS = ("float32", "float16", "int8")
Classify = Callable[[np.ndarray], np.ndarray]


def path_of(name: str, number_format: str = "float32", folder: Path = MODELS) -> Path:
    """Where the stage `export` leaves the model NAME in one of FORMATS."""
    return folder / f"{name}.{number_format}.tflite"


def weights_of(name: str) -> Path:
    """The weights that the model NAME's files were made of, by whose digest MLflow knows it; UserError without."""
    path = Path("models") / f"{name}.weights.h5"
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro train_{name}`")
    return path


def load(path: Path) -> Classify:
    """A function from (n, s, s, 3) uint8 raw pixels to P(with_mask), (n,) float32; not for two threads at once.

    One picture is judged at a time, on one core, which costs nothing. UserError where the file is missing or damaged.
    """
    from ai_edge_litert.interpreter import Interpreter

    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro export`")
    try:
        with quiet.stderr_closed():  # it says which kernels it takes
            interpreter = Interpreter(str(path), num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc checkout`, or `dvc repro --force export`") from None
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify(images: np.ndarray) -> np.ndarray:
        found = np.empty(len(images), np.float32)
        for i, image in enumerate(images):
            interpreter.set_tensor(takes["index"], image[None].astype(takes["dtype"]))
            interpreter.invoke()
            found[i] = interpreter.get_tensor(gives["index"])[0, 1]
        return found

    return classify
