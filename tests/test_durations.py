"""Seconds and memory of the stages, read back from a store that the stages themselves wrote."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from face_mask.errors import UserError
from pipeline.tracking import stage_runs
from tools import durations

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory, migrated: Path) -> Path:
    """A workspace whose store holds two stages, one of them run twice, and one stage of other parameters."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    shutil.copy(migrated, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
            patch.delenv(name, raising=False)
        for seed, stages in ((1, ("other",)), (2, ("split", "evaluate", "evaluate"))):
            (folder / "params.yaml").write_text(f"seed: {seed}\n")
            for i, stage in enumerate(stages):
                stage_runs.log_stage(stage, params={}, started=time.time() - 100 + 10 * i)
    return folder


def test_it_shows_the_stages_of_the_current_parameters_once_in_order(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = durations.table()
    assert runs["stage"].tolist() == ["split", "evaluate"]
    assert runs["seconds"].tolist() == pytest.approx([100, 80], abs=8)
    assert (runs["peak MB"] > 10).all()
    lines = durations.shown(runs).splitlines()
    assert lines[0].split() == ["stage", "seconds", "peak", "MB"] and lines[-1].startswith("total")
    assert float(lines[-1].split()[1]) == pytest.approx(runs["seconds"].sum(), abs=0.1)


def test_other_parameters_have_other_runs_and_new_ones_none(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = (store / "params.yaml").read_text()
    try:
        (store / "params.yaml").write_text("seed: 1\n")
        assert durations.table()["stage"].tolist() == ["other"]
        (store / "params.yaml").write_text("seed: 3\n")
        with pytest.raises(UserError, match="no run with these parameters"):
            durations.table()
    finally:
        (store / "params.yaml").write_text(before)


def test_without_a_store_it_prints_one_line_and_creates_none(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "tools.durations"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "no run with these parameters: run `dvc repro` first" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()


def test_peak_memory_is_that_of_one_process():
    """A new process starts with the peak of the one that started it: a sum would count the stage twice."""
    code = (
        "import subprocess, sys; from pipeline.tracking import values\n"
        "large = b'1' * 300_000_000; before = values.resource_usage(0.0)\n"
        "subprocess.run([sys.executable, '-c', ''], check=True); after = values.resource_usage(0.0)\n"
        "print(before['peak_memory_mb'], after['peak_memory_mb'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert before > 300 and after == pytest.approx(before, rel=0.1)
