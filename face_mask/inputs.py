"""Resolve command-line arguments to images, videos and live streams, and read them.

They are files, folders, web addresses, addresses of streams, and cameras by number.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from face_mask import decoding, streams, video
from face_mask.errors import printable
from face_mask.schema import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from face_mask.video import Frame

MAX_BYTES = 64 << 20  # of an image; a video is read piece by piece
FIRST_BYTES = 64 << 10  # read first: most images are not larger, and a buffer of MAX_BYTES costs more than reading them


class UnreadableInput(Exception):
    """An input without an image; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Input:
    name: str  # for output and messages: the path as given, or the address without password and query
    location: Path | str | streams.Source  # a file, the address of an image or a video, or a live stream
    relative_path: PurePosixPath  # in the folder that was given; of a file or an address only its last part

    @property
    def is_stream(self) -> bool:
        """Whether it is a live stream or a camera, which has no end."""
        return isinstance(self.location, streams.Source)

    @property
    def is_video(self) -> bool:
        """Whether it is a stream, or the suffix is a video's; any other input is read as an image."""
        return self.is_stream or self.relative_path.suffix.lower() in VIDEO_SUFFIXES

    @property
    def is_image_file(self) -> bool:
        return isinstance(self.location, Path) and not self.is_video


def resolve(
    arguments: Sequence[str], exclude: Path | None = None, http_streams: bool = False
) -> tuple[list[Input], list[tuple[str, str]]]:
    """The inputs in the order of the arguments, and (name, reason) of each argument that has none.

    Folders are searched recursively, in sorted order and without following links. Hidden files, files that are neither
    images nor videos, and the folder `exclude` are skipped. A number is a camera unless a file has that name, and with
    `http_streams` an address is a stream, not an image or a video that is downloaded.
    """
    resolved: list[Input] = []
    errors: list[tuple[str, str]] = []
    for argument in arguments:
        path, name = Path(argument), printable(argument)
        stream = streams.parse(argument, http_streams)
        if stream:
            resolved.append(Input(stream.name, stream, PurePosixPath("stream")))
        elif argument.partition("://")[0].lower() in ("http", "https"):
            resolved.append(from_url(argument))
        elif path.is_dir():
            contents = in_folder(path, exclude)
            resolved += contents
            if not contents:
                errors.append((name, "a folder without images or videos"))
        elif path.is_file():
            resolved.append(Input(name, path, PurePosixPath(printable(path.name))))
        else:
            errors.append((name, "neither a file nor a folder" if path.exists() else "no such file or folder"))
    return resolved, errors


def from_url(url: str) -> Input:
    from face_mask import web  # it loads TLS, which local files do not need

    try:
        last = PurePosixPath(unquote(urlsplit(url).path)).name
    except ValueError:
        last = ""
    return Input(printable(web.redact(url)), url, PurePosixPath(printable(last) or "image"))


def in_folder(folder: Path, exclude: Path | None) -> list[Input]:
    """Every image and video below a folder, sorted by path."""
    excluded = exclude.resolve() if exclude else None
    contents = []
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(
            one for one in subfolders if not one.startswith(".") and (Path(parent) / one).resolve() != excluded
        )
        for name in sorted(names):
            path = Path(parent) / name
            if not name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and path.is_file():
                relative_path = PurePosixPath(printable(path.relative_to(folder).as_posix()))
                contents.append(Input(printable(str(path)), path, relative_path))
    return sorted(contents, key=lambda one: one.relative_path.parts)


def read_frames(
    one: Input, interval: float, url_bytes: int, url_seconds: float, report: Callable[[str], None] | None = None
) -> Iterator[Frame]:
    """The image, or the frames of the video, one every `interval` seconds, or all of them if it is 0.

    An address may yield at most `url_bytes` within `url_seconds`. A stream has no end; `report` is called when it is
    interrupted, see streams.read_frames. Raises UnreadableInput, perhaps after some frames.
    """
    if isinstance(one.location, streams.Source):
        try:
            yield from streams.read_frames(one.location, interval, report or (lambda _: None))
        except streams.BadStream as error:
            raise UnreadableInput(str(error)) from None
        return
    try:
        with open_input(one, url_bytes, url_seconds) as file:
            if one.is_video:
                yield from video.read_frames(file, interval)
            else:
                yield Frame(decoding.to_array(decoding.open_rgb(read_limited(file))[0]))
    except (decoding.BadImage, video.BadVideo) as error:
        raise UnreadableInput(str(error)) from None
    except OSError as error:
        raise UnreadableInput(error.strerror or type(error).__name__) from None


def open_input(one: Input, url_bytes: int, url_seconds: float) -> BinaryIO:
    """Open a file, or download an address. Raises UnreadableInput if the download fails."""
    if isinstance(one.location, Path):
        return one.location.open("rb")
    from face_mask import web

    assert isinstance(one.location, str)
    try:
        return io.BytesIO(web.fetch(one.location, url_bytes, url_seconds))
    except web.NotFetched as error:
        raise UnreadableInput(str(error)) from None


def read_limited(file: BinaryIO) -> bytes:
    """The content of an image file. Raises UnreadableInput if it is larger than MAX_BYTES."""
    encoded = file.read(FIRST_BYTES)
    if len(encoded) == FIRST_BYTES:
        encoded += file.read(MAX_BYTES + 1 - FIRST_BYTES)
    if len(encoded) > MAX_BYTES:
        raise UnreadableInput(f"more than {MAX_BYTES >> 20} MiB, too many for an image")
    return encoded
