"""Faces cut out of pictures, framed as the training pictures are."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from pipeline.data import archives, decoding, duplicates, framing, unseen
from pipeline.data.annotated_pictures import Annotated
from pipeline.data.framing import Box

# A training picture may be the whole foreign picture, or a part of it that shows more than the face: these, beside the
# face as it is cut, are compared with what was trained on.
WIDER = (0.6, 1.0)  # margins
VIEWS = 2 + len(WIDER)
# Why a face is left out. Boxes for a picture of another size (OTHER_SIZE) would cut out anything but the face.
TOO_SMALL, BAD_BOX, UNDECODABLE, NO_PICTURE, OTHER_SIZE = REASONS = (
    "too_small", "bad_box", "undecodable", "no_picture", "other_size"
)  # fmt: skip


def cut_faces(
    annotated: Annotated, archive: Path, size: int, margin: float, min_face: int
) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """The faces of one picture: pixels (k, size, size, 3) uint8, greys (k, 4, 32, 32), and a manifest row each.

    `k` counts the faces that are cut, whose row has the split UNSEEN; the others' has one of REASONS. The greys are of
    the face, of the face with the margins WIDER, and of the whole picture. A picture without boxes is one face, and
    decoded just as a training picture is.
    """
    boxed = any(face.box for face in annotated.faces)
    rows: list[dict] = [
        {"path": f"{annotated.name}#{i}" if boxed else annotated.name, "label": face.label, "split": NO_PICTURE}
        for i, face in enumerate(annotated.faces, 1)
    ]
    pixels = np.empty((0, size, size, 3), np.uint8)
    if not annotated.picture or not rows:
        return pixels, no_greys(), rows
    try:
        with zipfile.ZipFile(archive) as zf:
            encoded = archives.read_member(zf, annotated.picture)
        rgb, width, height, _ = decoding.open_rgb(encoded, draft=None if boxed else 2 * size)
    except (decoding.BadPicture, zipfile.BadZipFile) as error:
        return pixels, no_greys(), [{**row, "split": UNDECODABLE, "reason": str(error)} for row in rows]

    whole = decoding.to_square(rgb, size)
    of_whole = duplicates.grey_thumbnail(whole)
    cut, greys = [], []
    for row, face in zip(rows, annotated.faces, strict=True):
        if face.box is None:
            row["split"] = unseen.UNSEEN if min(width, height) >= min_face else TOO_SMALL
            if row["split"] == unseen.UNSEEN:
                cut.append(whole)
                greys.append([of_whole] * VIEWS)
            continue
        box = framing.in_pixels(face.box, face.relative, *rgb.size)
        row["split"] = fault(box, annotated.size, rgb.size, min_face) or unseen.UNSEEN
        if box:
            row["face_size"] = min(box[2] - box[0], box[3] - box[1])
        if box and row["split"] == unseen.UNSEEN:
            square = framing.square_around(box, margin, *rgb.size)
            cut.append(decoding.to_square(rgb.crop(square), size))
            wider = [decoding.to_square(rgb.crop(framing.square_around(box, more, *rgb.size)), size) for more in WIDER]
            greys.append([*map(duplicates.grey_thumbnail, [cut[-1], *wider]), of_whole])
            row |= zip(unseen.BOX, framing.within(box, square), strict=True)
    return (np.stack(cut), np.array(greys), rows) if cut else (pixels, no_greys(), rows)


def fault(box: Box | None, meant_for: tuple[int, int] | None, found: tuple[int, int], min_face: int) -> str | None:
    """Which of REASONS speaks against cutting out a box, None if none does."""
    if meant_for and meant_for != found:
        return OTHER_SIZE
    if box is None:
        return BAD_BOX
    return TOO_SMALL if min(box[2] - box[0], box[3] - box[1]) < min_face else None


def no_greys() -> np.ndarray:
    return np.empty((0, VIEWS, duplicates.GREY_SIZE, duplicates.GREY_SIZE), np.uint8)
