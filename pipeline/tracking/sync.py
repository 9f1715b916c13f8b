"""Update the models' rows from DVC's files, which are authoritative: a cached stage logs nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline.core.values import flatten
from pipeline.tracking import datasets, logged_models
from pipeline.tracking.runs import log_headlines, log_missing, parent_run
from pipeline.tracking.stage_runs import missing_artifacts, model_row
from pipeline.tracking.store import check, failures, reason, tracking_uri, without_credentials, workspace
from pipeline.tracking.values import weights_digest

# Of metrics/KIND_MODEL.json, which is KIND.* in a model's row.
KINDS = ("", "unseen", "hard_cases", "xai", "end_to_end", "live")
DETAILS = (".val.", ".cases.", ".by.")  # parts of hard_cases that have too many numbers for MLflow's columns


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


def sync() -> None:
    """Update each model's row from DVC's files and print a line per model; idempotent."""
    paths = {model: workspace() / "models" / f"{model}.weights.h5" for model in MODELS}
    present = {model: weights_digest(path) for model, path in paths.items() if path.is_file()}
    if not present:
        raise UserError("models/ has no weights: run `dvc repro`, or `dvc checkout` to restore them from the cache")
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
