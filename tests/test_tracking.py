"""MLflow rows as a user reads them back: from the default store, from a server, from `mlflow ui`."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pipeline
from face_mask import files, lockfile
from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline import tracking
from pipeline.core import params
from pipeline.core.values import flatten
from pipeline.tracking import curves, datasets, snapshot, stage_runs, sync, system_metrics, values
from pipeline.tracking import runs as tracking_runs
from pipeline.tracking.curves import Curves
from pipeline.tracking.store import tracking_uri

REPOSITORY = Path(__file__).parent.parent
PARAMS = """\
seed: 1
image_size: 64
split: {train: 0.8}
model: {dropout: 0.5}   # in both models
cnn: {learning_rate: 1e-5}
mobilenet: {epochs: 2}
evaluate: {threshold: 0.5}
"""
MINE = """
import sys, time
from pipeline import tracking
from pipeline.tracking import stage_runs
tracking.check()
stage_runs.log_stage(sys.argv[1], params={"a": 1}, metrics={"m": 2.0}, started=time.time())
"""


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace as it is after `dvc repro`, without a store; the working directory is in it."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a repo"
    for name in ("models", "metrics", "plots"):
        (folder / name).mkdir(parents=True)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "plots/roc.csv").write_text("fpr,tpr\n")
    for i, model in enumerate(MODELS):
        (folder / f"models/{model}.weights.h5").write_bytes(b"weights" * (i + 1))
        (folder / f"models/{model}.json").write_text("{}")
        (folder / f"metrics/{model}.json").write_text(json.dumps(evaluated(i)))
        (folder / f"metrics/unseen_{model}.json").write_text(json.dumps({"n": 90, "accuracy": (7 + i) / 10}))
        (folder / f"metrics/xai_{model}.json").write_text(json.dumps({"face_gain": 1.5, "none": None}))
        (folder / f"metrics/end_to_end_{model}.json").write_text(json.dumps({"detection": {"recall": 0.9}}))
        (folder / f"metrics/hard_cases_{model}.json").write_text(json.dumps({"test": {"accuracy": 0.7}}))
        (folder / f"metrics/live_{model}.json").write_text(json.dumps({"face_correct": 0.8}))
        with (folder / f"models/history_{model}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "phase", "loss", "val_accuracy"])
            writer.writeheader()
            writer.writerows(history(i))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def store(repo: Path, migrated: Path) -> Path:
    """The same with an empty default store."""
    shutil.copy(migrated, repo / "mlflow.db")
    return repo


def evaluated(i: int) -> dict:
    """What `evaluate` finds about model number i."""
    return {"train": {"accuracy": 0.99}, "val": {"accuracy": 0.95}, "test": {"n": 10, "accuracy": (90 + i) / 100}}


def history(i: int) -> list[dict]:
    return [
        {"epoch": epoch, "phase": "head", "loss": 1 / epoch, "val_accuracy": (50 + 10 * epoch + i) / 100}
        for epoch in (1, 2, 3)
    ]


def digest(model: str) -> str:
    return values.weights_digest(f"models/{model}.weights.h5")


def train(model: str, **changed: Any) -> None:
    """What stage train_MODEL logs."""
    logged: dict[str, Any] = {
        "params": {"model": {"dropout": 0.5}},
        "history": history(MODELS.index(model)),
        "metrics": {},
        "digest": digest(model),
        "artifacts": [Path(f"models/history_{model}.csv")],
        "started": time.time() - 5,
    }
    stage_runs.log_training(model, **(logged | changed))


def add_findings(model: str) -> None:
    """What evaluate, unseen_eval, xai and end_to_end log about a model."""
    for kind in ("", "unseen", "hard_cases", "xai", "end_to_end", "live"):
        path = Path(f"metrics/{kind}_{model}.json" if kind else f"metrics/{model}.json")
        found = flatten(json.loads(path.read_text()), f"{kind}." if kind else "")
        stage_runs.log_model_metrics(model, digest=digest(model), metrics=found)


def client(uri: str | None = None):
    from mlflow import MlflowClient

    return MlflowClient(uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}")


def runs(wanted: str = "", uri: str | None = None) -> list:
    """The active runs of the project's experiment, in the order of their names."""
    found = client(uri).get_experiment_by_name("face-mask")
    return sorted(client(uri).search_runs([found.experiment_id], wanted), key=lambda run: run.info.run_name)


def rows(uri: str | None = None) -> list:
    return runs("tags.kind = 'model'", uri)


def test_flatten_joins_keys_by_dots() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": None}, "e": "x"}) == {"a.b.c": 1, "a.d": None, "e": "x"}


def test_parameters_read_like_yaml() -> None:
    shown = [values.text(value) for value in (0.5, 1, True, None, "kaggle", "1e-5", 1e-5, [16, 32])]
    assert shown == ["0.5", "1", "true", "null", "kaggle", "1e-05", "1e-05", "[16, 32]"]


