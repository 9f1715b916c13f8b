"""The list of images to leave out (split.exclude), which is maintained by hand."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from face_mask.errors import UserError


def read(path: str | Path, known: Collection[str]) -> set[str]:
    """Read the paths of images from a UTF-8 text file, one per line, without blank lines and those that start with #.

    Raises UserError if the file is missing or not UTF-8 text, or a path is not among `known`.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"split.exclude: {path} is missing: create it, empty to leave out no image") from None
    except UnicodeDecodeError as error:
        raise UserError(f"split.exclude: {path} is not UTF-8 text ({error}): save it as UTF-8") from None
    listed = set()
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if entry not in known:
            raise UserError(
                f"split.exclude: {path}, line {number}: the archive has no image {entry}: correct the path (all are in"
                " data/split/decoded.csv) or remove the line"
            )
        listed.add(entry)
    return listed
