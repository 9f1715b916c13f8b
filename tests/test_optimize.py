"""tools.optimize: trials that fail, that lose their process, and several processes. Experiments are made up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from face_mask.errors import UserError
from tests.test_sweep import git
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
    for wrong in ("cnn.epochs=9:5", "cnn.epochs=1:2:3", "cnn.epochs=a:b", "cnn.epochs=[5,9]", "cnn.epochs"):
        with pytest.raises(UserError, match=r"not LOW:HIGH, LOW:HIGH:log or a list"):
            optimize.read_space([wrong], KNOWN)


def test_a_search_goes_on_after_kill_9(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    command = [sys.executable, "-c", KILLED]
    monkeypatch.setenv("PYTHONPATH", str(optimize.Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "first", "--allow-empty")
    assert subprocess.run(command).returncode == -9
    tried = []

    def run(name, values, metric, stages, head):
        tried.append((name, values["rate"]))
        if len(tried) == 1:
            return "PRUNED", None
        return ("FAIL", None) if len(tried) == 3 else ("COMPLETE", values["rate"])

    monkeypatch.setattr(optimize, "run", run)
    for _ in range(2):  # the second time there is nothing left to do
        optimize.search("tune", {"rate": (0.1, 0.2, True)}, 3, "cnn.val.accuracy", ["evaluate"])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "optimize: tune-0 lost its process and runs again"
    assert [name for name, _ in tried] == ["tune-1", "tune-2", "tune-3", "tune-4"]
    assert out[1] == f"optimize: tune-1 {{'rate': {tried[0][1]}}}: was taken by another process, and runs again"
    assert tried[1][1] == tried[0][1] and out[3].endswith(": failed")
    best = max(tried[1], tried[3], key=lambda one: one[1])
    assert out[-1].startswith(f"optimize: best by cnn.val.accuracy: {best[0]} ({best[1]:.4f})")


def test_a_study_belongs_to_a_commit_and_to_its_values(tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "first", "--allow-empty")
    monkeypatch.setattr(optimize, "run", lambda *_: ("COMPLETE", 0.9))
    optimize.search("tune", {"rate": [1, 2]}, 1, "cnn.val.accuracy", ["evaluate"])
    with pytest.raises(UserError, match="give the values of the first call, or use another NAME"):
        optimize.search("tune", {"rate": [1, 3]}, 2, "cnn.val.accuracy", ["evaluate"])
    git(tmp_path, "commit", "-qm", "second", "--allow-empty")
    with pytest.raises(UserError, match="the trials of tune cannot go on: the commit has changed"):
        optimize.search("tune", {"rate": [1, 2]}, 9, "cnn.val.accuracy", ["evaluate"])
    journal = optimize.FOLDER / "tune.log"
    journal.write_bytes(journal.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"tune\.log ends in the middle of a line"):
        optimize.search("tune", {"rate": [1, 2]}, 9, "cnn.val.accuracy", ["evaluate"])


WAITS = """
import pathlib, signal, sys, time
try:
    print("started", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    time.sleep(1)  # DVC removes the folder of its experiment
    print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_waits_for_its_experiment(number):
    code = (
        "import sys\nfrom face_mask import errors\nfrom tools import optimize\n"
        f"errors.run(lambda: optimize.to_the_end([sys.executable, '-c', {WAITS!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, process_group=0) as search:
        assert search.stdout and search.stdout.readline() == "started\n"
        if number == signal.SIGINT:
            os.killpg(search.pid, number)  # as a terminal does
        else:
            search.send_signal(number)
        assert search.stdout.read() == "ended\n"
    assert search.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
