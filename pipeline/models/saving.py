"""Models on disk: the architecture as JSON, the weights as HDF5.

A `.keras` file contains timestamps, so its bytes differ each time; these two files are reproducible.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import keras
import numpy as np
from keras.src.saving import saving_lib

from face_mask import files, lockfile
from face_mask.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

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


def save(model: keras.Model, name: str, history: pd.DataFrame | None = None) -> None:
    """Write models/NAME.json, models/NAME.weights.h5 and, if given, the history; without optimizer and loss.

    The model that is loaded computes in float32, in whatever precision it was trained (fit.computing_in).

    No file is replaced before all are written; the weights come last. Raises UserError if a weight is not finite.
    """
    check_finite(model, name)
    text = model.to_json().replace('"mixed_bfloat16"', '"float32"')
    # Also of a model within it: MobileNetV2's head was trained alone before.
    architecture = json.loads(text, object_hook=lambda one: {k: v for k, v in one.items() if k != "compile_config"})
    plain = keras.models.model_from_json(json.dumps(architecture))
    plain.set_weights(model.get_weights())
    encoded = encode(plain)
    text = json.dumps(architecture, indent=1) + "\n"
    with files.replacing(weights_path(name)) as weights:
        weights.write_bytes(encoded)
        with files.replacing(architecture_path(name)) as structure:
            structure.write_text(text, encoding="utf-8", newline="\n")
            if history is not None:
                files.write_csv(history_path(name), history)


def load(name: str) -> keras.Model:
    """Load the model saved as NAME.

    Raises UserError if it is missing or damaged, is not the one in dvc.lock, or has weights that are not finite.
    """
    try:
        for path in (architecture_path(name), weights_path(name)):
            lockfile.check(path)
        model = keras.models.model_from_json(architecture_path(name).read_text(encoding="utf-8"))
        model.load_weights(weights_path(name))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or weights_path(name)} is missing: run `dvc repro train_{name}`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{weights_path(name)} is damaged ({error}): run `dvc checkout`, or `dvc repro --force train_{name}`"
        ) from None
    check_finite(model, name)
    return model


def check_finite(model: keras.Model, name: str) -> None:
    """Raise UserError if a weight is NaN or infinite."""
    for variable in model.weights:
        if not np.isfinite(variable.numpy()).all():
            raise UserError(
                f"{weights_path(name)}: the weights of {variable.path} are not finite: run"
                f" `dvc repro --force train_{name}`, with a lower learning rate if that does not help"
            )


class MemoryStore(saving_lib.H5IOStore):
    """Keras' store of weights in a file that exists in memory only, with the layout of one on disk.

    HDF5 must not write to the disk itself: where that is full, its errors have no cause, and closing the file when the
    interpreter ends crashes it. Keras can write to a BytesIO, but the bytes differ from those of a file on disk.
    """

    def _get_h5_file(self, path_or_io, mode=None):
        return h5py.File.in_memory()


def encode(model: keras.Model) -> bytes:
    """Return the content of the `.weights.h5` file that `model.save_weights` writes."""
    store = MemoryStore("model.weights.h5", mode="w")
    saving_lib._save_state(model, store, assets_store=None, inner_path="", visited_saveables=set())
    store.h5_file.flush()
    encoded = store.h5_file.id.get_file_image()
    store.close()
    return encoded
