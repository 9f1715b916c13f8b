"""tools.optimize: trials that fail, that lose their process, and several processes. Experiments are made up."""

from __future__ import annotations

import subprocess
import sys

import pytest

from face_mask.errors import UserError
from tools import optimize

KNOWN = {"cnn.learning_rate": 0.002, "cnn.epochs": 28, "cnn.teacher": "none"}
SETTINGS = ["cnn.learning_rate=0.0005:0.01:log", "cnn.epochs=5:9", "cnn.teacher=none,mobilenet"]
KILLED = """
import os, sys
from tools import optimize
optimize.run = lambda *_: os.kill(os.getpid(), 9)
optimize.search("tune", {"rate": (0.1, 0.2, True)}, 3, "cnn.val.accuracy", ["evaluate"])
"""


def test_ranges_and_lists_are_read():
    space = optimize.read_space(SETTINGS, KNOWN)
    assert space == {
        "cnn.learning_rate": (0.0005, 0.01, True),
        "cnn.epochs": (5, 9, False),
        "cnn.teacher": ["none", "mobilenet"],
    }
    with pytest.raises(UserError, match=r"params\.yaml has no cnn\.rate"):
        optimize.read_space(["cnn.rate=1:2"], KNOWN)
    for wrong in ("cnn.epochs=9:5", "cnn.epochs=1:2:3", "cnn.epochs=a:b"):
        with pytest.raises(UserError, match=r"not LOW:HIGH, LOW:HIGH:log or a list"):
            optimize.read_space([wrong], KNOWN)


def test_a_search_goes_on_after_kill_9(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    command = [sys.executable, "-c", KILLED]
    monkeypatch.setenv("PYTHONPATH", str(optimize.Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    assert subprocess.run(command).returncode == -9
    tried = []

    def run(name, values, metric, stages):
        tried.append((name, values["rate"]))
        return None if len(tried) == 2 else values["rate"]

    monkeypatch.setattr(optimize, "run", run)
    for _ in range(2):  # the second time there is nothing left to do
        optimize.search("tune", {"rate": (0.1, 0.2, True)}, 3, "cnn.val.accuracy", ["evaluate"])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "optimize: tune-0 lost its process and runs again"
    assert [name for name, _ in tried] == ["tune-1", "tune-2", "tune-3"]
    assert f"optimize: tune-1 {{'rate': {tried[0][1]}}}" in out[1] and out[2].endswith(": failed")
    best = max(tried[0], tried[2], key=lambda one: one[1])
    assert out[-1].startswith(f"optimize: best by cnn.val.accuracy: {best[0]} ({best[1]:.4f})")
