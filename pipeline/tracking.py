"""MLflow, all of it: one parent run a DVC experiment, below it one run a stage that ran.

    python -m pipeline.tracking        bring over what stages restored from DVC's cache did not log; any number of times
    mlflow ui --backend-store-uri sqlite:///mlflow.db        look at it, from the repository root

The run of a training stage is the row of its model: `evaluate`, `unseen_eval` and `xai` add what they find to it, found
again by the digest of the weights. In MLflow's table the filter `tags.kind = 'model'` shows one row a model.

The store is mlflow.db at the repository root with mlartifacts/ beside it; MLFLOW_TRACKING_URI wins where it is set.
A stage calls `check` when it starts and logs when its outputs are written: from then on MLflow only causes warnings.
Logging takes six seconds a stage, nearly all of it to import MLflow, and six more once, to make the database.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import resource
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline import errors
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "face-mask"
MODELS = ("cnn", "mobilenet")
SHARED_PARAMS = ("seed", "image_size", "data", "split", "model", "augment")  # what every model depends on
LOCK_SECONDS = 300  # logging holds the lock for a second, making the database for six, a busy machine for minutes

# MLflow reads these when it is imported, so they are set before. Its own defaults wait four minutes for a dead server,
# print a link for every run and report usage to its makers.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)


# ---- where the store is, and whether it can be written ----


def workspace() -> Path:
    """The folder whose params.yaml, models/ and metrics/ count: the nearest one up from here that holds dvc.yaml."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").is_file()), here)


def root() -> Path:
    """The repository that owns the store: under `dvc exp run --temp` and `--queue` not the workspace but its parent."""
    return Path(os.environ.get("DVC_ROOT") or workspace())


def tracking_uri() -> str:
    """The store's address; one of an SQLite file is made absolute against the repository root."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path, mark, options = uri.removeprefix("sqlite:///").partition("?")
    return f"sqlite:///{root().resolve() / path}{mark}{options}" if uri.startswith("sqlite:///") else uri


def database(uri: str) -> Path | None:
    """The SQLite file behind an address, None for every other kind of store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def shown(uri: str) -> str:
    """The address without user name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def check() -> None:
    """UserError when the store cannot be reached or written. For the start of a stage: quick, MLflow is not loaded."""
    uri = tracking_uri()
    remedy = f"MLFLOW_TRACKING_URI={shown(uri)}: %s; mend it, or unset it to log to mlflow.db"
    if db := database(uri):
        db.parent.mkdir(parents=True, exist_ok=True)
        for path in (db.parent, db):
            if path.exists() and not os.access(path, os.W_OK):
                raise UserError(f"{path} cannot be written, and MLflow's runs go there: mend its permissions")
        if db.is_file() and (head := db.open("rb").read(15)) and head != b"SQLite format 3":
            raise UserError(f"{db} is no SQLite database: remove it, `dvc repro` makes a new one")
    elif uri.startswith("file:") or ("://" not in uri and uri.partition(":")[0] not in ("databricks", "uc")):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise UserError(remedy % "neither http(s)://host:port nor sqlite:///file, and MLflow 3 takes no folder")
    elif uri.startswith(("http://", "https://")):
        try:
            answer = knock(uri)
        except (OSError, ValueError) as error:
            raise UserError(remedy % f"no answer ({getattr(error, 'reason', error)})") from None
        if answer not in (200, 401, 403):
            raise UserError(remedy % f"no MLflow server answers there (HTTP {answer})")


def knock(uri: str) -> int:
    """The HTTP status of a server's health page or, where a hosted MLflow has none, of its API."""
    status = 404
    for path in ("/health", "/api/2.0/mlflow/experiments/search?max_results=1"):
        try:
            status = urllib.request.urlopen(shown(uri).rstrip("/") + path, timeout=5).status
        except urllib.error.HTTPError as error:
            status = error.code
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLCertVerificationError):
                raise
            return 200  # it is there; whether its certificate will do is set in variables that only MLflow reads
        if status != 404:
            break
    return status


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises when a store fails; anything else is a bug and keeps its traceback."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def reason(error: Exception) -> str:
    """The first line of an error, not too long."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


@contextmanager
def tolerant(stage: str) -> Iterator[None]:
    """A store that fails when a stage's outputs are already written costs a warning, not the stage."""
    try:
        yield
    except failures() as error:
        print(
            f"{stage}: warning: MLflow at {shown(tracking_uri())} did not take this run ({reason(error)}): the outputs"
            " are written; when it works again, bring them over with `python -m pipeline.tracking`",
            file=sys.stderr,
        )


