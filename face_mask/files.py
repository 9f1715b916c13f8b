"""Write files atomically: to a temporary file first, which is then renamed."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` on success and is removed on any error.

    The temporary name has the suffix of `path`, by which many libraries choose the format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clear_leftovers(path: Path) -> None:
    """Remove temporary files for `path` of processes that were killed."""
    for leftover in path.parent.glob(f".*.{glob.escape(path.name)}"):
        pid = leftover.name[1 : -len(path.name) - 1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            leftover.unlink(missing_ok=True)


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
