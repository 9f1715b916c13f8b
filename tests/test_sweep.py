"""tools.sweep: the table and the plot of queued experiments, in a small repository with real DVC and one worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from PIL import Image

from face_mask.errors import UserError
from tools import dvc_queue, scratch, sweep

CNN, MOBILENET = "cnn.val.accuracy", "mobilenet.val.accuracy"
GRAPH = """
stages:
  train_cnn:
    cmd: echo ${cnn.learning_rate} > weights
    params: [cnn.learning_rate]
    outs: [weights]
  evaluate:
    cmd: python evaluate.py ${model.dropout}
    params: [model]
    deps: [weights]
    metrics: [metrics/cnn.json: {cache: false}, metrics/mobilenet.json: {cache: false}]
"""
EVALUATE = """
import json, pathlib, sys
rate = float(pathlib.Path("weights").read_text())
assert rate < 1, "diverged"
for name, accuracy in ("cnn", 0.9 + rate), ("mobilenet", 0.98):
    metrics = {"val": {"accuracy": accuracy}, "test": {"accuracy": 0.9 - rate}}
    pathlib.Path("metrics", name + ".json").write_text(json.dumps(metrics))
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def create(folder: Path, graph: str = GRAPH) -> None:
    """A repository whose results are committed."""
    (folder / "metrics").mkdir()
    for name, content in {
        "dvc.yaml": graph,
        "evaluate.py": EVALUATE,
        "params.yaml": "seed: 1\nmodel: {dropout: 0.25}\ncnn: {learning_rate: 0.02}\n",
        "metrics/.gitignore": "",
    }.items():
        (folder / name).write_text(content)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "test")  # the worker commits
    git(folder, "config", "user.email", "test@example.org")
    scratch.dvc("init", "-q", folder=folder)
    scratch.dvc("repro", "-q", folder=folder)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "results")


