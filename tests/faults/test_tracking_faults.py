"""MLflow: names of experiments, stores that do not exist yet, and a server that is gone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults import finished_repository, processes
from tests.faults.test_kills import runs, store
from tests.faults.test_provenance import TRAINING, wait_for_line
from tests.test_tracking import server, stop
from tools import scratch

pytestmark = pytest.mark.full
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


@pytest.mark.fault(
    27,
    "the MLflow server gone before, during and after a training",
    "before: one line; during: a warning; `python -m pipeline.tracking` adds the run later",
)
def test_a_server_that_is_gone(repo, tmp_path, seen):
    there = tmp_path / "server"
    there.mkdir()
    arguments = (
        "server",
        "--backend-store-uri",
        "sqlite:///mlflow.db",
        "--artifacts-destination",
        str(there / "files"),
    )
    before = processes.snapshot(repo)

    with server(*arguments, folder=there) as (uri, process):
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

    with server(*arguments, folder=there) as (uri, _):
        environment = scratch.environment() | {"MLFLOW_TRACKING_URI": uri}
        first = processes.run(["-m", "pipeline.tracking"], cwd=repo, env=environment, seconds=600)
        assert first.code == 0 and "cnn in workspace-" in first.stdout, first.stderr
        again = processes.run(["-m", "pipeline.tracking"], cwd=repo, env=environment, seconds=600)
        assert again.stdout.count("already up to date") == 2
        [cnn] = runs(uri, "tags.model = 'cnn'")
        digest = hashlib.sha256((repo / "models/cnn.weights.h5").read_bytes()).hexdigest()
        assert cnn.data.tags["model.digest"] == digest and cnn.data.params["cnn.epochs"] == "2"
        assert {"epoch.val_accuracy", "test.accuracy"} <= cnn.data.metrics.keys()
        assert "cnn.weights.h5" in {one.path for one in MlflowClient(uri).list_artifacts(cnn.info.run_id)}
    seen(
        f"gone before: “no answer”, exit code 1 after {gone.seconds:.0f} s; gone during: a warning, exit code 0, all"
        " outputs written; brought over afterwards with parameters, curves, metrics and weights, once"
    )
