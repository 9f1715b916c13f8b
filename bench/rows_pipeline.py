"""Benchmarks of `dvc repro`: with nothing to do, after a parameter, and after a change of one module."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.measure import Options, Row, Unavailable, benchmark, interleave, row
from tools import scratch

LEFT_OUT = {".git", ".venv", ".bench-venv", ".store", ".demo", "mlartifacts", "tmp", "__pycache__"}
LINKED_BYTES = 1 << 20  # larger files are linked: stages replace files and do not write into them
PARAMETER = "report.overfit_gap"
MODULES = ("pipeline/reporting/charts.py", "face_mask/annotate.py")  # of the stage report; of no stage
RUNS = re.compile(r"^Running stage '(\w+)'", re.MULTILINE)


@contextmanager
def copied(workspace: Path) -> Iterator[Path]:
    """A copy of a workspace in which stages may run, without its Git repository; DVC's cache is linked as well."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for parent, folders, names in os.walk(workspace):
            folders[:] = [one for one in folders if one not in LEFT_OUT]
            target = folder / Path(parent).relative_to(workspace)
            target.mkdir(exist_ok=True)
            for one in names:
                source = Path(parent) / one
                try:
                    if source.stat().st_size < LINKED_BYTES or source.suffix == ".db":
                        raise OSError
                    os.link(source, target / one)
                except OSError:  # also: on another file system
                    shutil.copy2(source, target / one)
        scratch.dvc("config", "--local", "core.no_scm", "true", folder=folder)
        yield folder


def repro(folder: Path, *arguments: str) -> tuple[float, list[str]]:
    """Seconds of `dvc repro`, and the stages that ran."""
    start = time.perf_counter()
    done = scratch.dvc("repro", *arguments, folder=folder, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    return time.perf_counter() - start, RUNS.findall(done.stdout)


@benchmark("repro")
def nothing_to_do(options: Options) -> list[Row]:
    options.path("data/split/manifest.csv")
    with copied(options.workspace) as folder:
        _, stages = repro(folder, "--dry")  # also hashes all files, which DVC remembers
        if stages:
            raise Unavailable(f"{stages[0]} of the workspace has changed: run `dvc repro`")

        def nothing() -> float:
            seconds, stages = repro(folder)
            if stages:
                raise RuntimeError(f"{stages} ran again without a change")
            return seconds

        rows = [
            row(
                "dvc repro with nothing to do",
                "s",
                interleave({"ours": nothing}, options.repeats(7)),
                higher_is_better=False,
                goal=3,
                how="In a copy of the workspace, the start of DVC included.",
            )
        ]
        gap = float(re.findall(r"overfit_gap: ([\d.]+)", (folder / "params.yaml").read_text(encoding="utf-8"))[0])
        changes = {f"after another {PARAMETER}": partial(scratch.set_params, folder, {PARAMETER: gap + 0.001})}
        for module in MODULES:
            changes[f"after a comment in {module}"] = partial(append_comment, folder / module)
        for name, change in changes.items():
            change()
            seconds, stages = repro(folder)
            rows.append(
                row(
                    f"dvc repro {name}",
                    "s",
                    {"ours": [seconds]},
                    higher_is_better=False,
                    how="In the same copy, once.",
                    note=f"Stages that ran: {', '.join(stages) or 'none'}.",
                )
            )
    return rows


def append_comment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.unlink()
    path.write_text(text + "# a comment\n", encoding="utf-8")
