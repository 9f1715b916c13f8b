"""The data of a model as MLflow's datasets: names are paths in the repository, digests are the MD5s in dvc.lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from face_mask import lockfile
from pipeline.tracking.store import workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

TRAINING = ("data/split/images.npy", "data/split/manifest.csv")
UNSEEN = ("data/unseen/images.npy", "data/unseen/manifest.csv")


def of_training(model: str, *, running: bool) -> list[DatasetInput]:
    """The data that a model was trained on; empty if dvc.lock does not tell.

    `running`: the training is this stage, which dvc.lock does not have yet, and its data are the current ones.
    Otherwise the weights on disk must be those in dvc.lock.
    """
    if running:
        return inputs(TRAINING, current(), "training")
    weights = f"models/{model}.weights.h5"
    path = workspace() / weights
    if not path.is_file() or current().get(weights) != lockfile.file_md5(path):
        return []
    return inputs(TRAINING, read_by(f"train_{model}"), "training")


def of_unseen(*, running: bool) -> list[DatasetInput]:
    """The unseen faces; `running`: the evaluation is this stage, which dvc.lock does not have yet."""
    return inputs(UNSEEN, current() if running else read_by("unseen_eval"), "unseen")


def unseen_of(run: Run) -> list[DatasetInput]:
    """The unseen faces that are among the datasets of a run."""
    return [one for one in run.inputs.dataset_inputs if one.dataset.name in UNSEEN] if run.inputs else []


def log(client: MlflowClient, run: Run, inputs: list[DatasetInput]) -> None:
    """Add datasets to a run; those that it has stay as they are. MLflow cannot remove one."""
    if inputs:
        client.log_inputs(run.info.run_id, inputs)


def current() -> dict[str, str]:
    """The digest of every stage's outputs, by path. Raises UserError if dvc.lock is damaged."""
    return {path: md5 for path, (_, md5) in lockfile.outputs(workspace()).items()}


def read_by(stage: str) -> dict[str, str]:
    """The digest of everything that a stage read, by path. Raises UserError if dvc.lock is damaged."""
    deps = lockfile.read(workspace() / lockfile.LOCK).get(stage, {}).get("deps", ())
    return {dep["path"]: dep["md5"] for dep in deps if "md5" in dep}


def inputs(paths: tuple[str, ...], digests: Mapping[str, str], context: str) -> list[DatasetInput]:
    """Those of the files that have a digest, in MLflow's form; `context` is shown beside their names."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
    return [
        DatasetInput(Dataset(path, digests[path], "local", json.dumps({"uri": path})), tags)
        for path in paths
        if path in digests
    ]