# ---- parameters and numbers ----


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, the keys joined by dots as DVC shows them."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def text(value: object) -> str:
    """A parameter as MLflow shows it: JSON, strings bare, `1e-5` (text to YAML 1.1) as the number it means."""
    if isinstance(value, str):
        return repr(float(value)) if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value) else value
    return json.dumps(value, default=str).strip('"')


def numbers(mapping: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers in a mapping, flattened; figures that are text (from CSV) count, words and gaps do not."""
    found = {}
    for key, value in flatten(mapping).items():
        try:
            if math.isfinite(number := float(value)):
                found[key] = number
        except (TypeError, ValueError):
            continue
    return found


def read_params() -> dict[str, str]:
    """params.yaml, flattened, as text."""
    path = workspace() / "params.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {key: text(value) for key, value in flatten(values).items()}
    except (OSError, AttributeError, yaml.YAMLError):
        raise UserError("params.yaml cannot be read: restore it with `git checkout params.yaml`") from None


def model_params(model: str) -> dict[str, str]:
    """The entries of params.yaml that concern one model."""
    return {k: v for k, v in read_params().items() if k.partition(".")[0] in (*SHARED_PARAMS, model)}


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


def weights_digest(path: str | Path) -> str:
    """SHA-256 of a weights file: what identifies a trained model."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def measured(started: float) -> dict[str, float]:
    """Seconds since `started`, and the peak memory of this process and its largest child."""
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return {"seconds": round(time.time() - started, 3), "peak_memory_mb": round(peak * unit / 1e6, 1)}


# ---- runs ----


@contextmanager
def opened(adopt: bool = False) -> Iterator[tuple[MlflowClient, Run]]:
    """A client and the current experiment's parent run, found or made, with every other process of ours kept out.

    `adopt`: where the current parameters have no run of their own, take the latest with the same parameters: after
    `dvc exp run`, its name is gone from the environment but its results stand in the workspace.
    """
    import logging

    import mlflow  # four seconds, so only here
    from filelock import FileLock

    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # migrations and retries; we say it in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)

    tags, uri = identity(), tracking_uri()
    db = database(uri)
    beside = db or root() / "mlflow.db"
    beside.parent.mkdir(parents=True, exist_ok=True)
    # Without the lock two processes both run the migrations of a new database, or both make the parent run.
    with FileLock(f"{beside}.lock", timeout=LOCK_SECONDS):
        client = mlflow.MlflowClient(uri)
        experiment_id = experiment(client, db)
        found = search(client, experiment_id, {"kind": "experiment", **tags})
        if not found and adopt and not os.environ.get("DVC_EXP_NAME"):
            found = search(client, experiment_id, {"kind": "experiment", "params.digest": tags["params.digest"]})
        parent = found[0] if found else create(client, experiment_id, tags["dvc.experiment"], {"kind": "experiment"})
        yield client, parent
        client.set_terminated(parent.info.run_id)


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


def demand(artifacts: Sequence[Path]) -> None:
    """A stage that logs a file it has not written has a bug, which is no failure of the store."""
    for path in artifacts:
        if not path.exists():
            raise FileNotFoundError(f"artifact {path} was never written")


# ---- what stages call ----


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


# ---- what DVC's files say ----


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
            for name, prefix in ((model, ""), (f"unseen_{model}", "unseen."), (f"xai_{model}", "xai.")):
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


if __name__ == "__main__":
    errors.run(main)