def test_params_are_read_again_if_an_editor_is_saving_them(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Path("params.yaml").read_text()
    Path("params.yaml").write_text("")
    monkeypatch.setattr(snapshot.time, "sleep", lambda seconds: Path("params.yaml").write_text(content))
    assert snapshot.saved_params()["seed"] is not None
    Path("params.yaml").write_text("")
    monkeypatch.setattr(snapshot.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="holds no keys"):
        snapshot.saved_params()


def test_one_row_a_model(store: Path) -> None:
    import mlflow
    import pandas as pd

    train("cnn")
    train("mobilenet", history=pd.DataFrame(history(1)))
    stage_runs.log_stage(
        "evaluate", params={"evaluate.threshold": 0.5}, metrics={"mcnemar_p": 0.3}, started=time.time()
    )
    for model in MODELS:
        add_findings(model)

    cnn, mobilenet = rows()
    assert [cnn.info.run_name, mobilenet.info.run_name] == ["cnn", "mobilenet"]
    assert cnn.data.params["model.dropout"] == mobilenet.data.params["model.dropout"] == "0.5"
    assert cnn.data.params["cnn.learning_rate"] == "1e-05"
    assert not [name for name in cnn.data.params if name.startswith(("mobilenet.", "evaluate."))]
    assert cnn.data.metrics["test.accuracy"] == 0.9
    assert mobilenet.data.metrics["test.accuracy"] == 0.91
    assert mobilenet.data.metrics["unseen.accuracy"] == 0.8
    assert cnn.data.metrics.keys() >= {"train.accuracy", "val.accuracy", "unseen.n", "xai.face_gain", "peak_memory_mb"}
    assert cnn.data.metrics["end_to_end.detection.recall"] == 0.9
    assert 5 <= cnn.data.metrics["seconds"] < 30
    assert cnn.info.end_time - cnn.info.start_time >= 5000
    curve = client().get_metric_history(mobilenet.info.run_id, "epoch.val_accuracy")
    assert [(point.step, point.value) for point in curve] == [(1, 0.61), (2, 0.71), (3, 0.81)]
    assert "epoch.phase" not in cnn.data.metrics
    assert "history_cnn.csv" in [artifact.path for artifact in client().list_artifacts(cnn.info.run_id)]
    assert list((store / "mlartifacts").rglob("history_cnn.csv"))

    [parent] = runs("tags.kind = 'experiment'")
    [evaluate] = runs("tags.stage = 'evaluate'")
    assert len(runs()) == 4
    assert {run.info.status for run in runs()} == {"FINISHED"}
    assert evaluate.data.tags["mlflow.parentRunId"] == cnn.data.tags["mlflow.parentRunId"] == parent.info.run_id
    table = mlflow.MlflowClient(f"sqlite:///{store / 'mlflow.db'}").search_runs(
        [parent.info.experiment_id], "tags.kind = 'model' and metrics.`test.accuracy` > 0.905"
    )
    assert [run.info.run_name for run in table] == ["mobilenet"]


def test_parent_has_all_parameters_and_both_models_main_metrics(store: Path) -> None:
    for model in MODELS:
        train(model, metrics={"best.val_loss": 0.25})
        add_findings(model)
    [parent] = runs("tags.kind = 'experiment'")
    assert parent.data.params == values.read_params()
    main = {"best.val_loss": 0.25, "val.accuracy": 0.95, "test.accuracy": 0.9, "unseen.accuracy": 0.7}
    assert parent.data.metrics == {f"cnn.{k}": v for k, v in main.items()} | {
        f"mobilenet.{k}": v for k, v in (main | {"test.accuracy": 0.91, "unseen.accuracy": 0.8}).items()
    }
    sync.main()
    sync.main()
    [again] = runs("tags.kind = 'experiment'")
    assert again.data.metrics == parent.data.metrics and again.data.tags == parent.data.tags
    assert len(client().get_metric_history(parent.info.run_id, "cnn.test.accuracy")) == 1


def test_parents_metrics_follow_the_models(store: Path) -> None:
    train("cnn", metrics={"best.val_loss": 0.25})
    add_findings("cnn")
    train("cnn", digest="other", metrics={"best.val_loss": 0.5})
    [parent] = runs("tags.kind = 'experiment'")
    assert parent.data.metrics["cnn.best.val_loss"] == 0.5
    assert math.isnan(parent.data.metrics["cnn.test.accuracy"])
    stage_runs.log_model_metrics("cnn", digest="other", metrics={"test.accuracy": 0.8})
    [parent] = runs("tags.kind = 'experiment'")
    assert parent.data.metrics["cnn.test.accuracy"] == 0.8
    assert math.isnan(parent.data.metrics["cnn.unseen.accuracy"])


def test_a_logged_model_gets_its_metrics_with_their_datasets_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that its training's row has, and those that later stages add."""
    monkeypatch.setattr(
        datasets, "current", lambda: {name: f"md5 of {name}" for name in (*datasets.TRAINING, *datasets.UNSEEN)}
    )
    train("cnn")
    stage_runs.log_model_metrics("cnn", digest=digest("cnn"), metrics={"test.accuracy": 0.9, "test.accuracy_low": 0.8})
    [row] = rows()
    tags = {"model.digest": digest("cnn")}
    model_id = client().create_logged_model(row.info.experiment_id, "cnn", row.info.run_id, tags).model_id
    for _ in range(2):
        stage_runs.log_model_metrics("cnn", digest=digest("cnn"), metrics={"unseen.accuracy": 0.7, "xai.gain": 2.0})
    found = client().get_logged_model(model_id).metrics
    assert {(one.key, one.value, one.dataset_name, one.dataset_digest) for one in found} == {
        ("test.accuracy", 0.9, datasets.TRAINING[0], f"md5 of {datasets.TRAINING[0]}"),
        ("unseen.accuracy", 0.7, datasets.UNSEEN[0], f"md5 of {datasets.UNSEEN[0]}"),
    }
    assert len(found) == 2
    assert len(client().get_metric_history(row.info.run_id, "test.accuracy")) == 1


def test_a_training_has_the_load_of_the_machine_while_it_ran(store: Path) -> None:
    with system_metrics.Monitor(interval=0.001, most=4) as monitor:
        while monitor.interval < 0.004:
            time.sleep(0.001)
    assert 2 <= len(monitor.samples) <= 4 and not monitor.thread.is_alive()
    train("cnn", system=monitor.samples)
    train("cnn")
    train("mobilenet", system=monitor.samples)
    again, row = rows()
    assert not any(name.startswith("system/") for name in again.data.metrics)
    history = client().get_metric_history(row.info.run_id, "system/process_memory_usage_megabytes")
    assert [one.timestamp for one in history] == [int(1000 * at) for at, _ in monitor.samples]
    assert all(one.value > 10 for one in history)


def begun(model: str = "cnn", *, state: str = "s", rows: int = 0, dead: bool = False) -> Curves:
    """The curves of a training after some epochs; `dead`: its process was killed then."""
    found = Curves(model, state, time.time())
    found.add([])
    found.add(history(MODELS.index(model))[:rows])
    found.stop(wait=True)
    assert found.run_id
    if dead:
        client().set_tag(found.run_id, tracking_runs.PROCESS, f"{os.getpid()} 1000000000")  # an earlier process
    return found


def points(run_id: str, name: str = "epoch.val_accuracy") -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in client().get_metric_history(run_id, name)]


