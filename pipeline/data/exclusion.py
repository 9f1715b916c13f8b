"""The list of pictures that a person has decided to leave out (split.exclude)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipeline.errors import UserError


def read(path: str | Path, known: Collection[str]) -> set[str]:
    """Paths of pictures listed in a text file, one a line; blank lines and those that start with # are skipped.

    UserError when the file is missing or is no text, and for the first path that is not among the `known` ones.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"split.exclude: {path} is missing: make it, empty if no picture is to be left out") from None
    except UnicodeDecodeError as error:
        raise UserError(f"split.exclude: {path} is no UTF-8 text ({error}): save it as such") from None
    listed = set()
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if entry not in known:
            raise UserError(
                f"split.exclude: {path}, line {number}: the archive holds no picture {entry}: correct the path or"
                " remove the line (data/split/manifest.csv has all paths)"
            )
        listed.add(entry)
    return listed
