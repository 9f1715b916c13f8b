"""`dvc repro` with independent stages side by side, which DVC itself does one after the other."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import yaml


def dependencies(folder: Path) -> dict[str, set[str]]:
    """The stages of dvc.yaml and, for each, the stages that write what it reads."""
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    entries = {name: [one for kind in ("outs", "metrics", "plots") for one in stage.get(kind, ())]
               for name, stage in stages.items()}  # fmt: skip
    written = {
        one if isinstance(one, str) else next(iter(one)): name for name, found in entries.items() for one in found
    }
    return {name: {written[dep] for dep in stage.get("deps", ()) if dep in written} for name, stage in stages.items()}


def repro(folder: Path, environment: Mapping[str, str], jobs: int = 2) -> None:
    """Run all stages, `jobs` at a time, each by a `dvc repro --single-item`, whose output is printed when it ends.

    Those with the most stages after them come first. DVC's locks keep dvc.lock whole. Raises CalledProcessError for a
    stage that failed, after those that ran beside it have ended.
    """
    needs = dependencies(folder)

    @cache
    def length(name: str) -> int:
        return 1 + max((length(other) for other, before in needs.items() if name in before), default=0)

    def run(name: str) -> None:
        command = ["python", "-m", "dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", name]
        variables = {**environment, "TQDM_DISABLE": "1"}  # nobody sees the progress
        done = subprocess.run(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(done.stdout, end="", flush=True)
        done.check_returncode()

    waiting, ended = sorted(needs, key=length, reverse=True), set[str]()
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            for name in [one for one in waiting if needs[one] <= ended][: jobs - len(running)]:
                waiting.remove(name)
                running[pool.submit(run, name)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                ended.add(running.pop(future))
