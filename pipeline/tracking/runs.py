"""MLflow's runs: the parent run of the current experiment, and the runs below it, found, made and filled."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking.figures import flatten, numbers, read_params, text
from pipeline.tracking.store import database, root, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "face-mask"
LOCK_SECONDS = 300  # logging holds the lock for a second, making the database for six, a busy machine for minutes


def identity() -> dict[str, str]:
    """The tags that name the current experiment: DVC's name for it or, under plain `dvc repro`, its parameters."""
    digest = hashlib.sha256(json.dumps(read_params(), sort_keys=True).encode()).hexdigest()[:8]
    tags = {"dvc.experiment": os.environ.get("DVC_EXP_NAME") or f"workspace-{digest}", "params.digest": digest}
    if baseline := os.environ.get("DVC_EXP_BASELINE_REV"):
        tags["dvc.baseline_rev"] = baseline  # two commits may each have an experiment of this name
    return tags


def head() -> str | None:
    """The commit that is checked out, None outside Git or without it."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root(), capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextmanager
def opened(adopt: bool = False) -> Iterator[tuple[MlflowClient, Run]]:
    """A client and the current experiment's parent run, found or made, with every other process of ours kept out.

    `adopt` as in `current`.
    """
    import logging

    import mlflow  # four seconds, so only here
    from filelock import FileLock

    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # migrations and retries; we say it in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)

    uri = tracking_uri()
    db = database(uri)
    beside = db or root() / "mlflow.db"
    beside.parent.mkdir(parents=True, exist_ok=True)
    # Without the lock two processes both run the migrations of a new database, or both make the parent run.
    with FileLock(f"{beside}.lock", timeout=LOCK_SECONDS):
        client = mlflow.MlflowClient(uri)
        experiment_id = experiment(client, db)
        parent = current(client, experiment_id, adopt)
        if parent is None:
            parent = create(client, experiment_id, identity()["dvc.experiment"], {"kind": "experiment"})
        yield client, parent
        client.set_terminated(parent.info.run_id)


def current(client: MlflowClient, experiment_id: str, adopt: bool = False) -> Run | None:
    """The parent run of the current experiment, None where there is none.

    `adopt`: where the current parameters have no run of their own, take the latest with the same parameters: after
    `dvc exp run`, its name is gone from the environment but its results stand in the workspace.
    """
    tags = identity()
    found = search(client, experiment_id, {"kind": "experiment", **tags})
    if not found and adopt and not os.environ.get("DVC_EXP_NAME"):
        found = search(client, experiment_id, {"kind": "experiment", "params.digest": tags["params.digest"]})
    return found[0] if found else None


def experiment(client: MlflowClient, db: Path | None) -> str:
    """The id of the MLflow experiment, made or restored where needed."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        from mlflow.exceptions import MlflowException

        # MLflow's default would freeze the folder in which the first process stood; a server decides for itself.
        location = (db.parent / "mlartifacts").as_uri() if db else None
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=location)
        except MlflowException:  # made by another machine in between
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def search(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """The active runs with these tags, the latest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment_id], wanted, order_by=["attributes.start_time DESC"]))


def create(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], started: float = 0) -> Run:
    """A new run that carries the tags of the current experiment."""
    ours = identity()
    if commit := ours.get("dvc.baseline_rev") or head():
        ours |= {"dvc.baseline_rev": commit, "mlflow.source.git.commit": commit}
    start = int((started or time.time()) * 1000)
    return client.create_run(experiment_id, start_time=start, tags={**ours, **tags}, run_name=name)


def children(client: MlflowClient, parent: Run, stage: str) -> list[Run]:
    """The active runs of one stage in this experiment: one, unless a store failed half way."""
    return search(client, parent.info.experiment_id, {"mlflow.parentRunId": parent.info.run_id, "stage": stage})


def child(client: MlflowClient, parent: Run, stage: str, tags: Mapping[str, str], started: float = 0) -> Run:
    """A new run below `parent`, named like its model or else its stage."""
    ours = {"mlflow.parentRunId": parent.info.run_id, "stage": stage, "kind": "model" if "model" in tags else "stage"}
    ours |= {"mlflow.source.name": f"pipeline/{stage}.py", "mlflow.source.type": "LOCAL", **tags}
    return create(client, parent.info.experiment_id, tags.get("model", stage), ours, started)


def fill(
    client: MlflowClient,
    run: Run,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    history: Iterable[Mapping[str, Any]] = (),
    artifacts: Sequence[Path] = (),
) -> tuple[int, int]:
    """Log what `run` does not hold yet, and end it: the number of parameters and of metrics that were new.

    A parameter is write-once in MLflow and stays as it is; a metric that changed gets its new value.
    """
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    fresh = {k: v for k, v in numbers(metrics or {}).items() if run.data.metrics.get(k) != v}
    points = [Metric(name, value, now, 0) for name, value in fresh.items()]
    rows = [numbers({f"epoch.{k}": v for k, v in row.items()}) for row in history]
    steps = [int(row.pop("epoch.epoch", i)) for i, row in enumerate(rows, 1)]
    if len(set(steps)) < len(steps):  # each phase counts from one: one curve all the same
        steps = list(range(1, len(rows) + 1))
    curves = {name for row in rows for name in row} - set(run.data.metrics)
    points += [
        Metric(k, v, now, step) for step, row in zip(steps, rows, strict=True) for k, v in row.items() if k in curves
    ]
    new = [Param(k, text(v)) for k, v in flatten(params or {}).items() if k not in run.data.params]
    client.log_batch(run.info.run_id, metrics=points, params=new)
    for path in artifacts:
        if path.is_dir():
            client.log_artifacts(run.info.run_id, str(path), path.name)
        else:
            client.log_artifact(run.info.run_id, str(path))
    if points or new or run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id)
    return len(new), len(fresh) + len(curves)


def replace(client: MlflowClient, older: Iterable[Run]) -> None:
    """Mark runs as deleted, once the one that takes their place is complete."""
    for run in older:
        client.delete_run(run.info.run_id)
