"""What stages log: a run of their own, or metrics for the row of a model."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.values import flatten
from pipeline.tracking import datasets, logged_models, notes, snapshot
from pipeline.tracking.curves import claim, is_begun_here
from pipeline.tracking.runs import (
    create_child,
    curve_points,
    delete_runs,
    find_children,
    is_running,
    log_headlines,
    log_missing,
    log_samples,
    logged_points,
    parent_run,
)
from pipeline.tracking.store import warn_on_failure, workspace
from pipeline.tracking.system_metrics import PREFIX
from pipeline.tracking.values import model_params, resource_usage

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

CURVES = ("epoch.", PREFIX)  # of a training itself, however it ends


def check_artifacts(artifacts: Sequence[Path]) -> None:
    """Raise FileNotFoundError if an artifact is missing, which is a bug of the stage and not a failure of the store.

    Raises UserError if the stage is no longer wanted: then a newer DVC has removed its outputs to write them again.
    """
    for path in artifacts:
        if not path.exists():
            snapshot.check("nothing was logged")
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
    """Log a run for a stage that started at `started` (`time.time()`); it replaces the stage's earlier run."""
    usage = resource_usage(started)
    check_artifacts(artifacts)
    with warn_on_failure(stage), parent_run() as (client, parent):
        older = find_children(client, parent, stage)
        run = create_child(client, parent, stage, tags or {}, started)
        log_missing(client, run, params=params, metrics={**(metrics or {}), **usage}, artifacts=artifacts)
        delete_runs(client, older)


def log_training(
    model: str,
    *,
    params: Mapping[str, object] | None = None,
    history: pd.DataFrame | Iterable[Mapping[str, object]],
    metrics: Mapping[str, float],
    digest: str,
    artifacts: Sequence[Path] = (),
    started: float,
    system: Iterable[tuple[float, Mapping[str, float]]] = (),
) -> None:
    """Log the row of a model whose training started at `started`; each numeric column of `history` is a curve.

    It is the run that curves.Curves has begun, if there is one. It replaces the row of the model's earlier training. If
    that ended with the same weights, DVC skips the later stages, so their metrics are copied to the new row. Curves are
    named `epoch.COLUMN`. `system` has the samples of system_metrics.Monitor.
    """
    usage = resource_usage(started)
    check_artifacts(artifacts)
    rows: Any = history if not hasattr(history, "to_dict") else history.to_dict("records")
    with warn_on_failure(f"train_{model}"), parent_run() as (client, parent):
        found = find_children(client, parent, f"train_{model}")
        # Its points may be others: if models/.resume/ is lost, a training starts over in its run, and a GPU need not
        # repeat its digits.
        points = curve_points(rows)
        run = next((one for one in found if is_begun_here(one) and has_part_of(client, one, points)), None)
        older = [one for one in found if one is not run]
        same = [run for run in older if run.data.tags.get("model.digest") == digest][:1]
        kept = {k: v for one in same for k, v in one.data.metrics.items() if not k.startswith(CURVES)}
        if run is None:
            run = create_child(client, parent, f"train_{model}", {"model": model, "model.digest": digest}, started)
        else:
            claim(client, run, digest)
        log_missing(
            client,
            run,
            params={**flatten(params or {}), **model_params(model)},
            metrics={**kept, **flatten(metrics), **usage},
            history=rows,
            artifacts=artifacts,
        )
        log_samples(client, run, system)
        datasets.log(client, run, datasets.of_training(model, running=True))
        datasets.log(client, run, [data for one in same for data in datasets.unseen_of(one)])
        log_headlines(client, parent, model, run)
        delete_runs(client, older)


def log_model_metrics(model: str, *, digest: str, metrics: Mapping[str, float], artifacts: Sequence[Path] = ()) -> None:
    """Add a later stage's metrics to the row of the model with this digest, created here if its training was cached."""
    check_artifacts(artifacts)
    with warn_on_failure(model), parent_run() as (client, parent):
        run = model_row(client, parent, model, digest)[0]
        log_missing(client, run, metrics=metrics, artifacts=artifacts)
        if any(name.startswith("unseen.") for name in metrics):
            datasets.log(client, run, datasets.of_unseen(running=True))
        log_headlines(client, parent, model, run)
        logged_models.link(client, client.get_run(run.info.run_id))


def model_row(client: MlflowClient, parent: Run, model: str, digest: str) -> tuple[Run, int, int]:
    """Find a model's row, created or completed from the files of its training.

    If the store was away at the end of the training, it is the run that this began. Returns the run and how many
    parameters and metrics that added.
    """
    rows = [one for one in find_children(client, parent, f"train_{model}") if not is_running(one)]
    run = next((one for one in rows if one.data.tags.get("model.digest") == digest), None)
    curves = curve_points(history := read_history(model))
    if run is None and curves and (run := next((one for one in rows if has_part_of(client, one, curves)), None)):
        claim(client, run, digest)
    run = run or create_child(client, parent, f"train_{model}", {"model": model, "model.digest": digest})
    n_params, n_metrics = log_missing(
        client,
        run,
        params=model_params(model),
        history=history,
        artifacts=missing_artifacts(client, run, [f"models/history_{model}.csv", f"models/{model}.*"]),
    )
    datasets.log(client, run, datasets.of_training(model, running=False))
    if notes.TAG not in run.data.tags:  # of an earlier version
        client.set_tag(run.info.run_id, notes.TAG, notes.of_stage(f"train_{model}", model=True))
    delete_runs(client, [one for one in rows if one.info.run_id != run.info.run_id])
    return client.get_run(run.info.run_id), n_params, n_metrics


def has_part_of(client: MlflowClient, run: Run, curves: Mapping[tuple[str, int], float]) -> bool:
    """Whether the run of a training that did not end has only points of these curves, so that it may be their
    beginning. Values are compared to six digits, which is what files have."""
    if run.info.status == "FINISHED" or "model.digest" in run.data.tags:
        return False
    found = logged_points(client, run).items()
    return all(math.isclose(value, curves.get(point, math.nan), rel_tol=1e-5, abs_tol=1e-6) for point, value in found)


def read_history(model: str) -> list[dict[str, str]]:
    """The rows of models/history_MODEL.csv; empty if it is missing."""
    path = workspace() / "models" / f"history_{model}.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def missing_artifacts(client: MlflowClient, run: Run, patterns: Iterable[str]) -> list[Path]:
    """The files in the workspace that match `patterns` and are not among the run's artifacts."""
    logged = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    paths = [path for pattern in patterns for path in sorted(workspace().glob(pattern))]
    return [path for path in paths if path.name not in logged]
