"""MLflow runs: the parent run of the current experiment and the runs below it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from pipeline.core.values import flatten, text
from pipeline.tracking import notes, snapshot
from pipeline.tracking.store import database, root, tracking_uri
from pipeline.tracking.values import as_text, finite_numbers, read_params

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "face-mask"
KIND = "mlflow.experimentKind", "custom_model_development"  # else `mlflow ui` opens on its page for language models
HEADLINES = ("best.val_loss", "val.accuracy", "test.accuracy", "unseen.accuracy")  # of each model, in the parent run
PROCESS = "process"  # the tag of a run that is RUNNING while its process lives: that of a training
CLOCK_SECONDS = 10  # by which the system's clock may be corrected while a process lives
LOCK_SECONDS = 300  # logging takes a second, creating the database six, either of them minutes on a busy machine


def experiment_tags() -> dict[str, str]:
    """Tags that identify the current experiment: DVC's name for it or, under plain `dvc repro`, its parameters."""
    digest = hashlib.sha256(json.dumps(read_params(), sort_keys=True).encode()).hexdigest()[:8]
    tags = {"dvc.experiment": os.environ.get("DVC_EXP_NAME") or f"workspace-{digest}", "params.digest": digest}
    if baseline := os.environ.get("DVC_EXP_BASELINE_REV"):
        tags["dvc.baseline_rev"] = baseline  # two commits may each have an experiment of this name
    if database(tracking_uri()) is None:  # a server: the runs of another clone stay, also those of the same parameters
        tags["clone"] = hashlib.sha256(f"{platform.node()}:{root().resolve()}".encode()).hexdigest()[:12]
    return tags


def git(*arguments: str) -> str | None:
    """What a Git command prints; None outside a Git repository, without Git, or if it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root(), capture_output=True, encoding="utf-8", timeout=10)
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_commit() -> str | None:
    """The commit that is checked out; None outside a Git repository or without Git."""
    return git("rev-parse", "HEAD")


def committed_params(commit: str) -> dict[str, str] | None:
    """The values of params.yaml in a commit, flattened, as text; None if it cannot be read."""
    content = git("show", f"{commit}:./params.yaml")
    try:
        values = yaml.safe_load(content or "")
    except yaml.YAMLError:
        return None
    return as_text(values) if isinstance(values, dict) else None


@contextmanager
def locked() -> Iterator[MlflowClient]:
    """Yield a client under a lock between processes. Raises UserError if the running stage is no longer wanted."""
    import logging

    import mlflow  # takes four seconds, so only here
    from filelock import FileLock

    for name in (
        "mlflow.store.db.utils",
        "urllib3.connectionpool",
    ):  # migrations and retries; errors are reported in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)

    uri = tracking_uri()
    db = database(uri)
    lock_path = db or root() / "mlflow.db"
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    # Without the lock, two processes would both migrate a new database, or both create the parent run.
    with FileLock(f"{lock_path}.lock", timeout=LOCK_SECONDS):
        snapshot.check("nothing was logged")
        yield mlflow.MlflowClient(uri)


@contextmanager
def parent_run(adopt: bool = False) -> Iterator[tuple[MlflowClient, Run]]:
    """Yield a client and the current experiment's parent run, created if needed, under the lock of `locked`.

    `adopt` as in `find_parent`. Runs of processes that were killed become KILLED.
    """
    with locked() as client:
        experiment_id = ensure_experiment(client, database(tracking_uri()))
        end_abandoned(client, experiment_id)
        parent = find_parent(client, experiment_id, adopt)
        if parent is None:
            parent = create_run(client, experiment_id, experiment_tags()["dvc.experiment"], {"kind": "experiment"})
        complete_parent(client, parent)
        yield client, parent
        client.set_terminated(parent.info.run_id)


def end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """End the runs that a process left RUNNING when it was killed. Call it under the lock.

    Only trainings are logged without the lock, so no other process is about to end the rest. On a server, runs of other
    clones are left alone.
    """
    tags = {key: value for key, value in experiment_tags().items() if key == "clone"}
    for run in search_runs(client, experiment_id, tags, status="RUNNING"):
        if "kind" in run.data.tags and not is_running(run):
            client.set_terminated(run.info.run_id, "KILLED")


def this_process() -> str:
    """The value of the tag PROCESS for this process; a process identifier alone may be given again to another."""
    return described(os.getpid())


@cache
def described(pid: int) -> str:
    """A process and when it was created, asked only once, because that changes if the system's clock is set."""
    return f"{pid} {psutil.Process(pid).create_time():.0f}"


