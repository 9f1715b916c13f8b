"""What a stage depends on as it was when the stage started, and whether the stage is still wanted when it writes.

DVC hashes the parameters and modules of a stage after it has ended. If one was edited meanwhile and the stage
succeeded, dvc.lock would record a value that the stage never saw. And a stage lives on when DVC is killed: it must not
replace what a later `dvc repro` wrote.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

import pipeline
from face_mask import files, settings
from face_mask.errors import UserError
from pipeline.core import params
from pipeline.tracking.store import workspace
from pipeline.tracking.values import as_text, selected

LARGEST = 1_000_000  # bytes; DVC's locks protect the data, and hashing it would take seconds
AGAIN = "run `dvc repro` again"


@dataclass(frozen=True)
class Snapshot:
    names: list[str]  # of the declared parameters
    params: dict[str, str]
    deps: list[Path]
    digests: dict[Path, str]
    dvc: psutil.Process | None


_taken: Snapshot | None = None


@contextmanager
def taken(stage: str) -> Iterator[dict[str, str]]:
    """Take the snapshot of a stage and yield its parameters, flattened; `check` compares with it until the end.

    Until then the parameters are not read again. Outside a DVC workspace there is nothing to compare.
    """
    global _taken
    with params.read_once(workspace() / params.PATH) as values:
        declared = declaration(stage, values)
        names = declared.get("params", [])
        deps = [workspace() / dep for dep in declared.get("deps", [])]
        read = selected(as_text(values), names)
        _taken = Snapshot(names, read, deps, digests(deps), dvc_process())
        files.before_replacing = lambda path: check(f"{path} was not replaced")
        try:
            if os.environ.get("DVC_STAGE") and not _taken.dvc:
                raise UserError(f"DVC was ended while the stage started: nothing was replaced; {AGAIN}")
            # These were imported before their digests were taken; a time in the future is a wrong clock, not a change.
            for path in _taken.digests:
                if path.suffix == ".py" and pipeline.STARTED < path.stat().st_ctime <= time.time():
                    raise UserError(f"{relative(path)} changed while the stage started: {AGAIN}")
            yield read
        finally:
            files.before_replacing = files.allow
            _taken = None


def check(consequence: str) -> None:
    """Raise UserError if the running stage is no longer wanted, with the reason, `consequence` and what to do."""
    if _taken is None:
        return
    if _taken.dvc != dvc_process():
        raise UserError(f"DVC was ended while the stage ran: {consequence}; {AGAIN}")
    now = selected(as_text(saved_params()), _taken.names) if _taken.names else {}
    for name in sorted(_taken.params.keys() | now.keys()):
        before, after = (values.get(name, "missing") for values in (_taken.params, now))
        if before != after:
            raise UserError(
                f"params.yaml changed while the stage ran ({name} was {before}, is {after}): {consequence}; {AGAIN}"
            )
    found = digests(_taken.deps)
    for path in sorted(_taken.digests.keys() | found.keys()):
        if _taken.digests.get(path) != found.get(path):
            raise UserError(f"{relative(path)} changed while the stage ran: {consequence}; {AGAIN}")


def saved_params() -> dict[str, Any]:
    """The values in params.yaml, read again after a second if it is not valid, since an editor may be saving it."""
    path = workspace() / params.PATH
    try:
        return settings.read(path)
    except UserError:
        time.sleep(1)
        return settings.read(path)


def declaration(stage: str, values: dict[str, Any]) -> dict[str, Any]:
    """The entry of a stage in dvc.yaml with the parameters in it filled in; empty if there is none."""
    try:
        entry = yaml.safe_load((workspace() / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return {}
    flat = as_text(values)
    deps = [re.sub(r"\$\{(.+?)\}", lambda found: flat.get(found[1], found[0]), dep) for dep in entry.get("deps", [])]
    return {**entry, "deps": deps}


def digests(deps: list[Path]) -> dict[Path, str]:
    """The digest of each small file among `deps` and in the folders among them."""
    found: dict[Path, str] = {}
    for dep in deps:
        for path in dep.rglob("*") if dep.is_dir() else [dep]:
            with suppress(FileNotFoundError):  # while an editor replaces it
                if path.is_file() and "__pycache__" not in path.parts and path.stat().st_size <= LARGEST:
                    found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def dvc_process() -> psutil.Process | None:
    """The DVC process that runs this stage; None if the stage was started by hand, or if DVC has ended.

    It is the nearest ancestor that is not in the stage's environment, where a shell between them would be. If DVC has
    ended, that is a process which adopts orphans, and has a process group of its own.
    """
    stage = os.environ.get("DVC_STAGE")
    try:
        ancestors = psutil.Process().parents() if stage else []
    except psutil.NoSuchProcess:  # one ended in this moment
        ancestors = []
    for process in ancestors:
        try:
            if process.environ().get("DVC_STAGE") == stage:
                continue
        except psutil.Error:  # another user's, as process 1 mostly is, or just ended
            pass
        return process if same_group(process.pid) else None
    return None


def same_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgid(0)
    except OSError:
        return False


def relative(path: Path) -> str:
    return path.relative_to(workspace()).as_posix()
