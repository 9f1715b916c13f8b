"""Write predictions as a table, JSON or CSV, row by row as they arrive."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from face_mask import conformal
from face_mask.classifier import Prediction
from face_mask.conformal import Calibration
from face_mask.schema import LABELS

NO_FACE = "no face detected"
FORMATS = ("table", "json", "csv")
COLUMNS = (
    "source", "frame", "seconds", "left", "top", "right", "bottom", "class", "probability", "with_mask",
    "detector_score", "prediction_set",
)  # fmt: skip

# source; frame number and seconds, None for an image; the faces as `to_dict` returns them, empty if there is none
Write = Callable[[str, int | None, float | None, Sequence[dict]], None]


def to_dict(face: Prediction, threshold: float, detected: bool, calibration: Calibration | None = None) -> dict:
    """A face with the values that every format shows.

    `box` in whole pixels, `class`, `probability` of that class, `with_mask` (its probability), `detector_score`,
    which is None if the whole image was classified instead of a detected face, and `prediction_set`, as
    conformal.set_name returns it: the face is unsure unless it is the class, or None.
    """
    with_mask = face.with_mask >= threshold
    return {
        "box": [round(side) for side in face.box],
        "class": LABELS[with_mask],
        "probability": round(face.with_mask if with_mask else 1 - face.with_mask, 4),
        "with_mask": round(face.with_mask, 6),
        "detector_score": round(face.score, 2) if detected else None,
        "prediction_set": conformal.set_name(calibration, face.with_mask),
    }


@contextmanager
def writer(output_format: str, out: TextIO, has_video: bool) -> Iterator[Write]:
    """A function that writes the faces of one image or frame to `out` in one of FORMATS.

    `has_video` adds the time to the table; JSON and CSV always have it.
    """
    if output_format == "table":
        yield table_writer(out, has_video)
    elif output_format == "csv":
        yield csv_writer(out)
    else:
        with json_writer(out) as write:
            yield write


def table_writer(out: TextIO, has_video: bool) -> Write:
    """Columns of a fixed width, the source last because its width is unknown; a row per face, unsure ones with a ?."""

    def line(label: str, probability: str, score: str, box: Sequence[object], seconds: str, source: str) -> None:
        sides = "".join(f"{side:>7}" for side in box)
        time = f"{seconds:>10}" if has_video else ""
        out.write(f"{label:16}{probability:>12}{score:>10}{sides}{time}  {source}\n")
        out.flush()

    line("class", "probability", "detector", COLUMNS[3:7], "seconds", "source")

    def write(source: str, frame: int | None, seconds: float | None, faces: Sequence[dict]) -> None:
        time = "" if seconds is None else f"{seconds:.2f}"
        for face in faces:
            score = "" if face["detector_score"] is None else f"{face['detector_score']:.2f}"
            mark = "" if face["prediction_set"] in (None, face["class"]) else " ?"
            line(face["class"] + mark, f"{face['probability']:.3f}", score, face["box"], time, source)
        if not faces:
            line(NO_FACE, "", "", [""] * 4, time, source)

    return write


@contextmanager
def json_writer(out: TextIO) -> Iterator[Write]:
    """One JSON array with an object per image or frame, each on its own line; valid even if it is interrupted."""
    separator = "[\n"

    def write(source: str, frame: int | None, seconds: float | None, faces: Sequence[dict]) -> None:
        nonlocal separator
        time = None if seconds is None else round(seconds, 3)
        one = {"source": source, "frame": frame, "seconds": time, "faces": list(faces)}
        out.write(separator + json.dumps(one, ensure_ascii=False, allow_nan=False))
        out.flush()
        separator = ",\n"

    try:
        yield write
    finally:
        out.write("[]\n" if separator == "[\n" else "\n]\n")
        out.flush()


def csv_writer(out: TextIO) -> Write:
    """CSV with COLUMNS, a row per face; an image or frame without a face has one row without a box."""
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow(COLUMNS)

    def write(source: str, frame: int | None, seconds: float | None, faces: Sequence[dict]) -> None:
        time = None if seconds is None else round(seconds, 3)
        for face in faces:
            values = [face[key] for key in COLUMNS[7:]]
            sheet.writerow([source, frame, time, *face["box"], *values])
        if not faces:
            sheet.writerow([source, frame, time, *[None] * 9])
        out.flush()

    return write