def is_running(run: Run) -> bool:
    """Whether a run is RUNNING and the process in its tag PROCESS is alive."""
    if run.info.status != "RUNNING":
        return False
    try:
        pid, created = run.data.tags.get(PROCESS, "").split()
        process = psutil.Process(int(pid))
        return abs(process.create_time() - int(created)) <= CLOCK_SECONDS and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.Error):
        return False


def find_parent(client: MlflowClient, experiment_id: str, adopt: bool = False) -> Run | None:
    """Find the parent run of the current experiment; None if there is none.

    With `adopt`, the latest run with the same parameters is accepted: after `dvc exp run`, the experiment's name is
    gone from the environment but its results are in the workspace.
    """
    tags = experiment_tags()
    found = search_runs(client, experiment_id, {"kind": "experiment", **tags})
    if not found and adopt and not os.environ.get("DVC_EXP_NAME"):
        same = {key: value for key, value in tags.items() if key in ("params.digest", "clone")}
        found = search_runs(client, experiment_id, {"kind": "experiment", **same})
    return found[0] if found else None


def complete_parent(client: MlflowClient, parent: Run) -> None:
    """Give the parent run what it lacks of the parameters, all of them, and of its description."""
    params = read_params()
    log_missing(client, parent, params=params)
    if notes.TAG not in parent.data.tags:
        commit = parent.data.tags.get("dvc.baseline_rev")
        before = committed_params(commit) if commit else None
        note = notes.of_experiment(str(parent.info.run_name), commit, params, before)
        client.set_tag(parent.info.run_id, notes.TAG, note)


def log_headlines(client: MlflowClient, parent: Run, model: str, run: Run) -> None:
    """Copy a model's main metrics from its row to the parent run; one that the row does not have becomes NaN there."""
    from mlflow.entities import Metric

    now, found = int(time.time() * 1000), client.get_run(run.info.run_id).data.metrics
    pairs = {f"{model}.{name}": found.get(name, math.nan) for name in HEADLINES}
    before = {name: parent.data.metrics.get(name, math.nan) for name in pairs}
    points = [
        Metric(name, value, now, 0)
        for name, value in pairs.items()
        if value != before[name] and not (math.isnan(value) and math.isnan(before[name]))
    ]
    client.log_batch(parent.info.run_id, metrics=points)


