"""Stage `clip`: a film of faces of the foreign set, as if they sat before a webcam.

    python -m pipeline.clip

Reads data/raw/unseen.zip and data/unseen/manifest.csv; writes data/unseen/clip.mp4 (640×480, H.264) and
data/unseen/clip.csv: a row a frame, its seconds, whose face is filmed, its label, and its box in the frame; empty where
nobody is. Parameters: seed, clip.*.

The recipe: faces with a mask and without one in turn, drawn from the seed among those that both models are judged on,
one a picture, none of less than LEAST_FACE pixels. Each is filmed for clip.seconds, coming nearer from 28 to 42 % of
the frame's height and swaying by 6 %, without leaving its picture, so nearer where the picture is all face. Before
each there is nobody for GAP seconds, longer than live.lost_after: people do not turn into others before a webcam.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline import atomic, errors, params, tracking
from pipeline.data import annotated_pictures, archives, decoding, framing, packing, panning, unseen
from pipeline.serve import films

CLIP, TABLE = Path("data/unseen/clip.mp4"), Path("data/unseen/clip.csv")
FILM = (640, 480)  # width and height, a webcam's
LEAST_FACE = 48  # pixels of the shorter side; enlarged from fewer, nobody would look like that before a webcam
GAP = 0.8  # seconds
NOBODY = np.full((FILM[1], FILM[0], 3), 128, np.uint8)
COLUMNS = ["seconds", "path", "label", "left", "top", "right", "bottom"]


def cast(manifest: pd.DataFrame, wanted: int, seed: int) -> pd.DataFrame:
    """The rows of the manifest whose faces are filmed, in the film's order, each with its `picture`; perhaps none."""
    large = ~(manifest["face_size"] < LEAST_FACE)  # of no known size where the whole picture is the face
    rows = manifest[(manifest["split"] == unseen.UNSEEN) & manifest["label"].isin(packing.LABELS) & large]
    boxed = rows["face_size"].notna()  # such a path is that of the picture, # and the face's number
    rows = rows.assign(picture=rows["path"].mask(boxed, rows["path"].str.rsplit("#", n=1).str[0]))
    rows = rows.drop_duplicates("picture")
    chosen = panning.alternating(rows["label"].tolist(), packing.LABELS[::-1], wanted, seed)
    return rows.iloc[chosen]


def faces_of(rows: pd.DataFrame) -> Iterator[tuple[str, str, Image.Image, framing.Box]]:
    """path, label, the whole picture, and the face's box in it, of each row."""
    found = {one.name: one for one in annotated_pictures.read(unseen.ARCHIVE).pictures}
    with zipfile.ZipFile(unseen.ARCHIVE) as zf:
        for path, label, name in rows[["path", "label", "picture"]].itertuples(index=False):
            annotated = found[name]
            picture = decoding.open_rgb(archives.read_member(zf, annotated.picture or name))[0]
            box: framing.Box | None = (0.0, 0.0, float(picture.width), float(picture.height))
            if path != name:
                face = annotated.faces[int(path.rpartition("#")[2]) - 1]
                box = framing.in_pixels(face.box, face.relative, *picture.size) if face.box else None
            if box:
                yield path, label, picture, box


def main() -> None:
    started = time.time()
    p = params.load()
    tracking.check()
    rows = cast(unseen.read_manifest(), p.clip.pictures, p.seed)
    frames_each, frames_between = (max(1, round(seconds * p.clip.fps)) for seconds in (p.clip.seconds, GAP))
    table: list[tuple] = []
    with films.writing(CLIP) as append:

        def film_nobody() -> None:
            for _ in range(frames_between):
                append(NOBODY, len(table) / p.clip.fps)
                table.append((len(table) / p.clip.fps, *[None] * (len(COLUMNS) - 1)))

        for path, label, picture, box in faces_of(rows):
            film_nobody()
            for progress in np.linspace(0, 1, frames_each):
                seen = panning.view(box, float(progress), picture.size, FILM)
                seconds = len(table) / p.clip.fps
                append(panning.filmed(picture, seen, FILM), seconds)
                table.append((seconds, path, label, *panning.in_view(box, seen, FILM)))
        if not table:  # the models can be judged on such faces all the same
            print(f"clip: {unseen.MANIFEST_PATH} has no face of {LEAST_FACE} pixels and a class: the film shows nobody")
            film_nobody()
    text = pd.DataFrame(table, columns=COLUMNS).to_csv(index=False, float_format="%.4f", lineterminator="\n")
    atomic.write_text(TABLE, text)
    tracking.log_stage(
        "clip",
        params=tracking.flatten({"seed": p.seed, "clip": p.clip.model_dump()}),
        metrics={"frames": len(table), "faces": len(rows)},
        artifacts=[TABLE],
        started=started,
    )
    print(
        f"clip: {len(rows)} faces, {len(table)} frames, {len(table) / p.clip.fps:.0f} s of film, {CLIP};"
        f" {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
