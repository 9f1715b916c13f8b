"""A small repository in which `dvc repro` has finished, built once a session, and copies of it for tests to disturb.

    from tests.faults import finished_repository

    def test_something(tmp_path_factory, tmp_path, seen):
        repo = finished_repository.copy(finished_repository.build(tmp_path_factory), tmp_path / "repo")

The build takes 3 minutes on 2 idle cores, so a test that needs it is marked `full`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tools import scratch


def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the finished repository, shared by all processes of pytest-xdist. Do not change it: see `copy`."""
    base = tmp_path_factory.getbasetemp()
    if base.name.startswith("popen-"):  # a worker's own folder inside the session's
        base = base.parent
    with FileLock(base / "finished.lock"):
        if not (base / "finished").exists():
            unfinished = base / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            build_in(unfinished)
            unfinished.rename(base / "finished")
    return base / "finished"


def build_in(folder: Path) -> None:
    """Copy the working tree to `folder`, run the whole graph there on few synthetic images, and commit the results."""
    from tests.test_end_to_end import SMALL, git

    scratch.copy_tree(folder)
    scratch.set_params(folder, SMALL)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "code")
    try:
        scratch.dvc("repro", folder=folder, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error}\n{error.stdout}\n{error.stderr}")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "results")


def copy(finished: Path, target: Path, *, cache: bool = True) -> Path:
    """Copy the repository with its MLflow store; without DVC's cache, which half of its bytes are, if `cache` is off.

    The files of the workspace are separate from those of the cache, so that a test may overwrite either.
    """
    left_out = {finished / ".dvc" / name for name in ("tmp", *([] if cache else ["cache"]))}

    def ignore(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or Path(folder, name) in left_out}

    shutil.copytree(finished, target, ignore=ignore)
    for output in outputs(target):
        for path in (target / output).rglob("*") if (target / output).is_dir() else [target / output]:
            path.chmod(0o755 if path.is_dir() else 0o644)  # DVC protects what it has linked to its cache
    return target


def stages(repo: Path) -> dict[str, list[str]]:
    """All stages of dvc.yaml in its order, each with the paths of its outputs."""
    found = {}
    for name, stage in yaml.safe_load((repo / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, ())]
        found[name] = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    return found


def outputs(repo: Path) -> list[str]:
    """The paths of all stages' outputs."""
    return [path for paths in stages(repo).values() for path in paths]