def ensure_experiment(client: MlflowClient, db: Path | None) -> str:
    """Return the id of the MLflow experiment, which is created, restored or described if needed."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        from mlflow.exceptions import MlflowException

        # MLflow's default would fix the working folder of the first process; a server decides for itself.
        location = (db.parent / "mlartifacts").as_uri() if db else None
        try:
            tags = {KIND[0]: KIND[1], notes.TAG: notes.EXPERIMENT}
            return client.create_experiment(EXPERIMENT, artifact_location=location, tags=tags)
        except MlflowException:  # created by another machine in the meantime
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found.tags.get(KIND[0]) != KIND[1]:
        client.set_experiment_tag(found.experiment_id, *KIND)
    if notes.TAG not in found.tags:
        client.set_experiment_tag(found.experiment_id, notes.TAG, notes.EXPERIMENT)
    return found.experiment_id


def search_runs(client: MlflowClient, experiment_id: str, tags: Mapping[str, str], status: str = "") -> list[Run]:
    """Find the active runs with these tags, and with this status if one is given, the latest first."""
    conditions = [f"attributes.status = '{status}'"] if status else []
    # MLflow's filters cannot escape a quote, which the name of an experiment may have.
    conditions += [f"tags.`{key}` = '{value}'" for key, value in tags.items() if "'" not in value]
    wanted = " and ".join(conditions)
    found = client.search_runs([experiment_id], wanted, order_by=["attributes.start_time DESC"])
    return [run for run in found if tags.items() <= run.data.tags.items()]


def create_run(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], started: float = 0) -> Run:
    """Create a run with the tags of the current experiment."""
    ours = experiment_tags()
    if commit := ours.get("dvc.baseline_rev") or git_commit():
        ours |= {"dvc.baseline_rev": commit, "mlflow.source.git.commit": commit}
    start = int((started or time.time()) * 1000)
    return client.create_run(experiment_id, start_time=start, tags={**ours, **tags}, run_name=name)


def find_children(client: MlflowClient, parent: Run, stage: str) -> list[Run]:
    """Find the active runs of one stage below `parent`: one, and more if a store failed midway.

    Beside them, a training that runs, failed or was killed has one, which is not FINISHED and has no `model.digest`.
    """
    return search_runs(client, parent.info.experiment_id, {"mlflow.parentRunId": parent.info.run_id, "stage": stage})


def create_child(client: MlflowClient, parent: Run, stage: str, tags: Mapping[str, str], started: float = 0) -> Run:
    """Create a run below `parent`, named after its model or else its stage."""
    ours = {"mlflow.parentRunId": parent.info.run_id, "stage": stage, "kind": "model" if "model" in tags else "stage"}
    ours |= {"mlflow.source.name": f"pipeline/{stage}.py", "mlflow.source.type": "LOCAL"}
    ours |= {notes.TAG: notes.of_stage(stage, model="model" in tags), **tags}
    return create_run(client, parent.info.experiment_id, tags.get("model", stage), ours, started)


def log_missing(
    client: MlflowClient,
    run: Run,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    history: Iterable[Mapping[str, Any]] = (),
    artifacts: Sequence[Path] = (),
) -> tuple[int, int]:
    """Log what `run` lacks and end it. Returns how many parameters and how many metrics were new.

    A parameter is write-once in MLflow and keeps its value; a metric that changed gets its new value.
    """
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    fresh = {k: v for k, v in finite_numbers(metrics or {}).items() if run.data.metrics.get(k) != v}
    curves = curve_points(history)
    if run.info.status == "FINISHED":
        there = {(name, step) for name, step in curves if name in run.data.metrics}
    else:
        there = set(logged_points(client, run))
    lacking = {point: value for point, value in curves.items() if point not in there}
    points = [Metric(name, value, now, 0) for name, value in fresh.items()]
    points += [Metric(name, value, now, step) for (name, step), value in lacking.items()]
    new = [Param(k, text(v)) for k, v in flatten(params or {}).items() if k not in run.data.params]
    client.log_batch(run.info.run_id, metrics=points, params=new)
    for path in artifacts:
        if path.is_dir():
            client.log_artifacts(run.info.run_id, str(path), path.name)
        else:
            client.log_artifact(run.info.run_id, str(path))
    if points or new or run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id)
    return len(new), len(fresh) + len({name for name, _ in lacking})


def curve_points(history: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
    """The values of curves by name and step, from rows with a number for each curve."""
    rows = [finite_numbers({f"epoch.{k}": v for k, v in row.items()}) for row in history]
    steps = [int(row.pop("epoch.epoch", i)) for i, row in enumerate(rows, 1)]
    if len(set(steps)) < len(steps):  # each training phase counts from one, but is part of one curve
        steps = list(range(1, len(rows) + 1))
    return {(name, step): value for step, row in zip(steps, rows, strict=True) for name, value in row.items()}


def logged_points(client: MlflowClient, run: Run) -> dict[tuple[str, int], float]:
    """The values of the curves that a run has, by name and step."""
    names = [name for name in run.data.metrics if name.startswith("epoch.")]
    found = [one for name in names for one in client.get_metric_history(run.info.run_id, name)]
    return {(one.key, one.step): one.value for one in found}


def log_samples(client: MlflowClient, run: Run, samples: Iterable[tuple[float, Mapping[str, float]]]) -> None:
    """Log metrics that were measured at several times, in seconds since 1970, as curves."""
    from mlflow.entities import Metric

    points = [
        Metric(name, value, int(at * 1000), step)
        for step, (at, metrics) in enumerate(samples)
        for name, value in metrics.items()
    ]
    client.log_batch(run.info.run_id, metrics=points)


def delete_runs(client: MlflowClient, runs: Iterable[Run]) -> None:
    """Mark runs as deleted."""
    for run in runs:
        client.delete_run(run.info.run_id)
