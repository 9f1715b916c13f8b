"""Parameters and modules edited while a stage runs: dvc.lock and MLflow never record what the stage did not see."""

from __future__ import annotations

import csv
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.faults import finished_repository, processes
from tests.faults.test_kills import process_of, repro, runs, store
from tools import scratch

pytestmark = pytest.mark.full
TRAINING = ["-u", "-m", "pipeline.train_cnn"]


@pytest.fixture
def repo(tmp_path_factory, tmp_path) -> Path:
    return finished_repository.copy(finished_repository.build(tmp_path_factory), tmp_path / "repository")


def wait_for_line(process: subprocess.Popen, text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"it ended without “{text}”, exit code {process.wait()}")


def wait_until_logged(log: Path, text: str) -> None:
    for _ in range(3000):
        if text in log.read_text():
            return
        time.sleep(0.05)
    pytest.fail(log.read_text())


def by_dvc(repo: Path, edit: Callable[[], object]) -> tuple[int, str]:
    """Run train_cnn by DVC and `edit` after its first epoch: the exit code, and the stage's last line."""
    log = repo.parent / f"{time.monotonic()}.log"
    dvc = repro(repo, "train_cnn", log)
    wait_until_logged(log, "epoch 1/")
    edit()
    code = dvc.wait(300)
    lines = [line for line in log.read_text().splitlines() if line.startswith("train_cnn:")]
    assert "Traceback" not in log.read_text(), log.read_text()
    return code, lines[-1]


def stopped(message: str) -> list[str]:
    """What train_cnn prints when it stops: before its next checkpoint, or after the last before its outputs."""
    return [
        f"train_cnn: {message}: {path} was not replaced; run `dvc repro` again"
        for path in ("models/.resume/cnn.npz", "models/history_cnn.csv")
    ]


def cnn_rows(repo: Path) -> list[tuple[str, str, str]]:
    """The run id, number of epochs and digest of each finished model row of the CNN."""
    found = runs(store(repo), "attributes.status = 'FINISHED' and tags.kind = 'model' and tags.model = 'cnn'")
    return [(run.info.run_id, run.data.params["cnn.epochs"], run.data.tags["model.digest"]) for run in found]


@pytest.mark.fault(
    3,
    "params.yaml edited while a stage runs",
    "one line with the parameter, exit code 1, no output replaced, no false lock",
)
def test_a_parameter_edited_during_a_training(repo, seen):
    lock, rows, before = (repo / "dvc.lock").read_bytes(), cnn_rows(repo), processes.snapshot(repo)

    def edit(process: subprocess.Popen) -> None:
        wait_for_line(process, "epoch 1/")
        scratch.set_params(repo, {"cnn.epochs": 3})

    outcome = processes.run(TRAINING, cwd=repo, env=scratch.environment(), meanwhile=edit)
    assert outcome.code == 1
    message = "params.yaml changed while the stage ran (cnn.epochs was 2, is 3)"
    assert outcome.error() in stopped(message)
    assert processes.snapshot(repo) == before | {"params.yaml": (repo / "params.yaml").read_bytes()}

    code, line = by_dvc(repo, lambda: scratch.set_params(repo, {"cnn.epochs": 4}))
    assert code == 255 and "cnn.epochs was 3, is 4" in line
    assert (repo / "dvc.lock").read_bytes() == lock and cnn_rows(repo) == rows

    # A parameter that the stage does not declare may change.
    code, line = by_dvc(repo, lambda: scratch.set_params(repo, {"evaluate.threshold": 0.6}))
    assert code == 0 and "best epoch" in line
    recorded = yaml.safe_load((repo / "dvc.lock").read_text())["stages"]["train_cnn"]["params"]["params.yaml"]
    with (repo / "models/history_cnn.csv").open() as file:
        assert recorded["cnn"]["epochs"] == len(list(csv.DictReader(file))) == 4
    assert "4" in [epochs for _, epochs, _ in cnn_rows(repo)]
    seen(f"“{message}”, exit code 1; dvc.lock and MLflow's row unchanged; the next repro ran 4 epochs and records 4")


@pytest.mark.fault(
    4,
    "a module edited while a stage starts or runs",
    "one line with its path, exit code 1, no output replaced, no false lock",
)
def test_a_module_edited_during_a_training(repo, seen):
    lock, rows, before = (repo / "dvc.lock").read_bytes(), cnn_rows(repo), processes.snapshot(repo)
    module = repo / "pipeline/models/cnn.py"
    code = module.read_text()

    def edit(process: subprocess.Popen) -> None:
        wait_for_line(process, "epoch 1/")
        module.write_text(f"{code}# edited\n")

    outcome = processes.run(TRAINING, cwd=repo, env=scratch.environment(), meanwhile=edit)
    assert outcome.code == 1
    message = "pipeline/models/cnn.py changed while the stage ran"
    assert outcome.error() in stopped(message)
    module.write_text(code)
    assert processes.snapshot(repo) == before

    # The stage's own module has been compiled, but no snapshot taken, when TensorFlow is being imported.
    log = repo.parent / "start.log"
    dvc = repro(repo, "train_cnn", log)
    process = process_of(dvc, "train_cnn")
    assert process is not None
    while not any("tensorflow" in mapped.path for mapped in process.memory_maps()):
        time.sleep(0.01)
    module.write_text(f"{code}# edited\n")
    assert dvc.wait(300) == 255
    assert "train_cnn: pipeline/models/cnn.py changed while the stage" in log.read_text()
    assert (repo / "dvc.lock").read_bytes() == lock and cnn_rows(repo) == rows

    module.write_text(code)
    status, line = by_dvc(repo, lambda: (repo / "pipeline/models/mobilenet.py").touch())
    assert status == 0 and "best epoch" in line and (repo / "dvc.lock").read_bytes() == lock
    seen(f"“{message}”, exit code 1, also while TensorFlow was being imported; then repro gives the same lock")