def end_workers(folder: Path) -> None:
    """End the queue's workers, which wait for more, and what they run."""
    for process in psutil.process_iter(["cwd"]):
        if (process.info["cwd"] or "").startswith(str(folder)):
            process.kill()


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository whose queue of three experiments, of which the second fails, one worker has finished."""
    folder = tmp_path_factory.mktemp("sweep")
    create(folder)
    scratch.dvc("exp", "run", "-q", "--queue", "-S", "cnn.learning_rate=0.01,9,0.04", "evaluate", folder=folder)
    scratch.dvc("queue", "start", "-q", "--jobs", "1", folder=folder)
    deadline = time.monotonic() + 120
    done = ""
    while done.count("refs/exps/") < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
        done = git(folder, "for-each-ref", "refs/exps/*/*/*")  # the experiments that succeeded
    yield folder
    end_workers(folder)


def experiment(name: str, state: str = "done", cnn: float | None = None, **params: object) -> dict:
    metrics = {} if cnn is None else {CNN: cnn, MOBILENET: 0.98, "cnn.test.accuracy": 1 - cnn}
    return {"name": name, "state": state, "params": params, "metrics": metrics}


def test_the_table_of_a_queue_has_the_best_on_validation_first(repo, monkeypatch, capsys):
    monkeypatch.chdir(repo)
    for _ in range(20):  # the worker records the state after the result
        found = sweep.read()
        if not {"queued", "running"} & {one["state"] for one in found}:
            break
        time.sleep(0.5)
    names = {one["params"]["cnn.learning_rate"]: one["name"] for one in found}
    monkeypatch.setattr(sweep, "read", lambda: found)
    monkeypatch.setattr(sys, "argv", ["sweep"])
    sweep.main()
    out = capsys.readouterr().out
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [f"| **{names[0.04]}**", "| main", f"| {names[0.01]}", f"| {names[9]}"]
    assert rows[2][1:] == ["done", "0.04", "94.00 %", "98.00 %", "86.00 %", "86.00 % |"]
    assert [row[1] for row in rows[3:]] == ["commit", "done", "failed"]
    assert rows[5][2:] == ["9", "–", "–", "–", "– |"]  # dvc exp show has the metrics of the commit here
    assert f"Best by {CNN} (94.00 %): {names[0.04]}." in out
    table = pd.read_csv(sweep.OUT / "sweep.csv")
    assert table[CNN].tolist()[:3] == [0.94, 0.92, 0.91]
    assert (sweep.OUT / "sweep.md").read_text() in out
    with Image.open(sweep.OUT / "sweep.png") as image:
        assert image.width > 500 and len(image.getcolors(1 << 20) or ()) > 20
    monkeypatch.setattr(sys, "argv", ["sweep", "--out", "params.yaml/x"])
    with pytest.raises(UserError, match=r"--out params\.yaml/x is not a folder"):
        sweep.main()


def test_what_an_experiment_was_queued_with_is_known(repo, monkeypatch):
    monkeypatch.chdir(repo)
    (failed,) = [rev for rev, _, state in dvc_queue.queue() if state == "Failed"]
    assert dvc_queue.targets(failed) == ["evaluate"] and dvc_queue.committed(failed)["cnn.learning_rate"] == 9
    assert dvc_queue.baseline(failed) == git(repo, "rev-parse", "HEAD").strip()


def test_an_experiment_that_was_not_evaluated_has_no_metrics(repo):
    """`dvc exp run -S … train_cnn`: the metrics of the experiment are still those of the commit."""
    lock = sweep.lockfile.read(repo / "dvc.lock")
    params = {"seed": 1, "model.dropout": 0.25, "cnn.learning_rate": 0.02}
    path = "metrics/cnn.json"
    assert sweep.is_of(lock, path, params) and sweep.is_of(lock, path, params | {"seed": 2})
    assert not sweep.is_of(lock, path, params | {"model.dropout": 0.5})
    assert not sweep.is_of(lock, path, params | {"cnn.learning_rate": 0.5})  # of a stage before
    lock["train_cnn"]["outs"][0]["md5"] = "of another training"
    assert not sweep.is_of(lock, path, params)
    assert not sweep.is_of({}, path, params)


def test_the_metric_is_a_validation_accuracy_that_differs():
    experiments = [experiment("a", cnn=0.9), experiment("b", cnn=0.8)]
    assert sweep.choose_metric(experiments, None) == CNN
    experiments[0]["metrics"] |= {MOBILENET: 0.1, "cnn.hard_cases.val.accuracy": 0.5}
    assert sweep.choose_metric(experiments, None) == MOBILENET
    for metric in (CNN, "cnn.hard_cases.val.accuracy"):
        assert sweep.choose_metric(experiments, metric) == metric
    for metric in ("cnn.test.accuracy", "cnn.val.loss", "accuracy"):
        with pytest.raises(UserError, match=rf"{metric} is not an accuracy on validation images: use cnn\.hard_cas"):
            sweep.choose_metric(experiments, metric)


def test_equal_experiments_are_all_the_best():
    experiments = [experiment("a", cnn=0.9, seed=1), experiment("b", cnn=0.9, seed="x|y"), experiment("c", cnn=0.8)]
    rows, changed = sweep.table(experiments, CNN)
    assert changed == ["seed"]
    assert "(90.00 %, equal in 2 experiments): a, b." in (text := sweep.document(rows, changed, CNN))
    assert "**a**" in text and "**b**" in text and "**c**" not in text and "x\\|y" in text


def test_nothing_to_compare_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has no experiments"):
        sweep.table([experiment("main", "commit", cnn=0.9)], CNN)
    with pytest.raises(UserError, match="no experiment is evaluated"):
        sweep.table([experiment("main", "commit"), experiment("a", "failed")], CNN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "SHOW_AGAIN", ())
    with pytest.raises(UserError, match=r"dvc exp show failed: .*not inside of a DVC repository"):
        sweep.read()


@pytest.mark.parametrize("values", [[True, False], ["a", None], [1, 1], [0.1 * i for i in range(20)], [None, 3.5]])
def test_every_kind_of_parameter_has_a_place_in_the_plot(values, tmp_path):
    experiments = [experiment(f"e{i}", cnn=0.9 + 0.001 * i, one=value) for i, value in enumerate(values)]
    rows, changed = sweep.table(experiments, CNN)
    sweep.draw(rows, changed, CNN, tmp_path / "a.png")
    places, ticks = sweep.place(rows["one"] if changed else rows[CNN], percent=not changed)
    assert places.between(-0.05, 1.05).all() and all(0 <= at <= 1 for at in ticks)
