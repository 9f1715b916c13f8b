"""Pictures with what was found drawn onto them, and where these go."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline import atomic
from pipeline.errors import UserError
from pipeline.serve.answers import CLASSES, NO_FACE
from pipeline.serve.inputs import Input

COLOURS = dict(zip(CLASSES, ((200, 40, 30), (20, 130, 60)), strict=True))  # each legible under white
SHORT = dict(zip(CLASSES, ("bare", "mask"), strict=True))  # in a crowd a plate covers the next face
GREY = (90, 90, 90)
# A picture (h, w, 3) uint8 RGB, its seconds in a film, and its faces as `answers.described` gives them.
Keep = Callable[[np.ndarray, float, Sequence[dict]], None]
MARK = ".faces"  # before the suffix of what is written
LONGEST = 180  # bytes of a name, which gets a mark, a number and a suffix, of the 255 that file systems take


def draw(image: np.ndarray, faces: Sequence[dict]) -> np.ndarray:
    """A copy of a picture (h, w, 3) uint8 RGB with a box, class and probability for each of `answers.described`."""
    picture = Image.fromarray(image).copy()
    pen = ImageDraw.Draw(picture)
    height, width = image.shape[:2]
    thick = max(2, round(max(height, width) / 320))  # a film halves the resolution of colours
    font = ImageFont.load_default(max(9, round(max(height, width) / 60)))
    for face in faces:
        left, top, right, bottom = face["box"]
        colour = COLOURS[face["class"]]
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=thick)
        write(pen, (left, top), f"{SHORT[face['class']]} {face['probability']:.2f}", colour, font, picture.size)
    if not faces:
        write(pen, (0, 0), NO_FACE, GREY, font, picture.size)
    return np.asarray(picture)


def write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    within: tuple[int, int],
) -> None:
    """White text on a plate whose lower left corner is `at`, moved into a picture of the size `within`."""
    x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
    wide, high = x1 - x0 + 4, y1 - y0 + 4
    x = max(0, min(at[0], within[0] - wide))
    y = max(0, at[1] - high)
    pen.rectangle((x, y, x + wide, y + high), fill=colour)
    pen.text((x + 2 - x0, y + 2 - y0), text, fill="white", font=font)


@contextmanager
def keeping(path: Path | None, film: bool) -> Iterator[Keep]:
    """What draws the faces onto a picture and keeps it: at `path` as its suffix says, or as the next frame of the film
    there, shown from its seconds on; nowhere where there is no path. Whole, or not at all where this ends in an error.
    """
    if path is None:
        yield lambda image, seconds, faces: None
    elif film:
        from pipeline.serve import films  # FFmpeg, which a picture need not wait for

        with films.writing(path) as append:
            yield lambda image, seconds, faces: append(draw(image, faces), seconds)
    else:
        with atomic.replacing(path) as aside:
            # PNG takes no notice of the quality.
            yield lambda image, seconds, faces: Image.fromarray(draw(image, faces)).save(aside, quality=92)


def targets(inputs: Sequence[Input], folder: Path, named: Iterable[str]) -> list[Path]:
    """Where each input's annotated copy goes: below `folder`, no two names alike, also where case does not count.

    UserError where `folder` is a file, is itself one of the folders `named`, or where a copy would take an input's
    place.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--annotate {folder} is a file: name a folder")
    if any(Path(one).is_dir() and folder.exists() and Path(one).samefile(folder) for one in named):
        raise UserError(f"--annotate {folder} is the folder to judge, where copies would be judged too: name another")
    files = {identity(one.where) for one in inputs if isinstance(one.where, Path)}
    taken: set[str] = set()
    found = []
    for one in inputs:
        path = folder / free_name(one, taken)
        if path.exists() and identity(path) in files:
            raise UserError(f"--annotate {folder} would overwrite {path}, which is to be judged: name another folder")
        found.append(path)
    return found


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def free_name(one: Input, taken: set[str]) -> Path:
    """A path for an input's copy that is not in `taken`, to which it is added."""
    kind = ".mp4" if one.is_film else ".jpg" if one.inside.suffix.lower() in (".jpg", ".jpeg", ".jpe") else ".png"
    stem = one.inside.stem.encode()[:LONGEST].decode(errors="ignore")
    number = 1
    while True:
        path = Path(one.inside.parent) / f"{stem}{MARK}{f'_{number}' if number > 1 else ''}{kind}"
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key not in taken:
            taken.add(key)
            return path
        number += 1
