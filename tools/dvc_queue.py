"""Run DVC's queue of experiments to its end, whatever was lost on the way.

DVC shows an experiment whose worker was killed as `Running` for ever, and never starts a failed one again. Here both
are queued again under their names and with their parameters. docs/experiments.md says how to use it.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import yaml

from face_mask import files
from face_mask.errors import UserError
from pipeline.core.values import flatten, text

EXPERIMENTS = Path(".dvc/tmp/exps")  # where DVC runs what is queued
POLL_SECONDS = 10
MOST_IN_VAIN = 6  # times that workers are started and none is there afterwards


def dvc(*arguments: str) -> str:
    """What a DVC command prints. Raises UserError if it fails."""
    # Into files, not pipes, which the workers that `queue start` leaves running hold open until they end.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, stdout=out, stderr=err, env=environment())
        out.seek(0)
        err.seek(0)
        if done.returncode:
            raise UserError(f"dvc {' '.join(arguments[:2])} failed: {err.read().strip()}")
        return out.read()


def environment() -> dict[str, str]:
    """That of DVC, which starts workers and stages by name: those of this Python, activated or not."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return os.environ | {"PATH": os.pathsep.join(folders)}


def git(*arguments: str) -> str | None:
    """What a Git command prints, without the last line break; None if it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8")
    return None if done.returncode else done.stdout.rstrip("\n")


def finish(jobs: int) -> None:
    """Run the queue of the current commit to its end with `jobs` workers.

    Raises UserError if one cannot be queued again, or no worker runs.
    """
    head = git("rev-parse", "HEAD") or ""
    entries = queue()
    if others := [name for rev, name, state in entries if state != "Success" and baseline(rev) != head]:
        print(f"of other commits, and not waited for: {', '.join(others)}", flush=True)
    for rev, name, state in entries:
        if state == "Failed" and baseline(rev) == head:
            queue_again(rev, name, head)
    before, in_vain = None, 0
    while True:
        # Whether a worker still has an experiment, DVC does not tell: its ping misses a worker on a busy machine.
        lost = not workers()  # before the queue is read: a worker ends by itself when it has nothing left to do
        left = [one for one in queue() if one[2] in ("Queued", "Running") and baseline(one[0]) == head]
        for rev, name, state in left:
            if state == "Running" and lost:
                end(rev)
                queue_again(rev, name, head)
        if not left:
            return
        in_vain = in_vain + 1 if lost and left == before else 0
        if in_vain == MOST_IN_VAIN:
            raise UserError("no worker of DVC goes on running: see .dvc/tmp/exps/celery/*.out")
        # Not if all are running: an idle worker would look like one of theirs, and it ends by itself.
        if lost or any(state == "Queued" for _, _, state in left):
            dvc("queue", "start", "--jobs", str(jobs))  # starts those that are missing
        before = left
        print(f"{len(left)} experiments to go", flush=True)
        time.sleep(POLL_SECONDS)


def queue() -> list[tuple[str, str, str]]:
    """Revision, name and state of what is in the queue: `dvc exp show` fails while one starts, or was killed then."""
    lines = [line.split() for line in dvc("queue", "status").splitlines()]
    return [(line[0], line[1], line[-1]) for line in lines if re.fullmatch("[0-9a-f]{7,40}", "".join(line[:1]))]


@cache
def baseline(rev: str) -> str | None:
    """The commit on which an experiment was queued."""
    return git("rev-parse", "--verify", "--quiet", f"{rev}^1")


def end(rev: str) -> None:
    """End what a lost worker has left of an experiment: its processes, its folder, and its state in the queue."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if "exec-run" in command and any(f"/{rev}" in argument for argument in command):
                ended = [process, *process.children(recursive=True)]
                for one in ended:
                    one.kill()
                psutil.wait_procs(ended, timeout=POLL_SECONDS)
    for path in EXPERIMENTS.glob(f"run/{rev}*/*.json"):
        # DVC would send a signal to the process, whose number another one may have by now.
        files.write_text(path, json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"returncode": -1}))
    for path in EXPERIMENTS.glob(f"run/{rev}*/*.run"):
        folder = Path(json.loads(path.read_text(encoding="utf-8"))["root_dir"])
        if folder.parent == EXPERIMENTS.resolve():
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(UserError):  # it has not started
        dvc("queue", "kill", rev)


def queue_again(rev: str, name: str, head: str) -> None:
    """Queue an experiment that did not end well under its name, so that MLflow has one run of it, and as it was queued.

    Raises UserError if it would start from other files than those of `head`, the commit on which it was queued.
    """
    check_workspace(head, f"{name} cannot be queued again")
    before, now = committed(head), committed(rev)
    changes = [f"{key}={override(value)}" for key, value in now.items() if before.get(key) != value]
    sets = [argument for change in changes for argument in ("-S", change)]
    dvc("exp", "run", "--queue", "--name", name, *sets, *targets(rev))
    dvc("queue", "remove", rev)  # last: interrupted before, it is queued twice, which costs only time
    print(f"queued again: {name} ({', '.join(changes)})", flush=True)


def check_workspace(head: str, what: str) -> None:
    """Raise UserError, with what cannot be done, if the files under version control are not those of commit `head`.

    DVC would take them, as they are, into an experiment.
    """
    if git("rev-parse", "HEAD") != head:
        raise UserError(f"{what}: the commit has changed; go back with `git switch --detach {head[:9]}`")
    if changed := git("status", "--porcelain", "--untracked-files=no"):
        path = changed.splitlines()[0][3:]
        raise UserError(f"{what}: {path} has changed since the commit; undo it, or put it aside with `git stash`")


def committed(rev: str) -> dict[str, Any]:
    """The parameters in a Git commit, flattened. Raises UserError if it has none."""
    content = git("show", f"{rev}:./params.yaml")
    if content is None:
        raise UserError(f"params.yaml of {rev[:8]} cannot be read: `dvc queue remove --all`, then queue again")
    return flatten(yaml.safe_load(content))


def targets(rev: str) -> list[str]:
    """The stages with which an experiment was queued, as DVC keeps them for its worker; none means all."""
    kept = subprocess.run(["git", "show", f"{rev}:./.dvc/tmp/repro.dat"], capture_output=True)
    if kept.returncode:
        raise UserError(f"the stages of {rev[:8]} cannot be read: `dvc queue remove --all`, then queue again")
    return pickle.loads(kept.stdout)["kwargs"]["targets"] or []


def override(value: object) -> str:
    """A value in the form of `dvc exp run -S`, where a comma in it would mean a sweep."""
    if not isinstance(value, str) or text(value) != value:  # the latter is `1e-5`
        return text(value)
    return "'" + value.replace("'", "\\'") + "'"


def workers() -> bool:
    """Whether a worker of this repository's queue is alive."""
    for process in psutil.process_iter():
        try:
            if "queue-worker" in process.cmdline() and Path(process.cwd()) == Path.cwd():
                return True
        except psutil.Error:  # another user's, or just ended
            continue
    return False
