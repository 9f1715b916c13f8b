"""What stages log: a run of their own, or figures for the row of a model."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking.figures import flatten, measured, model_params
from pipeline.tracking.runs import child, children, fill, opened, replace
from pipeline.tracking.store import tolerant, workspace

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

MODELS = ("cnn", "mobilenet")


def demand(artifacts: Sequence[Path]) -> None:
    """A stage that logs a file it has not written has a bug, which is no failure of the store."""
    for path in artifacts:
        if not path.exists():
            raise FileNotFoundError(f"artifact {path} was never written")


def log_stage(
    stage: str,
    *,
    params: Mapping[str, object],
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    artifacts: Sequence[Path] = (),
    started: float,
) -> None:
    """One run for a stage that ran since `started` (`time.time()`); it replaces the stage's earlier run."""
    cost = measured(started)
    demand(artifacts)
    with tolerant(stage), opened() as (client, parent):
        older = children(client, parent, stage)
        run = child(client, parent, stage, tags or {}, started)
        fill(client, run, params=params, metrics={**(metrics or {}), **cost}, artifacts=artifacts)
        replace(client, older)


def log_training(
    model: str,
    *,
    params: Mapping[str, object],
    history: pd.DataFrame | Iterable[Mapping[str, object]],
    metrics: Mapping[str, float],
    digest: str,
    artifacts: Sequence[Path] = (),
    started: float,
) -> None:
    """The row of a model that was trained since `started`; every numeric column of `history` is a curve `epoch.NAME`.

    It replaces the row of the model's earlier training. Where that ended in the very same weights, DVC runs nothing
    after it, so what later stages found about them is carried over.
    """
    cost = measured(started)
    demand(artifacts)
    rows: Any = history if not hasattr(history, "to_dict") else history.to_dict("records")
    with tolerant(f"train_{model}"), opened() as (client, parent):
        older = children(client, parent, f"train_{model}")
        same = [run.data.metrics for run in older if run.data.tags.get("model.digest") == digest]
        known = {k: v for found in same[:1] for k, v in found.items() if not k.startswith("epoch.")}
        run = child(client, parent, f"train_{model}", {"model": model, "model.digest": digest}, started)
        fill(
            client,
            run,
            params={**flatten(params), **model_params(model)},
            metrics={**known, **flatten(metrics), **cost},
            history=rows,
            artifacts=artifacts,
        )
        replace(client, older)


def log_model_metrics(model: str, *, digest: str, metrics: Mapping[str, float], artifacts: Sequence[Path] = ()) -> None:
    """Add what a later stage found to the row of the model with this digest, made here where training was cached."""
    demand(artifacts)
    with tolerant(model), opened() as (client, parent):
        run = model_row(client, parent, model, digest)[0]
        fill(client, run, metrics=metrics, artifacts=artifacts)


def model_row(client: MlflowClient, parent: Run, model: str, digest: str) -> tuple[Run, int, int]:
    """The one row of a model, made or completed from what its training left on disk; and how much that added."""
    rows = children(client, parent, f"train_{model}")
    run = next((one for one in rows if one.data.tags.get("model.digest") == digest), None)
    run = run or child(client, parent, f"train_{model}", {"model": model, "model.digest": digest})
    n_params, n_metrics = fill(
        client,
        run,
        params=model_params(model),
        history=read_history(model),
        artifacts=missing(client, run, [f"plots/history_{model}.csv", f"models/{model}.*"]),
    )
    replace(client, [one for one in rows if one.info.run_id != run.info.run_id])
    return client.get_run(run.info.run_id), n_params, n_metrics


def read_history(model: str) -> list[dict[str, str]]:
    """The rows of plots/history_MODEL.csv, none where it is missing."""
    path = workspace() / "plots" / f"history_{model}.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def missing(client: MlflowClient, run: Run, patterns: Iterable[str]) -> list[Path]:
    """The workspace's files of these patterns whose names are not among a run's artifacts."""
    there = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    paths = [path for pattern in patterns for path in sorted(workspace().glob(pattern))]
    return [path for path in paths if path.name not in there]
