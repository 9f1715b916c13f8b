"""Update MLflow from DVC's files, which are authoritative: stages that DVC restores from its cache log nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from face_mask import lockfile
from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline.core.values import flatten
from pipeline.tracking import datasets, logged_models
from pipeline.tracking.runs import (
    create_child,
    delete_runs,
    log_headlines,
    log_missing,
    parent_run,
    search_runs,
)
from pipeline.tracking.stage_runs import missing_artifacts, model_row
from pipeline.tracking.store import check, failures, reason, tracking_uri, without_credentials, workspace
from pipeline.tracking.values import as_text, read_params, weights_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Of metrics/KIND_MODEL.json, which is KIND.* in a model's row.
KINDS = ("", "unseen", "hard_cases", "xai", "end_to_end", "live")
OF_MODELS = tuple(f"{model}.json" for model in MODELS)  # how the names of these files end
DETAILS = (".val.", ".cases.", ".by.")  # parts of hard_cases that have too many numbers for MLflow's columns


SHOWN = (".csv", ".html", ".json", ".md", ".png")  # of a stage's outputs, those that become artifacts
LARGEST = 5_000_000  # bytes of an artifact


def used_other_weights(path: str, weights: str) -> bool:
    """Whether, by dvc.lock, the stage that wrote `path` read other weights than those now on disk."""
    lock = workspace() / "dvc.lock"
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {}) if lock.is_file() else {}
    now = hashlib.md5((workspace() / weights).read_bytes(), usedforsecurity=False).hexdigest()
    return any(
        dep["path"] == weights and dep.get("md5") != now
        for stage in stages.values()
        if any(out["path"] == path for out in stage.get("outs", ()))
        for dep in stage.get("deps", ())
    )


def add_stages(client: MlflowClient, parent: Run) -> list[str]:
    """Create the runs that stages in dvc.lock lack below `parent`, from their parameters there and their outputs.

    Returns their names. Left out are the trainings, which are the models' rows, stages without outputs to log, and
    stages whose parameters or logged outputs have changed since. Raises UserError if dvc.lock is damaged.
    """
    tags = {"mlflow.parentRunId": parent.info.run_id}
    runs = search_runs(client, parent.info.experiment_id, tags)
    finished = {run.data.tags.get("stage") for run in runs if run.info.status == "FINISHED"}
    current, added = read_params(), []
    for stage, entry in lockfile.read(workspace() / lockfile.LOCK).items():
        params = as_text(entry.get("params", {}).get("params.yaml", {}))
        outs = [out for out in entry.get("outs", ()) if is_shown(out)]
        same = params.items() <= current.items() and all(map(is_unchanged, outs))
        if not outs or not same or stage in finished or stage.removeprefix("train_") in MODELS:
            continue
        paths = [workspace() / out["path"] for out in outs]
        found = [one for one in paths if one.parent.name == "metrics" and not one.name.endswith(OF_MODELS)]
        metrics = {key: value for path in found for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
        run = create_child(client, parent, stage, {})
        log_missing(client, run, params=params, metrics=flatten(metrics), artifacts=paths)
        delete_runs(client, [run for run in runs if run.data.tags.get("stage") == stage])
        added.append(stage)
    return added


def is_shown(out: dict[str, Any]) -> bool:
    """Whether an output in dvc.lock is a small file that a person reads, or a folder of such files."""
    md5 = out.get("md5", "")
    shown = Path(out["path"]).suffix in SHOWN or md5.endswith(".dir")
    return bool(md5) and shown and out.get("size", 0) <= LARGEST


def is_unchanged(out: dict[str, Any]) -> bool:
    """Whether an output in dvc.lock is in the workspace and the same; of a folder, whether it is there."""
    path = workspace() / out["path"]
    return path.is_dir() if out["md5"].endswith(".dir") else path.is_file() and lockfile.file_md5(path) == out["md5"]


def sync() -> None:
    """Update each model's row from DVC's files, add the runs of other stages, and print what was done; idempotent."""
    paths = {model: workspace() / "models" / f"{model}.weights.h5" for model in MODELS}
    present = {model: weights_digest(path) for model, path in paths.items() if path.is_file()}
    with parent_run(adopt=True) as (client, parent):
        for model, digest in present.items():
            run, n_params, n_metrics = model_row(client, parent, model, digest)
            metrics: dict[str, Any] = {}
            for kind in KINDS:
                name, prefix = (f"{kind}_{model}", f"{kind}.") if kind else (model, "")
                path = f"metrics/{name}.json"
                if not (workspace() / path).is_file():
                    print(f"tracking: {path} is missing and left out: run `dvc repro`")
                elif used_other_weights(path, f"models/{model}.weights.h5"):
                    print(f"tracking: {path} belongs to an earlier {model} and is left out: run `dvc repro`")
                else:
                    found = flatten(json.loads((workspace() / path).read_text(encoding="utf-8")), prefix)
                    detailed = kind == "hard_cases"
                    metrics |= {k: v for k, v in found.items() if not (detailed and any(d in k for d in DETAILS))}
            more = missing_artifacts(client, run, [f"metrics/{model}.json"]) if metrics else []
            n_metrics += log_missing(client, run, metrics=metrics, artifacts=more)[1]
            if any(name.startswith("unseen.") for name in metrics):
                datasets.log(client, run, datasets.of_unseen(running=False))
            log_headlines(client, parent, model, run)
            logged_models.link(client, client.get_run(run.info.run_id))
            added = f"{n_params} parameters, {n_metrics} metrics" if n_params or n_metrics else "already up to date"
            print(f"tracking: {model} in {parent.info.run_name}: {added}")
        if stages := add_stages(client, parent):
            print(f"tracking: runs added from dvc.lock and its files: {', '.join(stages)}")
    if not present:
        raise UserError("models/ has no weights: run `dvc repro`, or `dvc checkout` to restore them from the cache")
    for model in set(MODELS) - set(present):
        print(f"tracking: models/{model}.weights.h5 is missing and left out: run `dvc repro train_{model}`")


def main() -> None:
    check()
    try:
        sync()
    except failures() as error:
        raise UserError(
            f"MLflow at {without_credentials(tracking_uri())} failed ({reason(error)}): fix it, then run this again"
        ) from None
