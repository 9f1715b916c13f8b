"""tools.dvc_queue: what failed or lost its worker is queued again, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from face_mask.errors import UserError
from tests.test_sweep import CNN, GRAPH, create, end_workers, git
from tools import dvc_queue, scratch, sweep

HEAD = "e" * 40


class Queue:
    """DVC's queue, made up: an entry ends with the next `queue start`, and a worker lives for two rounds after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: dict[str, str], ends: dict[str, str]) -> None:
        self.state, self.ends, self.idle = state, ends, 3
        self.ran: list[tuple[str, ...]] = []
        values = {"a" * 7: {"cnn.rate": 0.5, "path": "a,'b"}, "b" * 7: {"cnn.rate": 9, "path": "x"}}
        monkeypatch.setattr(dvc_queue, "dvc", self.dvc)
        monkeypatch.setattr(dvc_queue, "workers", self.workers)
        monkeypatch.setattr(dvc_queue, "committed", lambda rev: values.get(rev, {"cnn.rate": 1.0, "path": "x"}))
        monkeypatch.setattr(dvc_queue, "git", lambda *arguments: HEAD if arguments[0] == "rev-parse" else "")
        monkeypatch.setattr(dvc_queue, "targets", lambda rev: ["evaluate", f"of-{rev[0]}"])
        monkeypatch.setattr(dvc_queue, "POLL_SECONDS", 0)
        dvc_queue.baseline.cache_clear()

    def workers(self) -> bool:
        self.idle += 1
        assert self.idle < 20, "goes on for ever"
        return self.idle <= 2

    def dvc(self, *arguments: str) -> str:
        if arguments == ("queue", "status"):
            lines = [f"{rev}  of-{rev[0]}  11:59 PM  {at}" for rev, at in self.state.items()]
            return "\n".join(["Task  Name  Created  Status", *lines, "", "Worker status: 0 active, 0 idle"])
        self.ran.append(arguments)
        if arguments[:2] == ("queue", "kill"):
            raise UserError("not running")
        if arguments[:2] == ("queue", "remove"):
            self.state[arguments[2]] = "Queued"  # the new one
        elif arguments[:2] == ("queue", "start"):
            self.idle = 0
            for rev, at in self.state.items():
                self.state[rev] = self.ends.get(rev, "Success") if at == "Queued" else at
        return ""


def test_what_lost_its_worker_or_failed_is_queued_again_with_its_parameters(monkeypatch, capsys):
    state = {"a" * 7: "Running", "b" * 7: "Failed", "c" * 7: "Queued", "d" * 7: "Success"}
    queue = Queue(monkeypatch, state, ends={"b" * 7: "Failed"})
    dvc_queue.finish(2)
    assert list(state.values()) == ["Success", "Failed", "Success", "Success"]
    assert queue.ran == [
        ("exp", "run", "--queue", "--name", "of-b", "-S", "cnn.rate=9", "evaluate", "of-b"),
        ("queue", "remove", "b" * 7),
        ("queue", "kill", "a" * 7),
        ("exp", "run", "--queue", "--name", "of-a", "-S", "cnn.rate=0.5", "-S", "path='a,\\'b'", "evaluate", "of-a"),
        ("queue", "remove", "a" * 7),
        ("queue", "start", "--jobs", "2"),
    ]
    assert "queued again: of-a (cnn.rate=0.5, path='a,\\'b')\n3 experiments to go" in capsys.readouterr().out


def test_one_that_lost_its_worker_is_found_when_the_other_workers_have_ended(monkeypatch):
    state = {"a" * 7: "Running", "c" * 7: "Queued"}
    queue = Queue(monkeypatch, state, {})
    queue.idle = 0  # of another worker
    dvc_queue.finish(2)
    assert set(state.values()) == {"Success"} and ("queue", "remove", "a" * 7) in queue.ran


def test_workers_that_do_not_run_are_an_error(monkeypatch):
    queue = Queue(monkeypatch, {"c" * 7: "Queued"}, ends={"c" * 7: "Queued"})
    monkeypatch.setattr(queue, "workers", lambda: False)
    monkeypatch.setattr(dvc_queue, "workers", lambda: False)
    with pytest.raises(UserError, match=r"no worker of DVC goes on running: see \.dvc/tmp/exps/celery"):
        dvc_queue.finish(1)


def test_experiments_of_another_commit_are_left_alone(monkeypatch, capsys):
    queue = Queue(monkeypatch, {"a" * 7: "Failed", "b" * 7: "Running", "c" * 7: "Success"}, {})
    monkeypatch.setattr(dvc_queue, "baseline", lambda rev: "f" * 40)
    dvc_queue.finish(1)
    assert not queue.ran
    assert capsys.readouterr().out == "of other commits, and not waited for: of-a, of-b\n"


