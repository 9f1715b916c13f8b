"""MLflow: names of experiments, stores that do not exist yet, and a server that is gone."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.faults import finished_repository, processes
from tests.faults.test_kills import repro, runs, store
from tests.faults.test_provenance import TRAINING, wait_for_line, wait_until_logged
from tests.test_tracking import server, stop
from tools import scratch

pytestmark = pytest.mark.full
SERVER = ("server", "--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "files")
NAMES = ["o'brien", 'say-"it\'s"', "Prüfung-日本"]


@pytest.fixture
def repo(tmp_path_factory, tmp_path) -> Path:
    return finished_repository.copy(finished_repository.build(tmp_path_factory), tmp_path / "repository")


def exp_run(repo: Path, *arguments: str) -> subprocess.Popen:
    """Start an experiment of the last stage alone: everything before it is in DVC's cache."""
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "exp", "run", "--single-item", *arguments, "register"],
        cwd=repo, env=scratch.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.fault(14, "experiment names with quotes and Unicode", "logged and registered under their names")
def test_names_of_experiments(repo, seen):
    for i, name in enumerate([*NAMES, NAMES[0]]):  # the last finds the parent run of the first
        margin = f"registry.margin={i % len(NAMES) / 100 + 0.01}"
        output, _ = (process := exp_run(repo, "--force", "--name", name, "-S", margin)).communicate(timeout=600)
        assert process.returncode == 0 and "warning" not in output, output
    parents = runs(store(repo), "tags.kind = 'experiment'")
    assert sorted(run.info.run_name for run in parents if "workspace" not in run.info.run_name) == sorted(NAMES)
    stages = runs(store(repo), "tags.stage = 'register'")
    assert sorted(set(NAMES) & {run.data.tags["dvc.experiment"] for run in stages}) == sorted(NAMES)
    assert len(stages) == len(parents)
    seen(
        f"{', '.join(f'`{name}`' for name in NAMES)}: one parent run and one run of `register` each, also the 2nd time"
    )


@pytest.mark.fault(15, "three `dvc exp run --temp` at once without an MLflow store", "one store with all three")
def test_temporary_experiments_without_a_store(repo, seen):
    (repo / "mlflow.db").unlink()
    running = []
    for i in (1, 2, 3):
        running.append(exp_run(repo, "--temp", "--name", f"temp-{i}", "-S", f"registry.margin=0.0{i}"))
        wait_for_line(running[-1], "Running stage")  # DVC itself refuses to prepare two at the same time
    for process in running:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0 and "warning: MLflow" not in output, output
    uri = store(repo)
    assert sorted(run.info.run_name for run in runs(uri, "tags.kind = 'experiment'")) == ["temp-1", "temp-2", "temp-3"]
    assert [run.info.status for run in runs(uri, "tags.stage = 'register'")] == ["FINISHED"] * 3
    versions = MlflowClient(uri).search_model_versions("name = 'face-mask'")
    assert sorted(version.tags["model"] for version in versions) == ["cnn", "mobilenet"]
    assert not list((repo / ".dvc/tmp").rglob("mlflow.db"))
    seen("all three succeeded; one database with three parent runs and each model registered once")


def cnn_runs(uri: str) -> list[Run]:
    return runs(uri, "tags.kind = 'model' and tags.model = 'cnn'")


def wait_for_curves(uri: str, training: subprocess.Popen) -> Run:
    """Wait until the run of a training has curves while it is RUNNING."""
    wanted = "attributes.status = 'RUNNING' and tags.model = 'cnn'"
    while training.poll() is None:
        for run in runs(uri, wanted) if MlflowClient(uri).get_experiment_by_name("face-mask") else []:
            if "epoch.val_loss" in run.data.metrics:
                return run
        time.sleep(0.05)
    pytest.fail("the training ended without curves")


def check_curves(repo: Path, uri: str, run: Run) -> int:
    """The curves are those of the history, each step once; returns the number of steps."""
    with (repo / "models/history_cnn.csv").open() as file:
        history = list(csv.DictReader(file))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        found = MlflowClient(uri).get_metric_history(run.info.run_id, f"epoch.{name}")
        values = {int(row["epoch"]): float(row[name]) for row in history}
        assert sorted(one.step for one in found) == sorted(values), name
        assert {one.step: one.value for one in found} == pytest.approx(values, rel=1e-5, abs=1e-6)
    return len(history)


