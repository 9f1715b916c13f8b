"""`make store`: a real PostgreSQL, S3 and MLflow server. FACE_MASK_STORE_TESTS=1 runs it, in minutes."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from face_mask.errors import UserError
from tools import scratch, store

REPOSITORY = Path(__file__).parent.parent
PARAMS = "seed: 1\nimage_size: 64\nmodel: {dropout: 0.5}\ncnn: {learning_rate: 0.002}\nmobilenet: {batch_size: 32}\n"
STAGES, EPOCHS, MEGABYTES = 12, 3, 12  # artifacts above 8 MB are uploaded in several parts

# What the stages of a clone log, one after another as under `dvc repro`; a line per stage.
CLONE = f"""
import hashlib, os, sys, time
from pathlib import Path
from pipeline import tracking
from pipeline.tracking import stage_runs, values

number = int(sys.argv[1])
for i in range({STAGES}):
    tracking.check()
    started = time.time()
    path = Path(f"plots/stage_{{i}}.bin")
    path.write_bytes(os.urandom({MEGABYTES} * 1_000_000 if i == 3 else 10_000))
    metrics = {{"clone": number, "i": i, "sha": int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16)}}
    stage_runs.log_stage(f"stage_{{i}}", params={{"i": i}}, metrics=metrics, artifacts=[path], started=started)
    print(f"stage_{{i}}", flush=True)
for model in ("cnn", "mobilenet"):
    weights = Path(f"models/{{model}}.weights.h5")
    weights.write_bytes(os.urandom(1_000_000))
    digest = values.weights_digest(weights)
    history = [{{"epoch": epoch, "loss": number + 1 / epoch}} for epoch in range(1, {EPOCHS} + 1)]
    stage_runs.log_training(
        model, history=history, metrics={{}}, digest=digest, artifacts=[weights], started=time.time()
    )
    stage_runs.log_model_metrics(model, digest=digest, metrics={{"test.accuracy": 0.9 + number / 100}})
    print(f"train_{{model}}", flush=True)
"""


def skip_reason() -> str | None:
    """Why the store cannot run here."""
    if os.environ.get("FACE_MASK_STORE_TESTS") != "1":
        return "FACE_MASK_STORE_TESTS is not 1: minutes, needs PostgreSQL"
    try:
        store.executables(Path())
        store.program("rclone")
    except UserError as error:
        return str(error)
    return None


def test_a_database_is_stopped_if_sigterm_comes_while_it_starts(tmp_path, monkeypatch):
    database = object.__new__(store.Database)  # without the user that PostgreSQL wants
    database.folder, database.data = tmp_path, tmp_path / "data"
    database.data.mkdir()
    asked = []

    def control(*arguments):
        asked.append(arguments[0])
        if arguments[0] == "start":
            sys.exit(143)  # what SIGTERM does
        return arguments[0] == "stop"

    monkeypatch.setattr(database, "control", control)
    with pytest.raises(SystemExit), database.running():
        pass
    assert asked == ["status", "start", "stop"]


def test_what_is_missing_is_named_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(UserError, match=r"PostgreSQL 9\.6 is not installed: `apt-get install postgresql-9\.6`"):
        store.executables(tmp_path)
    monkeypatch.setattr(store, "PACKAGES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="rclone is not installed: run `make store`"):
        store.program("rclone")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=r"is not available .*: choose one with --port"):
            store.check_port("127.0.0.1", taken.getsockname()[1])
    first = store.keys(tmp_path)
    assert store.keys(tmp_path) == first and len(set(first.values())) == 3
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0


def start(folder: Path, port: int) -> subprocess.Popen:
    """Start the store as `make store` does and wait until it says its address."""
    command = [sys.executable, "-m", "tools.store", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout
    lines = [process.stdout.readline(), process.stdout.readline()]
    logs = "".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
    assert lines[1] == f"export MLFLOW_TRACKING_URI=http://127.0.0.1:{port}\n", (lines, logs)
    return process


def processes(folder: Path) -> list[psutil.Process]:
    """The processes of a store, PostgreSQL's included."""
    found = []
    for one in psutil.process_iter():
        try:
            if str(folder) in " ".join(one.cmdline()) or one.environ().get(store.MARK) == str(folder):
                found.append(one)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, which pytest's are not."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="store-") as made:
        path = Path(made).resolve()
        path.chmod(0o755)
        yield path
        for one in processes(path):
            one.kill()