def test_values_are_those_of_the_command_line():
    assert dvc_queue.override("1e-5") == "1e-05" and dvc_queue.override(True) == "true"
    assert dvc_queue.override(None) == "null"


def test_other_files_than_those_of_the_commit_become_no_part_of_an_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("a: 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    Path("new").touch()  # not under version control
    dvc_queue.check_workspace(head, "q")
    Path("params.yaml").write_text("a: 2\n")
    with pytest.raises(UserError, match=r"^q: params\.yaml has changed since the commit; undo it, or"):
        dvc_queue.check_workspace(head, "q")
    git(tmp_path, "commit", "-qam", "second")
    with pytest.raises(UserError, match=rf"^q: the commit has changed; go back with `git switch --detach {head[:9]}`"):
        dvc_queue.check_workspace(head, "q")


def test_what_a_lost_worker_leaves_is_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rev, other = "a" * 40, "b" * 40
    folders = {}
    for one in (rev, other):
        run = dvc_queue.EXPERIMENTS / "run" / one
        run.mkdir(parents=True)
        folders[one] = (dvc_queue.EXPERIMENTS / f"tmp{one[0]}").resolve()
        folders[one].mkdir()
        (run / f"{one}.json").write_text(json.dumps({"pid": os.getpid(), "returncode": None}))
        (run / f"{one}.run").write_text(json.dumps({"root_dir": str(folders[one])}))
    killed = []
    monkeypatch.setattr(dvc_queue, "dvc", lambda *arguments: killed.append(arguments))
    command = [sys.executable, "-c", "import time; time.sleep(60)", "exec-run", "--infofile"]
    running = {one: subprocess.Popen([*command, f"/run/{one}/{one}.run"]) for one in (rev, other)}
    try:
        dvc_queue.end(rev[:7])
        assert not psutil.pid_exists(running[rev].pid) and running[other].poll() is None
    finally:
        running[other].kill()
        running[other].wait()
    assert not folders[rev].exists() and folders[other].exists()
    codes = [json.loads(next(dvc_queue.EXPERIMENTS.glob(f"run/{one}/*.json")).read_text()) for one in (rev, other)]
    assert [one["returncode"] for one in codes] == [-1, None]
    assert killed == [("queue", "kill", rev[:7])]


def test_the_start_of_workers_does_not_wait_for_their_end(tmp_path, monkeypatch):
    worker = "import pathlib, time; time.sleep(30); pathlib.Path('ended').touch()"
    (tmp_path / "dvc.py").write_text(
        f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {worker!r}]).pid)\n"
    )
    monkeypatch.chdir(tmp_path)  # `python -m dvc` is this file then; like DVC's workers, its child has its output open
    pid = int(dvc_queue.dvc("queue", "start"))
    assert not Path("ended").exists()
    psutil.Process(pid).kill()


def kill_workers(folder: Path) -> None:
    """Kill the queue's workers alone; what they run lives on."""
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if process.info["cwd"] == str(folder) and "queue-worker" in (process.info["cmdline"] or ()):
            process.kill()


@pytest.mark.skipif(os.environ.get("FACE_MASK_SWEEP_TESTS") != "1", reason="FACE_MASK_SWEEP_TESTS is not 1: minutes")
@pytest.mark.parametrize("kill", [end_workers, kill_workers])
def test_a_sweep_of_two_workers_goes_on_after_kill_9(kill, tmp_path):
    create(tmp_path, GRAPH.replace("cmd: echo", "cmd: sleep 3; echo"))
    rates = ["0.01", "0.03", "0.04", "0.05"]
    scratch.dvc("exp", "run", "-q", "--queue", "-S", f"cnn.learning_rate={','.join(rates)}", folder=tmp_path)
    command = [sys.executable, "-m", "tools.sweep", "--jobs", "2"]
    environment = scratch.environment() | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    try:
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as first:
            while not list(tmp_path.glob(".dvc/tmp/exps/tmp*/dvc.yaml")):  # two of them run
                time.sleep(0.1)
            first.send_signal(signal.SIGKILL)
            kill(tmp_path)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    finally:
        end_workers(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "queued again" in done.stdout and "Best by cnn.val.accuracy (95.00 %)" in done.stdout
    table = pd.read_csv(tmp_path / sweep.OUT / "sweep.csv")
    assert sorted(table["cnn.learning_rate"]) == [0.01, 0.02, 0.03, 0.04, 0.05]  # that of the commit is 0.02
    assert table[CNN].notna().all()
    assert not list(tmp_path.glob(".dvc/tmp/exps/tmp*"))
