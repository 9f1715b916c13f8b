"""Write annotated copies of images and videos: choose their paths, and draw the faces on every frame."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from face_mask import files, video
from face_mask.drawing import draw
from face_mask.errors import UserError
from face_mask.inputs import Input

# An image (h, w, 3) uint8 RGB, its seconds in the video (0 for an image), and its faces, as outputs.to_dict returns.
Annotate = Callable[[np.ndarray, float, Sequence[dict]], None]
MARK = ".faces"  # before the suffix of a copy's name
MAX_STEM_BYTES = 180  # file systems take names of up to 255 bytes; mark, number and suffix are added


@contextmanager
def writer(path: Path | None, is_video: bool) -> Iterator[Annotate]:
    """A function that draws the faces on an image and saves it at `path`, as an image or as a video's next frame.

    Without a path it does nothing. The file is complete, or not created at all if an error occurs.
    """
    if path is None:
        yield lambda image, seconds, faces: None
    elif is_video:
        with video.writer(path) as append:
            yield lambda image, seconds, faces: append(draw(image, faces), seconds)
    else:
        with files.replacing(path) as aside:
            yield lambda image, seconds, faces: save(draw(image, faces), aside)


def save(image: np.ndarray, path: Path) -> None:
    """Save an image (h, w, 3) uint8 RGB as JPEG or PNG.

    Pillow would hide why a write failed, so it does not write the file itself.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG" if path.suffix == ".jpg" else "PNG", quality=92)  # PNG ignores it
    path.write_bytes(buffer.getbuffer())


def output_paths(inputs: Sequence[Input], folder: Path, arguments: Iterable[str]) -> list[Path]:
    """A path below `folder` for the copy of each input; all differ, even where case is ignored.

    Raises UserError if `folder` is a file or one of the `arguments`, or if a copy would overwrite an input.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--annotate {folder} is a file: name a folder")
    if any(Path(one).is_dir() and folder.exists() and Path(one).samefile(folder) for one in arguments):
        raise UserError(f"--annotate {folder} is also an input, which would include the copies: name another folder")
    input_files = {file_id(one.location) for one in inputs if isinstance(one.location, Path)}
    used: set[str] = set()
    paths = []
    for one in inputs:
        path = folder / unused_name(one, used)
        if path.exists() and file_id(path) in input_files:
            raise UserError(f"--annotate {folder} would overwrite {path}, which is an input: name another folder")
        paths.append(path)
    return paths


def file_id(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def unused_name(one: Input, used: set[str]) -> Path:
    """A relative path for an input's copy that is not in `used`; it is added there."""
    name = one.relative_path
    suffix = ".mp4" if one.is_video else ".jpg" if name.suffix.lower() in (".jpg", ".jpeg", ".jpe") else ".png"
    stem = name.stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    number = 1
    while True:
        path = Path(name.parent) / f"{stem}{MARK}{f'_{number}' if number > 1 else ''}{suffix}"
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key not in used:
            used.add(key)
            return path
        number += 1
