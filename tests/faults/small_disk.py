"""Run every stage of a finished repository on a disk that is full, and print what became of it, a JSON object a line.

    unshare --user --map-root-user --mount python -m tests.faults.small_disk FINISHED FOLDER STAGE...

The disk is a tmpfs in FOLDER, which only this process and its children see: its errors are those of the kernel, for
every writer. Each stage runs twice: with no space at all, and with too little for its largest output, so that the disk
is full after a random page of it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from tests.faults import finished_repository, processes
from tools import scratch

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
PAGE = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096


def available() -> bool:
    """Whether this machine lets a user mount a tmpfs of their own."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def resize(disk: Path, free_pages: int | None) -> None:
    """Leave so many pages free on the disk; None for plenty."""
    subprocess.run(["mount", "-o", "remount,size=4g", disk], check=True)
    if free_pages is not None:
        status = os.statvfs(disk)
        pages = (status.f_blocks - status.f_bfree) * status.f_frsize // PAGE + free_pages
        subprocess.run(["mount", "-o", f"remount,size={pages * PAGE}", disk], check=True)


def files_of(repo: Path, outputs: list[str]) -> list[Path]:
    found = [repo / output for output in outputs]
    return [path for one in found for path in (sorted(one.rglob("*")) if one.is_dir() else [one]) if path.is_file()]


def pages_of(path: Path) -> int:
    return -(-path.stat().st_size // PAGE)


def run(stage: str, repo: Path, disk: Path, free_pages: int, store: Path) -> dict:
    """Run a stage; return how it ended, which outputs it replaced or changed, and what it left behind."""
    before = {path: path.stat().st_ino for path in repo.rglob("*") if path.is_file()}
    contents = processes.snapshot(repo)
    env = scratch.environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}", "PYTHONDONTWRITEBYTECODE": "1"}
    resize(disk, free_pages)
    outcome = processes.run(["-m", f"pipeline.{stage}"], cwd=repo, env=env, seconds=600)
    after = {path: path.stat().st_ino for path in repo.rglob("*") if path.is_file()}
    resize(disk, None)
    now = processes.snapshot(repo)
    return {
        "stage": stage,
        "free_pages": free_pages,
        "code": outcome.code,
        "stderr": outcome.stderr,
        "peak_mb": outcome.peak_mb,
        "replaced": [path.relative_to(repo).as_posix() for path in before if before[path] != after.get(path)],
        "changed": [path for path in contents if contents[path] != now.get(path)],
        "left": [path.relative_to(repo).as_posix() for path in after if path not in before],
    }


def main() -> None:
    finished, disk, *wanted = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", disk], check=True)
    repo = finished_repository.copy(Path(finished), Path(disk) / "repo", cache=False)
    store = Path(disk).with_name("mlflow.db")
    random_page = random.Random(13)
    for stage, outputs in finished_repository.stages(repo).items():
        if not outputs or (wanted and stage not in wanted):
            continue
        largest = max(pages_of(path) for path in files_of(repo, outputs))
        for free_pages in sorted({0, random_page.randrange(largest)}):
            print(json.dumps(run(stage, repo, Path(disk), free_pages, store)), flush=True)


if __name__ == "__main__":
    main()
