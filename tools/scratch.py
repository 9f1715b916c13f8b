"""A copy of the working tree in which the whole graph can run without touching the workspace.

`make demo` and the end-to-end tests use it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml


def working_files() -> list[str]:
    """Return the paths, relative to the repository, of all existing files that Git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], capture_output=True, check=True
    )
    return sorted(path for path in listed.stdout.decode().split("\0") if path and Path(path).is_file())


def copy_tree(target: Path) -> None:
    """Copy the working tree to `target`, which becomes a separate DVC repository.

    Results of the workspace (dvc.lock, metrics, plots and report) are not copied: they belong to other parameters.
    """
    for path in working_files():
        if path == "dvc.lock" or path.startswith(("metrics/", "plots/", "report/")):
            continue
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def set_params(folder: Path, values: Mapping[str, object]) -> None:
    """Set dotted keys in the copy's params.yaml, which loses its comments. Raises KeyError for an unknown key."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for dotted, value in values.items():
        *sections, key = dotted.split(".")
        section = params
        for name in sections:
            section = section[name]
        if key not in section:
            raise KeyError(dotted)
        section[key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def environment() -> dict[str, str]:
    """Return the environment for commands in a copy: this interpreter's scripts first, no outer DVC, Git or MLflow."""
    outer = ("DVC_", "MLFLOW_TRACKING_URI", "PYTHONPATH", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
    scripts = str(Path(sys.executable).parent)
    return kept | {"PATH": scripts + os.pathsep + kept.get("PATH", ""), "DVC_NO_ANALYTICS": "1"}


def dvc(*arguments: str, folder: Path, **options) -> subprocess.CompletedProcess:
    """Run DVC in a copy, by default in `environment()`. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, check=True, **{"env": environment(), **options})
