"""Stage `clip`: make a video of faces of the unseen set, as if people sat before a webcam.

    python -m pipeline.clip

Reads data/raw/unseen.zip and data/unseen/manifest.csv; writes data/unseen/clip.mp4 (640×480, H.264) and
data/unseen/clip.csv: per frame its seconds, the path and label of the face, and its box in the frame; empty without
a face. Parameters: seed, clip.*.

Faces with and without a mask alternate, drawn at random from those on which both models are evaluated, at most one per
image, none smaller than MIN_FACE pixels. Each is shown for clip.seconds, growing from 28 to 42 % of the frame's height
and swaying by 6 %; the view never leaves the image, so a face that fills its image is shown larger. Before each face
the frame is empty for GAP seconds, longer than live.max_age: in front of a webcam no person turns into another.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from face_mask import cropping, decoding, errors, files, video
from face_mask.schema import LABELS
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing, unseen
from pipeline.sources import annotated_images, archives
from pipeline.synthetic import panning

CLIP, TABLE = Path("data/unseen/clip.mp4"), Path("data/unseen/clip.csv")
FRAME_SIZE = (640, 480)  # width and height, as of a webcam
MIN_FACE = 48  # pixels of the shorter side; enlarged from fewer, a face is blurred as no webcam's is
GAP = 0.8  # seconds
EMPTY_FRAME = np.full((FRAME_SIZE[1], FRAME_SIZE[0], 3), 128, np.uint8)
COLUMNS = ["seconds", "path", "label", "left", "top", "right", "bottom"]


def select_faces(manifest: pd.DataFrame, max_count: int, seed: int) -> pd.DataFrame:
    """The rows of the manifest whose faces are shown, in order, each with the path of its `image`; may be empty."""
    large = ~(manifest["face_size"] < MIN_FACE)  # NaN where the whole image is the face
    rows = manifest[(manifest["split"] == unseen.UNSEEN) & manifest["label"].isin(LABELS) & large]
    boxed = rows["face_size"].notna()  # then the path is the image's, # and the number of the face
    rows = rows.assign(image=rows["path"].mask(boxed, rows["path"].str.rsplit("#", n=1).str[0]))
    rows = rows.drop_duplicates("image")
    return rows.iloc[panning.alternate(rows["label"].tolist(), LABELS[::-1], max_count, seed)]


def read_faces(rows: pd.DataFrame) -> Iterator[tuple[str, str, Image.Image, cropping.Box]]:
    """path, label, the whole image, and the face's box in it, for each row."""
    by_name = {one.name: one for one in annotated_images.read(unseen.ARCHIVE).images}
    with zipfile.ZipFile(unseen.ARCHIVE) as zf:
        for path, label, name in rows[["path", "label", "image"]].itertuples(index=False):
            annotated = by_name.get(name)
            number = int(path.rpartition("#")[2]) if path != name else 1
            if annotated is None or number > len(annotated.faces):
                raise errors.UserError(
                    f"{unseen.MANIFEST_PATH} has the face {path}, which {unseen.ARCHIVE} has not: run"
                    " `dvc repro unseen_faces`"
                )
            try:
                image = decoding.open_rgb(archives.read_member(zf, annotated.image or name))[0]
            except (decoding.BadImage, zipfile.BadZipFile) as error:
                raise packing.damaged(unseen.ARCHIVE, f"{name}: {error}", "unseen_download") from None
            box: cropping.Box | None = (0.0, 0.0, float(image.width), float(image.height))
            if path != name:
                face = annotated.faces[number - 1]
                box = cropping.in_pixels(face.box, face.relative, *image.size) if face.box else None
            if box:
                yield path, label, image, box


def main() -> None:
    with tracking.stage("clip") as run:
        p = params.load()
        rows = select_faces(unseen.read_manifest(), p.clip.faces, p.seed)
        frames_per_face, frames_per_gap = (max(1, round(seconds * p.clip.fps)) for seconds in (p.clip.seconds, GAP))
        table: list[tuple] = []
        with video.writer(CLIP) as append:

            def append_gap() -> None:
                for _ in range(frames_per_gap):
                    append(EMPTY_FRAME, len(table) / p.clip.fps)
                    table.append((len(table) / p.clip.fps, *[None] * (len(COLUMNS) - 1)))

            for path, label, image, box in read_faces(rows):
                append_gap()
                for progress in np.linspace(0, 1, frames_per_face):
                    view = panning.view(box, float(progress), image.size, FRAME_SIZE)
                    seconds = len(table) / p.clip.fps
                    append(panning.render(image, view, FRAME_SIZE), seconds)
                    table.append((seconds, path, label, *panning.to_frame(box, view, FRAME_SIZE)))
            if not table:  # not an error: the models can be evaluated on smaller faces
                print(f"clip: {unseen.MANIFEST_PATH} has no labelled face of {MIN_FACE} pixels: the video is empty")
                append_gap()
        files.write_csv(TABLE, pd.DataFrame(table, columns=COLUMNS), "%.4f")
        run.log({"frames": len(table), "faces": len(rows)}, artifacts=[TABLE])
        run.report(f"{len(rows)} faces, {len(table)} frames, {len(table) / p.clip.fps:.0f} s of video in {CLIP}")


if __name__ == "__main__":
    errors.run(main)
