"""Models on disk: the architecture as JSON, the weights as HDF5.

A `.keras` file contains timestamps, so its bytes differ each time; these two files are reproducible.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras

from face_mask import files
from face_mask.errors import UserError

MODELS = Path("models")


def architecture_path(name: str) -> Path:
    return MODELS / f"{name}.json"


def weights_path(name: str) -> Path:
    return MODELS / f"{name}.weights.h5"


def history_path(name: str) -> Path:
    return MODELS / f"history_{name}.csv"


def paths(name: str) -> list[Path]:
    """All files of a trained model: history, architecture, weights."""
    return [history_path(name), architecture_path(name), weights_path(name)]


def save(model: keras.Model, name: str) -> None:
    """Write models/NAME.json and models/NAME.weights.h5, each atomically, weights last; without optimizer and loss."""
    architecture = json.loads(model.to_json())
    architecture.pop("compile_config", None)
    plain = keras.models.model_from_json(json.dumps(architecture))
    plain.set_weights(model.get_weights())
    files.write_text(architecture_path(name), json.dumps(architecture, indent=1) + "\n")
    with files.replacing(weights_path(name)) as aside:
        plain.save_weights(aside)


def load(name: str) -> keras.Model:
    """Load the model saved as NAME. Raises UserError if it is missing or damaged."""
    try:
        model = keras.models.model_from_json(architecture_path(name).read_text(encoding="utf-8"))
        model.load_weights(weights_path(name))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or weights_path(name)} is missing: run `dvc repro train_{name}`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{weights_path(name)} is damaged ({error}): run `dvc checkout`, or `dvc repro --force train_{name}`"
        ) from None
    return model
