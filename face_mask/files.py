"""Write files atomically: to a temporary file first, which is then renamed."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from face_mask.errors import NO_SPACE

if TYPE_CHECKING:
    import pandas as pd


def allow(path: Path) -> None:
    """Let `path` be replaced."""


# Called with a path just before it is replaced; pipeline.tracking sets it, so that a stage which is no longer wanted
# replaces nothing.
before_replacing: Callable[[Path], None] = allow


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` on success and is removed on any error.

    It may become a file or a folder of files. The temporary name has the suffix of `path`, by which many libraries
    choose the format. The content is on the disk before the name is, so that a power failure leaves the old file or the
    new one. No system replaces a folder in one step: the old one is renamed first, and gets its name back if the new
    one cannot take it. A power failure between the two leaves neither under that name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    replaced = path.with_name(f".{os.getpid()}.{temporary.name}")
    try:
        yield temporary
        for part in (*temporary.rglob("*"), temporary):
            flush(part)
        before_replacing(path)
        if path.is_dir() or (temporary.is_dir() and path.exists()):
            path.replace(replaced)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        before_replacing(path)  # if DVC removed the folder for a later run, this says so
        # The error of a write names no file, that of opening the temporary file not the one that the user knows.
        if error.errno in NO_SPACE and str(error.filename or temporary).startswith(str(temporary)):
            error.filename = str(path)
        raise
    finally:
        if replaced.exists() and not path.exists():
            replaced.replace(path)
        remove(temporary)
        remove(replaced)


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    folder = path.is_dir()
    with suppress(OSError) if folder else nullcontext():  # some file systems cannot flush folders
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows flushes no read-only file
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def clear_leftovers(path: Path) -> None:
    """Remove temporary files for `path` of processes that were killed, also those of temporary files themselves."""
    for leftover in path.parent.glob(f".*.{glob.escape(path.name)}"):
        prefix = leftover.name.removesuffix(path.name)
        pids = re.findall(r"\d+", prefix)
        if re.fullmatch(r"(\.\d+\.)+", prefix) and not any(is_writing(int(pid), leftover) for pid in pids):
            remove(leftover)


def is_writing(pid: int, path: Path) -> bool:
    """Whether the process `pid` may be writing `path`: it runs, and did so when the file was last changed.

    Another user's process, of which the system says nothing, may be.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # it has ended, but its parent has not collected it
            return False
        return process.create_time() <= path.stat().st_mtime + 2  # both clocks are a second off at most
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:
        return True


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with Unix line endings."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: str | Path, table: pd.DataFrame, float_format: str = "%.6g") -> None:
    """Write a table as CSV without its index; the same table gives the same bytes."""
    write_text(path, table.to_csv(index=False, float_format=float_format, lineterminator="\n"))


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON in the order of its keys. Raises ValueError for NaN and infinities."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
