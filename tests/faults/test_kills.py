"""Every stage killed, and DVC killed while its stage lives on, each at three random moments."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.faults import finished_repository, processes
from tools import scratch

pytestmark = pytest.mark.full
KILLS = 3
START = 3  # seconds for Python's start and imports, which the seconds that a stage logs leave out
OTHER = {"seed": 7, "evaluate.threshold": 0.6, "image_size": 48}  # the first that a stage declares is changed
Interrupt = Callable[[subprocess.Popen, psutil.Process], None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return finished_repository.build(tmp_path_factory)


def runs(uri: str, wanted: str = "") -> list[Run]:
    """The project's active MLflow runs that match a filter, the earliest first."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("face-mask")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time ASC"]))


def store(repo: Path) -> str:
    return f"sqlite:///{repo / 'mlflow.db'}"


def seconds_of(finished: Path) -> dict[str, float]:
    """How long each stage took when the repository was built."""
    found = runs(store(finished))
    return {run.data.tags["stage"]: run.data.metrics["seconds"] for run in found if "stage" in run.data.tags}


def repro(repo: Path, stage: str, log: Path) -> subprocess.Popen:
    """Start `dvc repro` for one stage, which appends to `log` what both print."""
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", stage]
    environment = scratch.environment() | {"TMPDIR": str(log.parent)}
    with log.open("a") as out:
        return subprocess.Popen(command, cwd=repo, env=environment, stdout=out, stderr=subprocess.STDOUT)


def process_of(dvc: subprocess.Popen, stage: str) -> psutil.Process | None:
    """Wait until the stage's process exists; None if DVC ended before."""
    while dvc.poll() is None:
        try:
            for child in psutil.Process(dvc.pid).children(recursive=True):
                if child.cmdline()[1:3] == ["-m", f"pipeline.{stage}"]:
                    return child
        except psutil.Error:
            pass
        time.sleep(0.02)
    return None


def interrupt(repo: Path, stage: str, log: Path, *, seconds: float, moment: random.Random, how: Interrupt) -> None:
    """Start a stage and interrupt it at a random moment of its life; again, if it ended before."""
    while True:
        dvc = repro(repo, stage, log)
        process = process_of(dvc, stage)
        assert process is not None, log.read_text()
        started = time.monotonic()
        try:
            process.wait(moment.uniform(0, seconds))
        except psutil.TimeoutExpired:
            how(dvc, process)
            dvc.wait()
            return
        assert dvc.wait() == 0, log.read_text()
        seconds = time.monotonic() - started


def finish(repo: Path, stage: str, log: Path) -> None:
    """Run a stage undisturbed."""
    assert repro(repo, stage, log).wait(600) == 0, log.read_text()


def check(repo: Path, finished: Path, stage: str) -> None:
    """Everything is as it was: the lock, the outputs, one MLflow row, none that is RUNNING, and no temporary files."""
    assert (repo / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()
    for output in finished_repository.stages(finished)[stage]:
        for path in [finished / output] if (finished / output).is_file() else (finished / output).rglob("*"):
            assert (repo / path.relative_to(finished)).read_bytes() == path.read_bytes(), path
    assert not [path for path in repo.rglob(".[0-9]*") if ".dvc" not in path.relative_to(repo).parts]
    digest = runs(store(finished))[0].data.tags["params.digest"]
    rows = runs(store(repo), f"tags.stage = '{stage}' and tags.`params.digest` = '{digest}'")
    assert [run.info.status for run in rows] == ["FINISHED"], (stage, rows)
    assert not runs(store(repo), "attributes.status = 'RUNNING'")


def everywhere(finished: Path, folder: Path, one: Callable[[str, Path, float], None]) -> int:
    """Call `one` for every stage with a copy of the repository, two stages at a time; returns the number of stages."""
    seconds = seconds_of(finished)
    stages = list(finished_repository.stages(finished))

    def copied(stage: str) -> None:
        (folder / stage).mkdir()
        repo = finished_repository.copy(finished, folder / stage / "repository")
        one(stage, repo, START + seconds[stage])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(copied, stages))
    return len(stages)


@pytest.mark.fault(1, "`kill -9` of DVC and its stage at three random moments of every stage", "repro: the same lock")
def test_killed_stages_leave_nothing_wrong(finished, tmp_path, seen):
    def one(stage: str, repo: Path, seconds: float) -> None:
        moment, log = random.Random(f"1 {stage}"), repo.parent / "log"
        for _ in range(KILLS):
            interrupt(repo, stage, log, seconds=seconds, moment=moment, how=lambda dvc, _: processes.kill_tree(dvc.pid))
        finish(repo, stage, log)
        check(repo, finished, stage)

    stages = everywhere(finished, tmp_path, one)
    seen(f"{KILLS * stages} kills in {stages} stages: lock, outputs and MLflow rows as before, no temporary files left")


@pytest.mark.fault(
    2,
    "DVC alone killed at three random moments of every stage, other parameters next",
    "the stage that lives on replaces and logs nothing",
)
def test_stages_that_outlive_dvc_replace_nothing(finished, tmp_path, seen):
    """Each of them is stopped when DVC is killed and goes on when a newer run has finished, which is the worst case."""
    refused = []

    def one(stage: str, repo: Path, seconds: float) -> None:
        moment, log = random.Random(f"2 {stage}"), repo.parent / "log"
        declared = yaml.safe_load((repo / "dvc.yaml").read_text())["stages"][stage].get("params", [])
        changed = next((key for key in OTHER if {key, key.partition(".")[0]} & {*declared}), None)
        before = (repo / "params.yaml").read_bytes()
        orphans: list[psutil.Process] = []

        def kill_dvc(dvc: subprocess.Popen, process: psutil.Process) -> None:
            dvc.kill()
            with suppress(psutil.NoSuchProcess):  # it ended in this moment
                process.suspend()
                if any(file.path.endswith("mlflow.db.lock") for file in process.open_files()):
                    process.resume()  # it is logging, under a lock for which the next run would wait
                orphans.append(process)

        for i in range(KILLS):
            if changed:
                scratch.set_params(repo, {changed: OTHER[changed] + i / 100 if "." in changed else OTHER[changed] + i})
            interrupt(repo, stage, log, seconds=seconds, moment=moment, how=kill_dvc)
        (repo / "params.yaml").write_bytes(before)
        finish(repo, stage, log)
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        _, alive = psutil.wait_procs(orphans, 300)
        assert not alive
        check(repo, finished, stage)
        assert "Traceback" not in log.read_text(), log.read_text()
        refused.extend(re.findall("DVC was ended while the stage", log.read_text()))

    stages = everywhere(finished, tmp_path, one)
    assert len(refused) > KILLS * stages / 2
    seen(
        f"{KILLS * stages} kills in {stages} stages: {len(refused)} of the stages that lived on said so in one line and"
        " replaced nothing, the others had ended; lock, outputs and MLflow rows are those of the newer run"
    )
