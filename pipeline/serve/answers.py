"""Judged faces as people and programs read them: a table, JSON or CSV, written as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from pipeline.serve.judging import Judged

CLASSES = ("without_mask", "with_mask")  # as in packing.LABELS, which comes with pandas
NO_FACE = "no face found"
FORMATS = ("table", "json", "csv")
COLUMNS = (
    "source", "frame", "seconds", "left", "top", "right", "bottom", "class", "probability", "with_mask",
    "detector_score",
)  # fmt: skip

# source; frame number and seconds, None for a picture; the faces as `described` gives them, none where none is found
Write = Callable[[str, int | None, float | None, Sequence[dict]], None]


def described(face: Judged, threshold: float, detected: bool) -> dict:
    """A face as every format says it: box in whole pixels, class, the class's probability, P(with_mask), and the
    detector's score, None where not `detected` but the whole picture was judged."""
    masked = face.with_mask >= threshold
    return {
        "box": [round(side) for side in face.box],
        "class": CLASSES[masked],
        "probability": round(face.with_mask if masked else 1 - face.with_mask, 4),
        "with_mask": round(face.with_mask, 6),
        "detector_score": round(face.score, 2) if detected else None,
    }


@contextmanager
def writing(kind: str, out: TextIO, films: bool) -> Iterator[Write]:
    """A function that writes the faces of one picture or frame to `out`, as one of FORMATS; with `films`, times too."""
    begin = {"table": table, "json": objects, "csv": rows}[kind]
    with begin(out, films) as write:
        yield write


@contextmanager
def table(out: TextIO, films: bool) -> Iterator[Write]:
    """Aligned columns, the source last: nothing need be known of what follows."""

    def line(called: str, probability: str, score: str, box: Sequence[object], seconds: str, source: str) -> None:
        sides = "".join(f"{side:>7}" for side in box)
        out.write(f"{called:13}{probability:>12}{score:>10}{sides}{seconds:>10}  {source}\n" if films else
                  f"{called:13}{probability:>12}{score:>10}{sides}  {source}\n")  # fmt: skip
        out.flush()

    line("class", "probability", "detector", COLUMNS[3:7], "seconds", "source")

    def write(source: str, frame: int | None, seconds: float | None, faces: Sequence[dict]) -> None:
        time = "" if seconds is None else f"{seconds:.2f}"
        for face in faces:
            score = "" if face["detector_score"] is None else f"{face['detector_score']:.2f}"
            line(face["class"], f"{face['probability']:.3f}", score, face["box"], time, source)
        if not faces:
            line(NO_FACE, "", "", [""] * 4, time, source)

    yield write


@contextmanager
def objects(out: TextIO, films: bool) -> Iterator[Write]:
    """One JSON array, an object a picture or frame on a line of its own; closed even when it ends early."""
    between = "[\n"

    def write(source: str, frame: int | None, seconds: float | None, faces: Sequence[dict]) -> None:
        nonlocal between
        time = None if seconds is None else round(seconds, 3)
        one = {"source": source, "frame": frame, "seconds": time, "faces": list(faces)}
        out.write(between + json.dumps(one, ensure_ascii=False, allow_nan=False))
        out.flush()
        between = ",\n"

    try:
        yield write
    finally:
        out.write("[]\n" if between == "[\n" else "\n]\n")
        out.flush()


@contextmanager
def rows(out: TextIO, films: bool) -> Iterator[Write]:
    """CSV with COLUMNS, a row a face; one without a box where none is found."""
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow(COLUMNS)

    def write(source: str, frame: int | None, seconds: float | None, faces: Sequence[dict]) -> None:
        time = None if seconds is None else round(seconds, 3)
        for face in faces:
            said = [face[key] for key in ("class", "probability", "with_mask", "detector_score")]
            sheet.writerow([source, frame, time, *face["box"], *said])
        if not faces:
            sheet.writerow([source, frame, time, *[None] * 8])
        out.flush()

    yield write
