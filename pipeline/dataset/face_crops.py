"""Faces cropped from images, framed like the training images."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from face_mask import cropping, decoding
from face_mask.cropping import Box
from pipeline.dataset import unseen
from pipeline.sources import archives
from pipeline.sources.annotated_images import AnnotatedImage

# A training image may be the whole unseen image, or a part of it that shows more than the face. So wider crops and the
# whole image are compared with the training images too.
WIDER_MARGINS = (0.6, 1.0)
VIEWS = 2 + len(WIDER_MARGINS)
# Why a face is left out. OTHER_SIZE: the annotation states another image size, so its boxes do not fit.
TOO_SMALL, BAD_BOX, UNDECODABLE, NO_IMAGE, OTHER_SIZE = REASONS = (
    "too_small", "bad_box", "undecodable", "no_image", "other_size"
)  # fmt: skip


def crop_faces(
    annotated: AnnotatedImage, archive: Path, size: int, margin: float, min_face: int
) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Crop the faces of one image: pixels (k, size, size, 3) uint8, views (k, 4, size, size, 3), and a row per face.

    The rows of the `k` cropped faces have the split UNSEEN, those of the others one of REASONS. The views show the
    face, the face with WIDER_MARGINS, and the whole image. An image without boxes is one face and is decoded like a
    training image.
    """
    boxed = any(face.box for face in annotated.faces)
    rows: list[dict] = [
        {"path": f"{annotated.name}#{i}" if boxed else annotated.name, "label": face.label, "split": NO_IMAGE}
        for i, face in enumerate(annotated.faces, 1)
    ]
    pixels = np.empty((0, size, size, 3), np.uint8)
    if not annotated.image or not rows:
        return pixels, empty_views(size), rows
    try:
        with zipfile.ZipFile(archive) as zf:
            encoded = archives.read_member(zf, annotated.image)
        rgb, width, height, _ = decoding.open_rgb(encoded, draft=None if boxed else 2 * size)
    except (decoding.BadImage, zipfile.BadZipFile) as error:
        return pixels, empty_views(size), [{**row, "split": UNDECODABLE, "reason": str(error)} for row in rows]

    whole = decoding.to_square(rgb, size)
    crops, views = [], []
    for row, face in zip(rows, annotated.faces, strict=True):
        if face.box is None:
            row["split"] = unseen.UNSEEN if min(width, height) >= min_face else TOO_SMALL
            if row["split"] == unseen.UNSEEN:
                crops.append(whole)
                views.append([whole] * VIEWS)
            continue
        box = cropping.in_pixels(face.box, face.relative, *rgb.size)
        row["split"] = rejection_reason(box, annotated.size, rgb.size, min_face) or unseen.UNSEEN
        if box:
            row["face_size"] = min(box[2] - box[0], box[3] - box[1])
        if box and row["split"] == unseen.UNSEEN:
            square = cropping.square_around(box, margin, *rgb.size)
            crops.append(decoding.to_square(rgb.crop(square), size))
            wider = [
                decoding.to_square(rgb.crop(cropping.square_around(box, wide, *rgb.size)), size)
                for wide in WIDER_MARGINS
            ]
            views.append([crops[-1], *wider, whole])
            row |= zip(unseen.BOX, cropping.within(box, square), strict=True)
    return (np.stack(crops), np.array(views), rows) if crops else (pixels, empty_views(size), rows)


def rejection_reason(
    box: Box | None, stated_size: tuple[int, int] | None, size: tuple[int, int], min_face: int
) -> str | None:
    """Which of REASONS applies to a box; None if the face can be used."""
    if stated_size and stated_size != size:
        return OTHER_SIZE
    if box is None:
        return BAD_BOX
    return TOO_SMALL if min(box[2] - box[0], box[3] - box[1]) < min_face else None


def empty_views(size: int) -> np.ndarray:
    return np.empty((0, VIEWS, size, size, 3), np.uint8)