ALL_POINTS = [(row["epoch"], row["val_accuracy"]) for row in history(0)]


def test_a_training_has_its_run_while_it_trains_and_the_same_in_the_end(store: Path) -> None:
    train("cnn", system=[(1e9, {"system/x": 1.0})])
    [before] = rows()
    client().delete_run(before.info.run_id)

    training = begun(rows=2)
    [run] = rows()
    assert (run.info.run_id, run.info.status, run.info.run_name) == (training.run_id, "RUNNING", "cnn")
    assert run.data.params == before.data.params and "model.digest" not in run.data.tags
    assert points(training.run_id) == ALL_POINTS[:2]
    add_findings("mobilenet")  # another stage changes nothing
    assert client().get_run(training.run_id).info.status == "RUNNING"

    train("cnn", system=[(1e9, {"system/x": 1.0})])
    after = next(one for one in rows() if one.info.run_name == "cnn")
    assert (after.info.run_id, after.info.status) == (training.run_id, "FINISHED")
    assert (after.data.params, after.data.tags) == (before.data.params, before.data.tags)
    cost = {"seconds": 0.0, "peak_memory_mb": 0.0}
    assert after.data.metrics | cost == before.data.metrics | cost
    for name in ("epoch.loss", "epoch.val_accuracy"):
        assert points(after.info.run_id, name) == points(before.info.run_id, name)
    assert len(rows()) == 2


def test_a_killed_training_goes_on_in_its_run(store: Path) -> None:
    killed = begun(rows=1, dead=True)
    stage_runs.log_stage("split", params={}, started=time.time())
    assert client().get_run(killed.run_id).info.status == "KILLED"
    resumed = begun(rows=3)
    assert resumed.run_id == killed.run_id
    assert client().get_run(killed.run_id).info.status == "RUNNING"
    train("cnn")
    [row] = rows()
    assert (row.info.run_id, row.info.status) == (killed.run_id, "FINISHED")
    assert points(killed.run_id) == ALL_POINTS


def test_a_training_with_another_state_starts_a_run_and_replaces_the_killed_one(store: Path) -> None:
    killed, other = begun(rows=1, dead=True), begun(state="other", rows=1)
    assert [client().get_run(one.run_id).info.status for one in (killed, other)] == ["KILLED", "RUNNING"]
    train("cnn")
    [row] = rows()
    assert row.info.run_id == other.run_id
    assert begun(state="", dead=True).run_id != begun(state="").run_id  # not declared: nothing to compare


def test_a_run_never_has_the_curves_of_two_trainings(store: Path) -> None:
    killed = begun(rows=2, dead=True)
    begun()  # started over, since its checkpoint was lost
    other = [row | {"val_accuracy": row["val_accuracy"] + 0.01} for row in history(0)]
    train("cnn", history=other)
    [row] = rows()
    assert row.info.run_id != killed.run_id
    assert points(row.info.run_id) == [(one["epoch"], one["val_accuracy"]) for one in other]