def clone(path: Path) -> Path:
    """A workspace that logs to the store."""
    for name in ("models", "metrics", "plots"):
        (path / name).mkdir(parents=True)
    (path / "dvc.yaml").write_text("stages: {}\n")
    (path / "params.yaml").write_text(PARAMS)
    (path / "log.py").write_text(CLONE)
    return path


@pytest.mark.skipif(skip_reason() is not None, reason=str(skip_reason()))
def test_two_clones_log_at_once_while_the_database_restarts_and_nothing_is_lost(folder, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

    port = store.free_port()
    serving = start(folder, port)
    uri = f"http://127.0.0.1:{port}"
    environment = scratch.environment() | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(REPOSITORY)}
    clones = [clone(tmp_path / name) for name in ("first", "second")]  # of the same parameters
    logging = [
        subprocess.Popen(
            [sys.executable, "log.py", str(i)], cwd=path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=(path / "stderr").open("w"),
        )
        for i, path in enumerate(clones)
    ]  # fmt: skip
    database = store.Database(folder / "postgresql", store.keys(folder)["database"])
    for stage in ("stage_1\n", "stage_5\n", "stage_9\n"):
        for line in logging[0].stdout or ():
            if line == stage:
                break
        before = time.monotonic()
        assert database.control("restart", "-m", "immediate")
        print(f"restarted after {stage.strip()}: {time.monotonic() - before:.1f} s")
    for process, path in zip(logging, clones, strict=True):
        process.communicate(timeout=300)
        errors = (path / "stderr").read_text()
        assert process.returncode == 0 and errors == "", errors

    client = MlflowClient(uri)
    [experiment] = [one for one in client.search_experiments() if one.name == "face-mask"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in runs if run.data.tags["kind"] == "experiment"]
    ids = [hashlib.sha256(f"{platform.node()}:{path.resolve()}".encode()).hexdigest()[:12] for path in clones]
    assert sorted(run.data.tags["clone"] for run in parents) == sorted(ids)
    for number, path in enumerate(clones):
        [parent] = [run for run in parents if run.data.tags["clone"] == ids[number]]
        assert parent.data.params["cnn.learning_rate"] == "0.002"
        assert parent.data.metrics["cnn.test.accuracy"] == 0.9 + number / 100
        below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        names = [f"stage_{i}" for i in range(STAGES)]
        assert sorted(run.info.run_name for run in below) == sorted([*names, "cnn", "mobilenet"])
        assert {run.info.status for run in below} == {"FINISHED"}
        for run in below:
            name = run.info.run_name
            file = f"plots/{name}.bin" if name in names else f"models/{name}.weights.h5"
            got = client.download_artifacts(run.info.run_id, Path(file).name, str(tmp_path))
            assert Path(got).read_bytes() == (path / file).read_bytes()
            if name in names:
                assert run.data.params == {"i": name.removeprefix("stage_")}
                assert run.data.metrics["clone"] == number and run.data.metrics["sha"] > 0
            else:
                curve = client.get_metric_history(run.info.run_id, "epoch.loss")
                assert [point.value for point in curve] == [number + 1 / epoch for epoch in range(1, EPOCHS + 1)]

    # A store that was killed leaves servers behind; the next one ends them and has everything.
    serving.kill()
    serving.wait()
    serving = start(folder, port)
    assert len(client.search_runs([experiment.experiment_id], max_results=1000)) == len(runs)
    os.killpg(serving.pid, signal.SIGINT)  # as Ctrl-C does
    assert serving.wait(60) == 0
    assert processes(folder) == []