@pytest.mark.fault(
    27,
    "`kill -9` of a training twice, and once for good",
    "its run has its curves while it trains and is continued, each step once; or becomes KILLED",
)
def test_a_killed_training_has_one_run(repo, tmp_path, seen):
    scratch.set_params(repo, {"cnn.epochs": 60, "cnn.patience": 60})
    log = tmp_path / "log"
    dvc = repro(repo, "train_cnn", log)
    wait_until_logged(log, "epoch 2/")
    processes.kill_tree(dvc.pid)
    dvc.wait()

    log.write_text("")
    dvc = repro(repo, "train_cnn", log)
    wait_until_logged(log, "continuing after epoch ")
    seen_while_training = wait_for_curves(store(repo), dvc)
    processes.kill_tree(dvc.pid)
    dvc.wait()
    assert seen_while_training.data.params["cnn.epochs"] == "60"

    assert repro(repo, "train_cnn", log).wait(600) == 0, log.read_text()
    [row] = [run for run in cnn_runs(store(repo)) if run.data.params["cnn.epochs"] == "60"]
    assert (row.info.run_id, row.info.status) == (seen_while_training.info.run_id, "FINISHED")
    assert check_curves(repo, store(repo), row) == 60

    scratch.set_params(repo, {"cnn.epochs": 59})
    dvc = repro(repo, "train_cnn", log)
    abandoned = wait_for_curves(store(repo), dvc)
    processes.kill_tree(dvc.pid)
    dvc.wait()
    scratch.set_params(repo, {"cnn.epochs": 2})
    assert repro(repo, "train_cnn", log).wait(600) == 0, log.read_text()
    assert MlflowClient(store(repo)).get_run(abandoned.info.run_id).info.status == "KILLED"
    assert not runs(store(repo), "attributes.status = 'RUNNING'")
    seen("one run, FINISHED, with 60 steps, each once; the one that other parameters followed is KILLED")


@pytest.mark.fault(
    27,
    "the MLflow server gone before, during and after a training",
    "before: one line; during: a warning; `python -m pipeline.tracking` adds the run later",
)
def test_a_server_that_is_gone(repo, tmp_path, seen):
    there = tmp_path
    before = processes.snapshot(repo)

    with server(*SERVER, folder=there) as (uri, process):
        environment = scratch.environment() | {"MLFLOW_TRACKING_URI": uri}

        def kill_server(training: subprocess.Popen) -> None:
            wait_for_line(training, "epoch 1/")
            stop(process)

        during = processes.run(TRAINING, cwd=repo, env=environment, meanwhile=kill_server, seconds=600)
    assert during.code == 0
    assert during.error().startswith(f"train_cnn: warning: MLflow at {uri} did not store this run")
    assert processes.snapshot(repo) == before  # the same weights as before, and no store here

    for command in (TRAINING, ["-m", "pipeline.tracking"]):
        gone = processes.run(command, cwd=repo, env=environment, seconds=600)
        assert gone.code == 1 and "no answer" in gone.error()
    assert processes.snapshot(repo) == before

    with server(*SERVER, folder=there) as (uri, _):
        environment = scratch.environment() | {"MLFLOW_TRACKING_URI": uri}
        first = processes.run(["-m", "pipeline.tracking"], cwd=repo, env=environment, seconds=600)
        assert first.code == 0 and "cnn in workspace-" in first.stdout, first.stderr
        again = processes.run(["-m", "pipeline.tracking"], cwd=repo, env=environment, seconds=600)
        assert again.stdout.count("already up to date") == 2
        [cnn] = runs(uri, "tags.model = 'cnn'")
        assert cnn.info.status == "FINISHED" and not runs(uri, "attributes.status = 'RUNNING'")
        epochs = check_curves(repo, uri, cnn)
        digest = hashlib.sha256((repo / "models/cnn.weights.h5").read_bytes()).hexdigest()
        assert cnn.data.tags["model.digest"] == digest and cnn.data.params["cnn.epochs"] == str(epochs)
        assert {"epoch.val_accuracy", "test.accuracy"} <= cnn.data.metrics.keys()
        assert "cnn.weights.h5" in {one.path for one in MlflowClient(uri).list_artifacts(cnn.info.run_id)}
    seen(
        f"gone before: “no answer”, exit code 1 after {gone.seconds:.0f} s; gone during: a warning, exit code 0, all"
        " outputs written; brought over afterwards with parameters, curves, metrics and weights, once"
    )


@pytest.mark.fault(
    27,
    "the MLflow server gone when a training has sent a part of its curves",
    "a warning; `python -m pipeline.tracking` completes the run",
)
def test_a_server_that_goes_between_two_epochs(repo, tmp_path, seen):
    scratch.set_params(repo, {"cnn.epochs": 60, "cnn.patience": 60})
    begun: list[Run] = []
    with server(*SERVER, folder=tmp_path) as (uri, process):
        environment = scratch.environment() | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}

        def kill_server(training: subprocess.Popen) -> None:
            begun.append(wait_for_curves(uri, training))
            stop(process)

        during = processes.run(TRAINING, cwd=repo, env=environment, meanwhile=kill_server, seconds=600)
    assert during.code == 0 and during.error().startswith("train_cnn: warning: MLflow at ")

    with server(*SERVER, folder=tmp_path) as (uri, _):
        environment["MLFLOW_TRACKING_URI"] = uri
        done = processes.run(["-m", "pipeline.tracking"], cwd=repo, env=environment, seconds=600)
        assert done.code == 0, done.stderr
        [cnn] = runs(uri, "tags.model = 'cnn'")
        assert (cnn.info.run_id, cnn.info.status) == (begun[0].info.run_id, "FINISHED")
        assert check_curves(repo, uri, cnn) == 60
        stages = {run.data.tags["stage"] for run in runs(uri, "tags.kind = 'stage'")}
    assert {"split", "audit"} <= stages
    seen(f"exit code 0 and a warning; the same run with 60 steps, each once; runs of {len(stages)} other stages added")
