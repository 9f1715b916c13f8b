"""Compare stages' outputs with the digests in dvc.lock, so that a damaged or replaced file is never used silently."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from face_mask.errors import UserError

LOCK, GRAPH = "dvc.lock", "dvc.yaml"
# The C parser takes 10 ms for the lock, the one in Python 100 ms; not every platform has it.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(path: Path, root: Path = Path()) -> None:
    """Raise UserError if `path` is not the file that dvc.lock in `root` records as a stage's output.

    Passes without dvc.lock, and for a file that is no stage's output. DVC updates the lock after each stage, so that in
    `dvc repro` a stage finds the digests of the stages before it. The file must exist; it is read once.
    """
    recorded = recorded_output(path, root)
    if recorded is not None and file_md5(path) != recorded[1]:
        raise mismatch(path, *recorded)


def checked(path: Path, root: Path = Path()) -> Path:
    """Return `path` after `check`. A missing file passes: whoever opens it reports that."""
    if path.is_file():
        check(path, root)
    return path


def check_inputs(stage: str, root: Path = Path()) -> None:
    """Raise UserError if an output that `stage` reads, by dvc.yaml, is not the one that dvc.lock records for its stage.

    DVC does not notice if its cache is damaged: it restores the damage. Reads every such file once: 600 MB a second.
    """
    found = outputs(root)
    deps = read(root / GRAPH).get(stage, {}).get("deps", ()) if found else ()
    for dep in deps:
        if dep in found and (path := root / dep).exists() and any_md5(path) != found[dep][1]:
            raise mismatch(Path(dep), *found[dep])


def recorded_output(path: Path, root: Path = Path()) -> tuple[str, str] | None:
    """The stage that writes the file `path` and the MD5 in dvc.lock of `root`; None if the lock does not list it.

    Raises UserError if dvc.lock is damaged.
    """
    try:
        # Not resolved: DVC may put links into its cache in place of the files.
        name = path.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        return None  # not inside `root`
    return outputs(root).get(name)


def outputs(root: Path) -> dict[str, tuple[str, str]]:
    """The stage and the MD5 of every output in dvc.lock, by its path; empty without dvc.lock."""
    try:
        return {
            out["path"]: (stage, str(out["md5"]))
            for stage, entry in read(root / LOCK).items()
            for out in entry.get("outs", ())
            if "md5" in out
        }
    except (AttributeError, KeyError, TypeError):
        raise damaged(root / LOCK) from None


def read(path: Path) -> dict[str, Any]:
    """The stages of dvc.lock or dvc.yaml; empty if there is no such file. Raises UserError if it is damaged."""
    try:
        stages = (yaml.load(path.read_text(encoding="utf-8"), Loader) or {}).get("stages", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError):
        raise damaged(path) from None
    if not isinstance(stages, dict):
        raise damaged(path)
    return stages


def mismatch(path: Path, stage: str, md5: str) -> UserError:
    listed = " and the files that it lists" if md5.endswith(".dir") else ""
    return UserError(
        f"{path} does not match {LOCK}: run `dvc checkout --force {path}`, or `dvc repro` after running a stage by"
        f" hand; if that changes nothing, DVC's cache is damaged: delete files/md5/{md5[:2]}/{md5[2:]}{listed} in it"
        f" (its folder: `dvc cache dir`), then run `dvc pull {path}` or `dvc repro --force --single-item {stage}`"
    )


def damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: restore it with `git checkout {path}`")


def any_md5(path: Path) -> str:
    """MD5 of a file or a folder, as DVC records it: that of a folder is of the list of its files, in JSON."""
    if not path.is_dir():
        return file_md5(path)
    names = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())
    listed = json.dumps([{"md5": file_md5(path / name), "relpath": name} for name in names])
    return f"{hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest()}.dir"


def file_md5(path: Path) -> str:
    """MD5 of a file, as DVC records it, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