def test_a_corrected_clock_does_not_end_a_training(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = begun()
    created = tracking_runs.psutil.Process.create_time
    monkeypatch.setattr(tracking_runs.psutil.Process, "create_time", lambda process: created(process) + 3)
    stage_runs.log_stage("split", params={}, started=time.time())
    assert client().get_run(training.run_id).info.status == "RUNNING"
    train("cnn")
    assert rows()[0].info.run_id == training.run_id


def test_runs_of_killed_processes_do_not_stay_running(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = begun(dead=True)
    alive = begun("mobilenet")
    parent = client().get_run(training.run_id).data.tags["mlflow.parentRunId"]
    client().update_run(parent, status="RUNNING")  # killed while it logged
    monkeypatch.setenv("DVC_EXP_NAME", "another")
    sync.main()
    statuses = {one: client().get_run(one).info.status for one in (training.run_id, alive.run_id, parent)}
    assert statuses == {training.run_id: "KILLED", alive.run_id: "RUNNING", parent: "KILLED"}


@pytest.mark.parametrize(("error", "status"), [(UserError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_fails_keeps_its_curves_and_is_no_result(store: Path, error: type, status: str) -> None:
    train("cnn", digest="earlier")
    with pytest.raises(error), tracking.stage("train_cnn") as run:
        log = run.epochs("cnn", "s")
        log([])
        log(history(0)[:2])
        raise error("wrong")
    earlier, failed = sorted(rows(), key=lambda one: "model.digest" not in one.data.tags)
    assert (earlier.info.status, failed.info.status) == ("FINISHED", status)
    assert points(failed.info.run_id) == ALL_POINTS[:2]
    [parent] = runs("tags.kind = 'experiment'")
    assert not {"cnn.test.accuracy"} & parent.data.metrics.keys()
    stage_runs.log_model_metrics("cnn", digest="earlier", metrics={"test.accuracy": 0.5})
    [row] = rows()
    assert (row.info.run_id, row.data.metrics["test.accuracy"]) == (earlier.info.run_id, 0.5)


def test_a_store_that_is_away_does_not_hold_a_training_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, away, real = Curves("cnn", "s", time.time()), threading.Event(), curves.locked

    @contextmanager
    def locked() -> Iterator:
        assert away.wait(60)
        raise OSError("away")
        yield

    monkeypatch.setattr(curves, "locked", locked)
    started = time.time()
    for i in (0, 1):
        training.add(history(0)[i : i + 1])
    assert time.time() - started < 5
    away.set()
    assert training.last is not None
    training.last.result()
    assert training.failing and not points(training.run_id)
    monkeypatch.setattr(curves, "locked", real)
    training.add(history(0)[2:])
    training.last.result()
    training.stop()
    assert points(training.run_id) == ALL_POINTS and not training.failing


def test_sync_completes_the_run_of_a_training_that_the_store_lost(store: Path) -> None:
    """Unless its curves are those of another training."""
    killed = begun(rows=2, dead=True)
    edit("models/history_cnn.csv", "0.3333333333333333", "0.333333")  # as stages write it
    edit("models/history_cnn.csv", ",0.5,", ",0.4999999,")
    other = begun("mobilenet", rows=1, dead=True)
    client().log_metric(other.run_id, "epoch.loss", 7.0, step=2)
    sync.main()
    cnn, mobilenet = rows()
    assert (cnn.info.run_id, cnn.info.status, cnn.data.tags["model.digest"]) == (
        killed.run_id,
        "FINISHED",
        digest("cnn"),
    )
    assert points(killed.run_id) == ALL_POINTS and cnn.data.metrics["test.accuracy"] == 0.9
    assert not {tracking_runs.PROCESS, curves.STATE} & cnn.data.tags.keys()
    assert mobilenet.info.run_id != other.run_id and len(points(mobilenet.info.run_id)) == 3


def test_an_orphaned_training_does_not_touch_the_run_that_a_newer_one_continues(store: Path, monkeypatch) -> None:
    orphan = begun(rows=1, dead=True)
    newer = begun(rows=1)
    assert newer.run_id == orphan.run_id
    orphan.pool = newer.pool = ThreadPoolExecutor(1)
    client().set_tag(newer.run_id, tracking_runs.PROCESS, "1 1")  # another process
    with snapshot.taken("x"):
        monkeypatch.setattr(snapshot, "dvc_process", lambda: "another")
        orphan.add(history(0)[1:])
        orphan.end("FAILED")
    assert client().get_run(newer.run_id).info.status == "RUNNING"
    assert points(newer.run_id) == ALL_POINTS[:1]


def test_an_orphaned_training_ends_its_own_run(store: Path, monkeypatch) -> None:
    orphan = Curves("cnn", "s", time.time())
    with snapshot.taken("x"):
        orphan.add([])
        assert orphan.last is not None
        orphan.last.result()
        monkeypatch.setattr(snapshot, "dvc_process", lambda: "another")
        orphan.add(history(0))
        orphan.end("FAILED")
    assert client().get_run(orphan.run_id).info.status == "FAILED" and not points(orphan.run_id)


def test_an_earlier_store_gets_what_it_lacks(store: Path) -> None:
    experiment = client().create_experiment("face-mask", artifact_location=(store / "mlartifacts").as_uri())
    client().set_experiment_tag(experiment, "mlflow.experimentKind", "genai_development_inferred")
    client().set_experiment_tag(experiment, "mlflow.note.content", "mine")
    tags = {"kind": "experiment", **tracking_runs.experiment_tags()}
    parent = client().create_run(experiment, tags=tags, run_name="earlier").info.run_id
    tags = {"mlflow.parentRunId": parent, "stage": "train_cnn", "kind": "model", "model.digest": digest("cnn")}
    client().create_run(experiment, tags={**tags, "model": "cnn", "mlflow.note.content": "mine"}, run_name="cnn")
    sync.main()
    tags = client().get_experiment(experiment).tags
    assert tags == {**tags, "mlflow.experimentKind": "custom_model_development", "mlflow.note.content": "mine"}
    [parent] = runs("tags.kind = 'experiment'")
    assert parent.data.params["model.dropout"] == "0.5"
    assert parent.data.metrics["mobilenet.unseen.accuracy"] == 0.8
    assert parent.data.tags["mlflow.note.content"].startswith("DVC experiment `earlier`")
    cnn, mobilenet = rows()
    assert cnn.data.tags["mlflow.note.content"] == "mine"
    assert mobilenet.data.tags["mlflow.note.content"].startswith("Stage `train_mobilenet`: MobileNetV2")


def test_descriptions_say_what_a_run_is_and_which_parameters_were_changed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        who = "-c", "user.name=a", "-c", "user.email=a@example.org"
        return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    stage_runs.log_stage("evaluate", params={}, started=time.time())
    git("init", "--quiet")
    git("add", "params.yaml")
    git("commit", "--quiet", "--message", "one")
    monkeypatch.setenv("DVC_EXP_NAME", "dry-pond")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", commit := git("rev-parse", "HEAD"))
    Path("params.yaml").write_text(PARAMS.replace("dropout: 0.5", "dropout: 0.4") + "new: 1\n")
    stage_runs.log_stage("evaluate", params={}, started=time.time())
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "ab" * 20)  # which this repository does not have
    stage_runs.log_stage("unheard_of", params={}, started=time.time())

    found = {run.info.run_id: run.data.tags["mlflow.note.content"] for run in runs()}
    unknown, changed, plain = (found[run.info.run_id] for run in runs("tags.kind = 'experiment'"))
    if "abababab" not in unknown:
        unknown, changed = changed, unknown
    assert changed.startswith(f"DVC experiment `dry-pond` on commit `{commit[:8]}`. Parameters that differ from that")
    assert "commit: `model.dropout` 0.5 → 0.4, `new` missing → 1. The metrics" in changed
    assert "differ" not in unknown + plain
    first, second = runs("tags.stage = 'evaluate'")
    assert found[first.info.run_id].startswith("Stage `evaluate`: metrics and curves of both models")
    assert found[second.info.run_id] == found[first.info.run_id]
    assert any(note.startswith("Stage `unheard_of`. Param") for note in found.values())


def lock(*, weights: str | None = None, images: str = "images", unseen: str = "unseen") -> None:
    """Write dvc.lock: the current data and, with the digest of the weights, what the stages read that used them."""
    data = [{"path": "data/split/images.npy", "md5": images}, {"path": "data/split/manifest.csv", "md5": "split"}]
    faces = [{"path": "data/unseen/manifest.csv", "md5": unseen}]
    stages: dict[str, Any] = {
        "decode": {"outs": data[:1]},
        "split": {"outs": data[1:]},
        "unseen_faces": {"outs": faces},
    }
    if weights:
        made = {"path": "models/cnn.weights.h5", "md5": weights}
        stages |= {"train_cnn": {"deps": data, "outs": [made]}, "unseen_eval": {"deps": [*faces, made]}}
    Path("dvc.lock").write_text(json.dumps({"stages": stages}))


def datasets_of(run: Any) -> dict[str, tuple[str, str]]:
    return {
        one.dataset.name: (one.dataset.digest, one.tags[0].value)
        for one in client().get_run(run.info.run_id).inputs.dataset_inputs
    }


DATASETS = {
    "data/split/images.npy": ("images", "training"),
    "data/split/manifest.csv": ("split", "training"),
    "data/unseen/manifest.csv": ("unseen", "unseen"),
}


def test_rows_name_the_data_with_the_digests_in_dvc_lock(store: Path) -> None:
    lock()
    train("cnn")
    [cnn] = rows()
    assert datasets_of(cnn) == {name: found for name, found in DATASETS.items() if "split" in name}
    add_findings("cnn")
    lock(weights=lockfile.file_md5(Path("models/cnn.weights.h5")))
    sync.main()
    sync.main()
    assert datasets_of(rows()[0]) == DATASETS
    train("cnn")  # the same weights, so DVC evaluates nothing
    assert datasets_of(rows()[0]) == DATASETS


def test_sync_names_the_data_that_the_stages_read(store: Path) -> None:
    lock(weights=lockfile.file_md5(Path("models/cnn.weights.h5")))
    sync.main()
    cnn, mobilenet = rows()
    assert datasets_of(cnn) == DATASETS
    assert "data/split/images.npy" not in datasets_of(mobilenet)


def test_sync_names_no_training_data_of_other_weights(store: Path) -> None:
    lock(weights="of another training", images="other")
    sync.main()
    assert "data/split/images.npy" not in datasets_of(rows()[0])


def test_sync_gives_the_rows_that_logging_gives(store: Path, capsys: pytest.CaptureFixture) -> None:
    train("cnn")
    train("mobilenet")
    for model in MODELS:
        add_findings(model)
    logged = rows()
    parents = runs("tags.kind = 'experiment'")
    client().delete_run(parents[0].info.run_id)
    for run in logged:
        client().delete_run(run.info.run_id)

    sync.main()
    sync.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "already up to date" in line] == lines[2:]
    assert "cnn in workspace-" in lines[0]
    assert "5 parameters, 12 metrics" in lines[0]
    synced = rows()
    assert len(synced) == 2
    cost = {"seconds", "peak_memory_mb"}
    for before, after in zip(logged, synced, strict=True):
        assert after.data.params == before.data.params
        assert after.data.metrics == {k: v for k, v in before.data.metrics.items() if k not in cost}
        assert after.data.tags == before.data.tags | {"mlflow.parentRunId": after.data.tags["mlflow.parentRunId"]}
    names = {artifact.path for artifact in client().list_artifacts(synced[0].info.run_id)}
    assert names == {"history_cnn.csv", "cnn.json", "cnn.weights.h5"}


def test_sync_completes_rows_and_updates_changed_metrics(store: Path) -> None:
    train("cnn")
    sync.main()
    Path("metrics/cnn.json").write_text(json.dumps({"test": {"accuracy": 0.5}}))
    sync.main()
    cnn, mobilenet = rows()
    assert cnn.data.metrics["test.accuracy"] == 0.5
    assert "seconds" in cnn.data.metrics
    assert mobilenet.data.metrics["test.accuracy"] == 0.91
    assert len(client().get_metric_history(cnn.info.run_id, "epoch.loss")) == 3


def test_sync_leaves_out_metrics_of_earlier_weights(store: Path, capsys: pytest.CaptureFixture) -> None:
    stage = {
        "deps": [{"path": "models/cnn.weights.h5", "md5": "of before"}],
        "outs": [{"path": "metrics/cnn.json"}],
    }
    Path("dvc.lock").write_text(json.dumps({"stages": {"evaluate": stage}}))
    sync.main()
    assert "metrics/cnn.json belongs to an earlier cnn and is left out" in capsys.readouterr().out
    assert "test.accuracy" not in rows()[0].data.metrics
    assert rows()[0].data.metrics["unseen.accuracy"] == 0.7


def test_sync_adds_the_runs_that_stages_lack(store: Path, capsys: pytest.CaptureFixture) -> None:
    """From their outputs in dvc.lock, if these and the parameters are the same."""
    stage_runs.log_stage("predict", params={}, started=time.time())
    Path("metrics/data.json").write_text(json.dumps({"images": 12, "source": {"bytes": 5}, "name": "x"}))
    (Path("plots/xai")).mkdir()
    Path("plots/xai/one.png").write_bytes(b"png")

    def entry(*paths: str, **params: Any) -> dict[str, Any]:
        md5 = {path: lockfile.file_md5(Path(path)) if Path(path).is_file() else "0.dir" for path in paths}
        outs = [{"path": path, "md5": md5[path], "size": 9} for path in paths]
        return {"outs": outs, "params": {"params.yaml": params}}

    stages = {
        "predict": entry("plots/roc.csv"),
        "train_cnn": entry("models/history_cnn.csv"),
        "download": entry("metrics/data.json", "models/cnn.weights.h5", seed=1),
        "xai": entry("plots/xai", "metrics/xai_cnn.json", evaluate={"threshold": 0.5}),
        "split": entry("plots/roc.csv", seed=2),
        "evaluate": entry("metrics/cnn.json"),
        "decode": entry("models/cnn.weights.h5"),
    }
    Path("metrics/cnn.json").write_text("{}")
    Path("dvc.lock").write_text(json.dumps({"stages": stages}))
    sync.main()
    assert "runs added from dvc.lock and its files: download, xai\n" in capsys.readouterr().out
    download, predict, xai = runs("tags.kind = 'stage'")
    assert [run.info.run_name for run in (download, predict, xai)] == ["download", "predict", "xai"]
    assert (download.data.metrics, download.data.params) == ({"images": 12, "source.bytes": 5}, {"seed": "1"})
    assert (xai.data.metrics, xai.data.params, xai.info.status) == ({}, {"evaluate.threshold": "0.5"}, "FINISHED")
    names = [[one.path for one in client().list_artifacts(run.info.run_id)] for run in (download, xai)]
    assert names == [["data.json"], ["xai", "xai_cnn.json"]]
    sync.main()
    assert "added" not in capsys.readouterr().out and len(runs("tags.kind = 'stage'")) == 3


def test_sync_without_models_says_what_to_do(store: Path) -> None:
    shutil.rmtree("models")
    killed = begun(dead=True)
    with pytest.raises(UserError, match="dvc checkout"):
        sync.main()
    assert client().get_run(killed.run_id).info.status == "KILLED"


def test_sync_after_an_experiment_finds_its_rows(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "dry-pond")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "ab" * 20)
    train("cnn")
    monkeypatch.delenv("DVC_EXP_NAME")
    monkeypatch.delenv("DVC_EXP_BASELINE_REV")
    sync.main()
    assert [run.info.run_name for run in runs("tags.kind = 'experiment'")] == ["dry-pond"]
    assert [run.data.metrics["test.accuracy"] for run in rows()] == [0.9, 0.91]


def test_cached_training_gets_its_row_from_the_files(store: Path) -> None:
    add_findings("cnn")
    [cnn] = rows()
    assert cnn.data.params["cnn.learning_rate"] == "1e-05"
    assert cnn.data.metrics["epoch.val_accuracy"] == 0.8
    assert cnn.data.metrics["test.accuracy"] == 0.9


def test_two_experiments_side_by_side(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, dropout in (("dry-pond", "0.3"), ("wet-hill", "0.7")):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        Path("params.yaml").write_text(PARAMS.replace("dropout: 0.5", f"dropout: {dropout}"))
        train("cnn")
        add_findings("cnn")
    found = {run.data.tags["dvc.experiment"]: run for run in rows()}
    assert {name: run.data.params["model.dropout"] for name, run in found.items()} == {
        "dry-pond": "0.3",
        "wet-hill": "0.7",
    }
    assert all("test.accuracy" in run.data.metrics for run in found.values())
    assert len({run.data.tags["mlflow.parentRunId"] for run in found.values()}) == 2


def test_the_name_of_an_experiment_may_have_quotes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["o'brien", 'say-"it\'s"-日本']
    for name in (*names, *names):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        train("cnn")
    assert sorted(run.data.tags["dvc.experiment"] for run in rows()) == names
    assert sorted(run.info.run_name for run in runs("tags.kind = 'experiment'")) == names


def test_plain_repro_keeps_an_experiment_a_set_of_parameters(store: Path) -> None:
    train("cnn")
    Path("params.yaml").write_text(PARAMS.replace("dropout: 0.5", "dropout: 0.4"))
    train("cnn")
    Path("params.yaml").write_text(PARAMS.replace("   # in both models", ""))
    train("cnn")
    assert sorted(run.data.params["model.dropout"] for run in rows()) == ["0.4", "0.5"]


def test_a_stage_that_ran_again_has_one_row(store: Path) -> None:
    for threshold in (0.4, 0.6):
        stage_runs.log_stage("evaluate", params={"evaluate.threshold": threshold}, started=time.time())
    [run] = runs("tags.stage = 'evaluate'")
    assert run.data.params == {"evaluate.threshold": "0.6"}

    train("cnn")
    add_findings("cnn")
    train("cnn")  # the same weights, so DVC evaluates nothing
    [cnn] = rows()
    assert cnn.data.metrics["test.accuracy"] == 0.9
    train("cnn", digest="other")
    [cnn] = rows()
    assert cnn.data.tags["model.digest"] == "other"
    assert "test.accuracy" not in cnn.data.metrics


def test_a_parameter_once_written_stays(store: Path) -> None:
    train("cnn")
    Path("params.yaml").write_text(PARAMS)
    client().log_param(rows()[0].info.run_id, "later", "1")
    sync.main()
    assert rows()[0].data.params["later"] == "1"


def test_values_that_are_not_numbers_are_left_out(store: Path) -> None:
    metrics: dict[str, Any] = {"n": 3, "gap": float("nan"), "word": "x", "none": None}
    stage_runs.log_stage("split", params={}, metrics=metrics, started=time.time())
    [split] = runs("tags.stage = 'split'")
    assert set(split.data.metrics) == {"n", "seconds", "peak_memory_mb"}


def test_phases_that_count_from_one_make_one_curve(store: Path) -> None:
    train("cnn", history=[{"epoch": e, "loss": loss} for e, loss in ((1, 0.9), (2, 0.8), (1, 0.7), (2, 0.6))])
    curve = client().get_metric_history(rows()[0].info.run_id, "epoch.loss")
    assert [(point.step, point.value) for point in curve] == [(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)]


def test_store_is_dvc_roots(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `dvc exp run --temp` the stage runs below .dvc/tmp/exps, and DVC_ROOT is the repository."""
    workspace = store / ".dvc/tmp/exps/standalone"
    workspace.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(store / name, workspace)
    monkeypatch.setenv("DVC_ROOT", str(store))
    monkeypatch.setenv("DVC_EXP_NAME", "far-away")
    monkeypatch.chdir(workspace)
    stage_runs.log_stage("split", params={}, artifacts=[Path("params.yaml")], started=time.time())
    assert not list(workspace.glob("ml*"))
    monkeypatch.chdir(store)
    assert [run.info.run_name for run in runs()] == ["far-away", "split"]
    assert list((store / "mlartifacts").rglob("params.yaml"))


def test_a_relative_sqlite_uri_is_the_roots(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/other.db")
    monkeypatch.chdir(repo / "models")
    assert tracking_uri() == f"sqlite:///{repo.resolve()}/runs/other.db"


def test_a_missing_artifact_is_a_bug(store: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        stage_runs.log_stage("split", params={}, artifacts=[Path("nowhere.csv")], started=time.time())


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://user:secret@127.0.0.1:9", "no answer"),
        ("localhost:5000", "neither http"),
        ("./mlruns", "does not accept a folder"),
    ],
)
def test_check_names_variable_and_remedy(repo: Path, monkeypatch: pytest.MonkeyPatch, uri: str, said: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.time()
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI") as caught:
        tracking.check()
    assert time.time() - started < 6
    assert said in str(caught.value)
    assert "unset it" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_rejects_a_file_that_is_not_a_database(repo: Path) -> None:
    tracking.check()
    Path("mlflow.db").write_text("not a database at all")
    with pytest.raises(UserError, match=r"mlflow\.db is not an SQLite database"):
        tracking.check()


def test_check_loads_no_mlflow(repo: Path) -> None:
    code = "import sys; from pipeline import tracking; tracking.check(); print('mlflow' in sys.modules)"
    assert python("-c", code).stdout == "False\n"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own in the working directory, with the project on its path."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=400, check=True
    )


def test_four_processes_make_one_store(repo: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda i: python("-c", MINE, f"stage{i}"), range(4)))
    assert [process.stdout + process.stderr for process in done] == [""] * 4
    parent, *stages = sorted(runs(), key=lambda run: run.data.tags["kind"])
    assert [run.info.run_name for run in sorted(stages, key=lambda run: run.info.run_name)] == [
        f"stage{i}" for i in range(4)
    ]
    assert {run.data.tags["mlflow.parentRunId"] for run in stages} == {parent.info.run_id}
    assert all(run.data.metrics["m"] == 2 for run in stages)


@contextmanager
def server(*arguments: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A real MLflow server on loopback: its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", *arguments, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = folder / "server.log"
    lean = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # its GenAI workers only slow the start
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=lean, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}", process
    finally:
        stop(process)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(900):
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    pytest.fail(log.read_text())


def stop(process: subprocess.Popen) -> None:
    """End the server with its workers: they are one process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_elsewhere_and_its_death(
    repo: Path, migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    there = tmp_path / "server"
    there.mkdir()
    shutil.copy(migrated, there / "mlflow.db")
    arguments = (
        "server",
        "--backend-store-uri",
        "sqlite:///mlflow.db",
        "--artifacts-destination",
        str(there / "files"),
    )
    with server(*arguments, folder=there) as (uri, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracking.check()
        lock()
        train("cnn", artifacts=[Path("plots"), Path("models/history_cnn.csv")])
        sync.main()
        cnn, mobilenet = rows(uri)
        assert cnn.data.metrics["test.accuracy"] == 0.9
        assert mobilenet.data.metrics["unseen.accuracy"] == 0.8
        [parent] = runs("tags.kind = 'experiment'", uri)
        assert parent.data.params == values.read_params()
        assert parent.data.metrics["mobilenet.unseen.accuracy"] == 0.8
        assert [one.dataset.digest for one in cnn.inputs.dataset_inputs] == ["images", "split"]
        assert {one.path for one in client(uri).list_artifacts(cnn.info.run_id)} >= {"plots", "history_cnn.csv"}
        assert len(list((there / "files").rglob("history_cnn.csv"))) == 1
        assert len(list((there / "files").rglob("plots/roc.csv"))) == 1
        assert not list(repo.glob("ml*/*"))
        assert not (repo / "mlflow.db").exists()
        train("cnn", digest="other")
        [parent] = runs("tags.kind = 'experiment'", uri)
        assert math.isnan(parent.data.metrics["cnn.test.accuracy"])

        stop(process)
        capsys.readouterr()
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # by default it tries for half a minute
        started = time.time()
        train("cnn")
        assert time.time() - started < 60
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("train_cnn: warning: MLflow at http://127.0.0.1")
        assert "python -m pipeline.tracking" in line
        with pytest.raises(UserError, match="no answer"):
            sync.main()


def test_mlflow_ui_at_the_root_shows_the_rows(store: Path) -> None:
    sync.sync()
    with server("ui", "--backend-store-uri", "sqlite:///mlflow.db", folder=store) as (uri, _):
        names = [run.info.run_name for run in rows(uri)]
        artifacts = client(uri).list_artifacts(rows(uri)[0].info.run_id)
    assert names == ["cnn", "mobilenet"]
    assert "history_cnn.csv" in [artifact.path for artifact in artifacts]


def test_metrics_of_a_model_without_weights_are_a_warning_once_the_outputs_are_written(store, capsys) -> None:
    Path("models/cnn.weights.h5").unlink()
    with tracking.stage("evaluate") as run:
        for model in MODELS:
            run.log_model(model, evaluated(0))
        run.report("done")
    printed = capsys.readouterr().out
    assert "models/cnn.weights.h5 is missing" in printed and "run `dvc checkout`" in printed
    assert [row.data.tags["model"] for row in rows()] == ["mobilenet"]


GRAPH = """\
stages:
  evaluate:
    cmd: python -m pipeline.evaluate
    deps: [code, "${split.exclude}", missing.csv]
    params: [evaluate, cnn.learning_rate]
"""


@pytest.fixture
def declared(repo: Path, logged: list[dict], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose stage `evaluate` declares parameters and dependencies; nothing is sent to MLflow."""
    Path("dvc.yaml").write_text(GRAPH)
    Path("params.yaml").write_text(PARAMS.replace("{train: 0.8}", "{train: 0.8, exclude: exclude.txt}"))
    (repo / "code/__pycache__").mkdir(parents=True)
    for path in ("code/one.py", "code/__pycache__/one.pyc", "exclude.txt", "out.json"):
        Path(path).write_text("old")
    monkeypatch.setattr(pipeline, "STARTED", time.time() + 1)  # after the files were written, as it is for a stage
    return repo


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("params.yaml", "0.5}\n", "0.6}\n", r"params\.yaml changed while .* \(evaluate\.threshold was 0\.5, is 0\.6\)"),
        ("params.yaml", "evaluate", "valuate", r"\(evaluate\.threshold was 0\.5, is missing\)"),
        ("params.yaml", "0.5}\n", "0.5, bins: 3}\n", r"\(evaluate\.bins was missing, is 3\)"),
        ("code/one.py", "old", "new", r"code/one\.py changed while the stage ran"),
        ("exclude.txt", "old", "new", r"exclude\.txt changed while the stage ran"),
        ("params.yaml", "seed", "[", "not valid YAML"),
    ],
)
def test_a_stage_whose_inputs_change_replaces_nothing(declared: Path, path: str, old: str, new: str, said: str) -> None:
    with pytest.raises(UserError, match=said), tracking.stage("evaluate"):
        edit(path, old, new)
        files.write_text("out.json", "new")
    assert Path("out.json").read_text() == "old"
    files.write_text("out.json", "new")  # the check ends with the stage


def test_a_stage_whose_inputs_change_last_fails(declared: Path, logged: list[dict]) -> None:
    """DVC would read the parameters after its end."""
    with pytest.raises(UserError, match="its outputs are of the earlier state"), tracking.stage("evaluate"):
        files.write_text("out.json", "new")
        edit("params.yaml", "1e-5", "2e-5")


def test_what_a_stage_does_not_declare_may_change(declared: Path) -> None:
    with tracking.stage("evaluate"):
        edit("params.yaml", "seed: 1", "seed: 2")
        edit("params.yaml", "# in both models", "# a comment")
        edit("code/__pycache__/one.pyc", "old", "new")
        os.utime("code/one.py")
        files.write_text("out.json", "new")
        Path("missing.csv").write_bytes(b"0" * (snapshot.LARGEST + 1))
        files.write_text("out.json", "newer")
    assert Path("out.json").read_text() == "newer"


def test_a_stage_reads_its_parameters_once(store: Path) -> None:
    Path("dvc.yaml").write_text(GRAPH)
    before = values.read_params()
    with tracking.stage("evaluate"):
        edit("params.yaml", "seed: 1", "seed: 2")
        assert params.read()["seed"] == 1
    assert params.read()["seed"] == 2
    [evaluate] = runs("tags.stage = 'evaluate'")
    assert evaluate.data.params == {"evaluate.threshold": "0.5", "cnn.learning_rate": "1e-05"}
    edit("params.yaml", "seed: 2", "seed: 1")
    assert values.read_params() == before
    sync.main()
    assert len(runs("tags.kind = 'experiment'")) == 1  # the row is that of the parameters that the stage read


def test_a_module_that_changes_while_a_stage_starts(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been imported before, and its digest is taken only now."""
    monkeypatch.setattr(pipeline, "STARTED", time.time() - 60)
    with pytest.raises(UserError, match=r"code/one\.py changed while the stage started"), tracking.stage("evaluate"):
        pass
    monkeypatch.setattr(pipeline, "STARTED", time.time() + 60)  # the file is older, or its time is wrong
    with tracking.stage("evaluate"):
        pass


def test_a_stage_that_is_not_wanted_logs_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("cnn")
    [row] = rows()
    with pytest.raises(UserError, match="DVC was ended while the stage ran: nothing was logged"), snapshot.taken("x"):
        monkeypatch.setattr(snapshot, "dvc_process", lambda: "another")
        train("cnn", digest="other")
    assert [one.info.run_id for one in rows()] == [row.info.run_id]


def test_a_stage_whose_outputs_a_newer_dvc_has_removed_ends_in_one_line(store: Path, monkeypatch) -> None:
    """DVC removes a stage's outputs before it runs it again, which an orphan of the run before may find."""
    gone = Path("metrics/gone.json")
    wanted = pytest.raises(UserError, match="DVC was ended while the stage ran: nothing was logged")
    with wanted, tracking.stage("evaluate") as run:
        run.log_training("cnn", history=[], metrics={}, artifacts=[gone])  # nor are there weights
        monkeypatch.setattr(snapshot, "dvc_process", lambda: "another")
    with wanted, snapshot.taken("x"):
        monkeypatch.setattr(snapshot, "dvc_process", lambda: "another again")
        stage_runs.log_stage("evaluate", params={}, artifacts=[gone], started=0.0)
    with pytest.raises(FileNotFoundError, match=r"gone\.json was never written"):
        stage_runs.log_stage("evaluate", params={}, artifacts=[gone], started=0.0)


STAGE = """
import os, time
from pathlib import Path
from face_mask import errors, files
from pipeline.tracking import snapshot

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.02)

def main():
    Path("imported").touch()
    wait_for("begin")
    with snapshot.taken("evaluate"):
        Path("began").touch()
        wait_for("end")
        files.write_text("out.json", "new")

try:
    errors.run(main)
finally:
    Path("ended").touch()
"""
DVC = "import os, subprocess, sys; os.environ['DVC_STAGE'] = 'evaluate'; sys.exit(subprocess.call(sys.argv[1:]))"
PARENT = DVC.replace("os.environ['DVC_STAGE'] = 'evaluate'; ", "")


@pytest.mark.parametrize(
    ("parent", "wrapper", "killed", "said"),
    [
        (DVC, [], "", ""),
        (DVC, ["sh", "-c", '"$@"; exit $?', "sh"], "", ""),
        (DVC, ["nohup"], "", ""),
        (DVC, [], "imported", "DVC was ended while the stage started: nothing was replaced; run `dvc repro` again"),
        (DVC, [], "began", "DVC was ended while the stage ran: out.json was not replaced; run `dvc repro` again"),
        (DVC, ["sh", "-c", '"$@"; exit $?', "sh"], "began", "DVC was ended while the stage ran: out.json was not"),
        (PARENT, [], "began", ""),  # started by hand, in a terminal that was closed
        (PARENT, ["setsid"], "began", ""),
    ],
)
def test_a_stage_ends_with_dvc_and_not_with_a_shell(
    declared: Path, parent: str, wrapper: list[str], killed: str, said: str
) -> None:
    command = [sys.executable, "-c", parent, *wrapper, sys.executable, "-c", STAGE]
    environment = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    environment["PYTHONPATH"] = str(REPOSITORY)
    log = declared / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    for waited, allowed in (("imported", "begin"), ("began", "end"), ("ended", "")):
        for _ in range(3000):
            if Path(waited).exists() or (waited == "began" and Path("ended").exists()):
                break
            time.sleep(0.02)
        else:
            pytest.fail(f"{waited}: {log.read_text()}")
        if waited == killed:
            process.kill()
            process.wait()
        if allowed:
            Path(allowed).touch()
    process.wait()
    assert said in log.read_text() and len(log.read_text().splitlines()) <= 1, log.read_text()
    assert Path("out.json").read_text() == ("old" if said else "new")
