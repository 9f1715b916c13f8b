"""Run a command under a time and memory limit, and check how it ended."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_mb: float  # largest resident memory of the process and its children together, sampled every 20 ms

    def error(self) -> str:
        """The one line with which it ended: fails unless stderr has neither a traceback nor more lines of text."""
        lines = [line for line in self.stderr.splitlines() if line.strip() and "%|" not in line]
        assert "Traceback" not in self.stderr and len(lines) == 1, f"exit code {self.code}\n{self.stderr}"
        return lines[0]


def run(
    arguments: Sequence[str],
    *,
    cwd: Path,
    seconds: float = 120,
    env: Mapping[str, str] | None = None,
    meanwhile: Callable[[subprocess.Popen], None] | None = None,
) -> Outcome:
    """Run `python ARGUMENTS` in `cwd` and kill it after `seconds`, which fails the test.

    `meanwhile` is called with the running process, to disturb it. `env` replaces the whole environment if given.
    """
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace",
    ) as process:  # fmt: skip
        peak = [0.0]
        threading.Thread(target=watch, args=(process.pid, peak), daemon=True).start()
        try:
            if meanwhile is not None:
                meanwhile(process)
            stdout, stderr = process.communicate(timeout=seconds)
        except BaseException:
            kill_tree(process.pid)
            raise
    return Outcome(process.returncode, stdout, stderr, time.monotonic() - started, peak[0] / 1e6)


def watch(pid: int, peak: list[float]) -> None:
    """Keep the largest resident memory of a process and its children in `peak[0]`, in bytes, until it ends."""
    try:
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            used = 0
            for process in [root, *root.children(recursive=True)]:
                try:
                    used += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], used)
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return


def kill_tree(pid: int) -> None:
    """Kill a process and everything that it started."""
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for process in [*root.children(recursive=True), root]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes, to compare before and after, but for caches, stores and checkpoints."""
    skipped = {"__pycache__", ".dvc", ".git", ".resume", "mlartifacts"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not skipped & set(path.relative_to(folder).parts)
        and not path.name.startswith("mlflow.db")
    }
