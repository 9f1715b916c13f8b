"""Bring the models' rows up to what DVC's files say: they are the truth, and a cached stage logs nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from pipeline.errors import UserError
from pipeline.tracking.figures import flatten, weights_digest
from pipeline.tracking.runs import fill, opened
from pipeline.tracking.stages import MODELS, missing, model_row
from pipeline.tracking.store import check, failures, reason, shown, tracking_uri, workspace

KINDS = ("", "unseen", "xai", "end_to_end")  # of metrics/KIND_MODEL.json, which is KIND.* in a model's row


def of_other_weights(path: str, weights: str) -> bool:
    """Whether dvc.lock says that the stage which wrote `path` read other weights than those on disk now."""
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
    """Bring each model's row up to what DVC's files say; idempotent, prints a line a model."""
    digests = {model: workspace() / "models" / f"{model}.weights.h5" for model in MODELS}
    present = {model: weights_digest(path) for model, path in digests.items() if path.is_file()}
    if not present:
        raise UserError("models/ holds no weights: run `dvc repro`, or `dvc checkout` to restore them from the cache")
    with opened(adopt=True) as (client, parent):
        for model, digest in present.items():
            run, n_params, n_metrics = model_row(client, parent, model, digest)
            metrics: dict[str, Any] = {}
            for kind in KINDS:
                name, prefix = (f"{kind}_{model}", f"{kind}.") if kind else (model, "")
                path = f"metrics/{name}.json"
                if not (workspace() / path).is_file():
                    print(f"tracking: {path} is missing, left out: run `dvc repro`")
                elif of_other_weights(path, f"models/{model}.weights.h5"):
                    print(f"tracking: {path} is of an earlier {model}, left out: run `dvc repro`")
                else:
                    metrics |= flatten(json.loads((workspace() / path).read_text(encoding="utf-8")), prefix)
            more = missing(client, run, [f"metrics/{model}.json", f"plots/*_{model}.csv"]) if metrics else []
            n_metrics += fill(client, run, metrics=metrics, artifacts=more)[1]
            added = f"{n_params} parameters, {n_metrics} metrics" if n_params or n_metrics else "nothing to bring over"
            print(f"tracking: {model} in {parent.info.run_name}: {added}")
    for model in set(MODELS) - set(present):
        print(f"tracking: models/{model}.weights.h5 is missing, left out: run `dvc repro train_{model}`")


def main() -> None:
    check()
    try:
        sync()
    except failures() as error:
        raise UserError(
            f"MLflow at {shown(tracking_uri())} failed ({reason(error)}): mend it, then run this again"
        ) from None
