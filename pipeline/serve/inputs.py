"""What do a command's arguments name? Pictures, films, folders of both, and web addresses; and what is in them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import numpy as np

from pipeline.data import decoding

PICTURES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FILMS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".3gp", ".y4m"})
MAX_BYTES = 64 << 20  # of a picture; of films only as much as is looked at is ever read


class Unreadable(Exception):
    """An input that gives no picture; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Input:
    name: str  # for people and records: the path as given, or the address without password and query
    where: Path | str  # a file, or an address
    inside: PurePosixPath  # the path in the folder that was named; of a file or an address its last part

    @property
    def is_film(self) -> bool:
        """By the suffix; what is neither a film's nor a picture's is taken for a picture."""
        return self.inside.suffix.lower() in FILMS


@dataclass(frozen=True)
class Shot:
    """A picture, or a frame of a film."""

    image: np.ndarray  # (h, w, 3) uint8 RGB, upright
    frame: int | None = None  # its number in a film, from 0
    seconds: float | None = None  # since the film's first frame
    share: float = 0.0  # of the film that this ends, 0…1, where its length is known


def expand(arguments: Sequence[str], outside: Path | None = None) -> tuple[list[Input], list[tuple[str, str]]]:
    """The inputs, in the order of the arguments, those of a folder sorted; and (name, reason) of what is none.

    A folder is searched to its depths, without following links; hidden files, files of other kinds, and what lies in
    the folder `outside` are passed over.
    """
    found: list[Input] = []
    faults: list[tuple[str, str]] = []
    for argument in arguments:
        path = Path(argument)
        if argument.partition("://")[0].lower() in ("http", "https"):
            found.append(of_address(argument))
        elif path.is_dir():
            inside = in_folder(path, outside)
            found += inside
            if not inside:
                faults.append((printable(argument), "a folder without pictures or films"))
        elif path.is_file():
            found.append(Input(printable(argument), path, PurePosixPath(printable(path.name))))
        else:
            faults.append(
                (printable(argument), "neither file nor folder" if path.exists() else "there is no such file")
            )
    return found, faults


def of_address(url: str) -> Input:
    from pipeline.data import web  # TLS and all, which a picture on disk need not wait for

    try:
        last = PurePosixPath(unquote(urlsplit(url).path)).name
    except ValueError:
        last = ""
    return Input(printable(web.shown(url)), url, PurePosixPath(printable(last) or "picture"))


def in_folder(folder: Path, outside: Path | None) -> list[Input]:
    """Every picture and film below a folder, sorted by path."""
    passed_over = outside.resolve() if outside else None
    found = []
    for parent, below, names in os.walk(folder):
        below[:] = sorted(d for d in below if not d.startswith(".") and (Path(parent) / d).resolve() != passed_over)
        for name in sorted(names):
            path = Path(parent) / name
            if not name.startswith(".") and path.suffix.lower() in PICTURES | FILMS and path.is_file():
                inside = PurePosixPath(printable(path.relative_to(folder).as_posix()))
                found.append(Input(printable(str(path)), path, inside))
    return sorted(found, key=lambda one: one.inside.parts)


def printable(name: str) -> str:
    """A name that may go to a terminal and into UTF-8: what cannot be shown is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def shots(one: Input, every: float, url_bytes: int, url_seconds: float) -> Iterator[Shot]:
    """The picture, or a film's frames, one each `every` seconds (0: all of them). Raises Unreadable, perhaps midway."""
    try:
        with opened(one, url_bytes, url_seconds) as file:
            if one.is_film:
                from pipeline.serve import films  # FFmpeg, which a picture need not wait for

                yield from films.frames(file, every)
            else:
                yield Shot(np.asarray(decoding.open_rgb(read_whole(file))[0]))
    except decoding.BadPicture as error:
        raise Unreadable(str(error)) from None
    except OSError as error:
        raise Unreadable(error.strerror or type(error).__name__) from None


def opened(one: Input, url_bytes: int, url_seconds: float) -> BinaryIO:
    """The input's bytes as an open file; Unreadable where an address gives none."""
    if isinstance(one.where, Path):
        return one.where.open("rb")
    from pipeline.data import web

    try:
        return io.BytesIO(web.fetch(one.where, url_bytes, url_seconds))
    except web.NotFetched as error:
        raise Unreadable(str(error)) from None


def read_whole(file: BinaryIO) -> bytes:
    """All bytes of a picture's file; Unreadable where they are too many."""
    encoded = file.read(MAX_BYTES + 1)
    if len(encoded) > MAX_BYTES:
        raise Unreadable(f"more than {MAX_BYTES >> 20} MiB, too many for a picture")
    return encoded
