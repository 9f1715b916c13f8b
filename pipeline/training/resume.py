"""The state of a training on the disk, so that an interrupted one continues after its last finished epoch.

The result is that of an undisturbed training, bit for bit: the state has every variable of the model, with the random
state of Dropout, and of the optimizer, the best weights and the history; batches depend on their number alone.
keras.callbacks.BackupAndRestore keeps only the weights, the optimizer and the number of the epoch.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from face_mask import files, lockfile
from face_mask.errors import printable
from pipeline.core import params
from pipeline.tracking import snapshot
from pipeline.tracking.store import workspace
from pipeline.tracking.values import as_text, selected

FOLDER = Path("models/.resume")  # Git ignores it, and it is no stage's output


class Checkpoint:
    """The state of the training of model `name` after `epochs` epochs, from models/.resume/NAME.npz.

    Without the file, or if it is damaged or of other inputs, parameters, modules or library versions than those that
    the stage train_NAME declares in dvc.yaml, `epochs` is 0; the latter two are reported in one line. Where dvc.yaml
    does not declare the stage, nothing is read or written. `also` are files on which the training depends beside.
    """

    def __init__(self, name: str, also: Sequence[Path] = ()):
        self.name, self.path = name, FOLDER / f"{name}.npz"
        self.digest = declared_digest(f"train_{name}", also)
        self.progress: dict[str, Any] = {}
        self.variables: list[np.ndarray] = []
        self.best_weights: list[np.ndarray] = []
        if self.digest and self.path.exists():
            self.read()

    @property
    def epochs(self) -> int:
        return len(self.progress.get("history", ()))

    def read(self) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                progress = json.loads(str(stored["progress"]))
                if progress.pop("digest") != self.digest:
                    print(f"{self.name}: {self.path} is of other data, parameters or code: training from epoch 1")
                    return
                variables, best_weights = (
                    [stored[f"{kind}{i}"] for i in range(progress.pop(kind))] for kind in ("variable", "best")
                )
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            print(f"{self.name}: {self.path} is damaged ({printable(str(error))}): training from epoch 1")
            return
        self.progress, self.variables, self.best_weights = progress, variables, best_weights
        print(f"{self.name}: continuing after epoch {self.epochs}, from {self.path}")

    def restore(self, model: keras.Model) -> None:
        """Give the variables of a compiled model and of its optimizer their values."""
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(variables_of(model), self.variables, strict=True):
            variable.assign(value)
        self.variables = []

    def save(self, model: keras.Model, best_weights: list[np.ndarray], progress: dict[str, Any]) -> None:
        """Replace the file; if the disk has no space for it, the old one stays, and a line says so.

        Raises UserError if the stage is no longer wanted: see pipeline/tracking/snapshot.py.
        """
        if not self.digest:
            return
        groups = {"variable": [variable.numpy() for variable in variables_of(model)], "best": best_weights}
        header = {**progress, "digest": self.digest, **{kind: len(group) for kind, group in groups.items()}}
        arrays = {f"{kind}{i}": array for kind, group in groups.items() for i, array in enumerate(group)}
        try:
            with files.replacing(self.path) as temporary, temporary.open("wb") as file:
                np.savez(file, progress=np.array(json.dumps(header)), **arrays)
        except OSError as error:
            lost = "if interrupted now, the training would lose this epoch"
            print(f"{self.name}: {self.path}: {error.strerror}: {lost}")

    def clear(self) -> None:
        """Remove the file: the training is complete and saved."""
        files.clear_leftovers(self.path)
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # missing, or with another model's file
            FOLDER.rmdir()


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """Every variable of a compiled model, also the random state of Dropout, and of its optimizer."""
    return [*model.variables, *model.optimizer.variables]


def declared_digest(stage: str, also: Sequence[Path] = ()) -> str:
    """The digest of all on which a stage depends by dvc.yaml, of the files `also`, and of the libraries.

    Empty if the stage is not declared.
    """
    values = params.read(workspace() / params.PATH)
    declared = snapshot.declaration(stage, values)
    if not declared:
        return ""
    found = sorted(selected(as_text(values), declared.get("params", [])).items())
    recorded = lockfile.outputs(workspace())  # of large files, which need not be read again: see lockfile.check_inputs
    for dep in [*declared.get("deps", []), Path(__file__)]:
        path = workspace() / dep
        for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if one.is_file() and "__pycache__" not in one.parts:
                found.append((one.name, recorded[dep][1] if dep in recorded else lockfile.file_md5(one)))
    found += [(path.name, lockfile.file_md5(path)) for path in also]
    found += [(library.__name__, library.__version__) for library in (keras, np, tf)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
