"""Trainings that diverge or hardly happen, and NaN in weights, predictions and histories."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.faults import finished_repository, processes
from tools import scratch


@pytest.fixture
def repo(tmp_path_factory, tmp_path) -> Path:
    return finished_repository.copy(finished_repository.build(tmp_path_factory), tmp_path / "repo", cache=False)


def run(repo: Path, stage: str) -> processes.Outcome:
    return processes.run(["-m", f"pipeline.{stage}"], cwd=repo, env=scratch.environment(), seconds=600)


def without_params(repo: Path) -> dict[str, bytes]:
    return {path: content for path, content in processes.snapshot(repo).items() if path != "params.yaml"}


@pytest.mark.full
@pytest.mark.fault(10, "a learning rate at which the training diverges", "one line with the parameter and the epoch")
def test_a_diverged_training_names_its_parameter_and_keeps_the_old_weights(repo, seen):
    before = without_params(repo)
    messages = []
    for stage, key, rate in (
        ("train_cnn", "cnn.learning_rate", 1e3),
        ("train_mobilenet", "mobilenet.head_learning_rate", 1e30),
        ("train_mobilenet", "mobilenet.fine_tune_learning_rate", 1e30),
    ):
        old = (repo / "params.yaml").read_text()
        scratch.set_params(repo, {key: rate, "cnn.batch_size": 8, "mobilenet.batch_size": 8})
        done = run(repo, stage)
        (repo / "params.yaml").write_text(old)
        assert done.code == 1
        messages.append(done.error())
        assert "diverged in epoch " in messages[-1] and f"lower {key} in params.yaml" in messages[-1]
        assert without_params(repo) == before
    seen(f"exit code 1, old weights intact: `{messages[0]}`")


@pytest.mark.full
@pytest.mark.fault(10, "a training of a single step", "it trains")
def test_one_step_in_total_trains(repo, seen):
    one_step = {"cnn.epochs": 1, "cnn.batch_size": 72, "mobilenet.batch_size": 72}
    scratch.set_params(repo, one_step)
    for model in ("cnn", "mobilenet"):
        old = (repo / f"models/{model}.weights.h5").read_bytes()
        done = run(repo, f"train_{model}")
        assert done.code == 0, done.stderr
        assert (repo / f"models/{model}.weights.h5").read_bytes() != old
    seen("exit code 0, new weights of both models")


@pytest.mark.full
@pytest.mark.fault(
    9, "NaN in weights, predictions and a history", "one line with the file, exit code 1; outputs intact"
)
def test_nan_is_refused_where_it_is_read(repo, seen):
    weights = repo / "models/cnn.weights.h5"
    with h5py.File(weights, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        kernel = file[max((name for name in names if isinstance(file[name], h5py.Dataset)), key=lambda n: file[n].size)]
        kernel[0] = np.nan
    messages = []

    def refused(stage: str, path: str) -> None:
        before = processes.snapshot(repo)
        done = run(repo, stage)
        assert done.code == 1 and path in done.error()
        assert processes.snapshot(repo) == before
        messages.append(done.error())

    refused("predict", "models/cnn.weights.h5 does not match dvc.lock")
    (repo / "dvc.lock").unlink()
    refused("predict", "models/cnn.weights.h5: the weights of ")
    for path, column in (("data/predictions.csv", -1), ("models/history_mobilenet.csv", 0)):
        old = (repo / path).read_text()
        lines = old.splitlines()
        fields = lines[2].split(",")
        fields[column] = "nan"
        (repo / path).write_text("\n".join([*lines[:2], ",".join(fields), *lines[3:]]) + "\n")
        refused("evaluate", f"{path} is damaged (line 3: nan is not a valid ")
        (repo / path).write_text(old)
    seen(f"exit code 1 in one line each, without dvc.lock: `{messages[1]}`")
