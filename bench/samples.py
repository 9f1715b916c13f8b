"""The images and the video that the benchmarks of prediction read: real ones, from the archives of the workspace."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.measure import Options
from face_mask import decoding, video
from face_mask.schema import LABELS
from pipeline.sources import annotated_images, archives

ARCHIVE, UNSEEN = "data/raw/images.zip", "data/raw/unseen.zip"
VIDEO_SIZE = 640, 480
FPS = 25
MIN_FACE = 32  # pixels of the shorter side, as unseen.min_face


@contextmanager
def image_folder(options: Options, count: int) -> Iterator[Path]:
    """Yield a folder with `count` JPEG files of the data set, with_mask/ and without_mask/, and images.zip of them."""
    archive = options.path(ARCHIVE)
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive) as source:
        folder = Path(name)
        members = [
            (label, member)
            for label, listed in archives.list_images(archive).items()
            for member in spread([one for one in sorted(listed) if one.lower().endswith(".jpg")], count // len(LABELS))
        ]
        with zipfile.ZipFile(folder / "images.zip", "w") as copy:
            for label, member in members:
                path = folder / "images" / label / Path(member).name
                path.parent.mkdir(parents=True, exist_ok=True)
                content = archives.read_member(source, member)
                path.write_bytes(content)
                copy.writestr(f"{label}/{path.name}", content)
        yield folder


def spread(items: list, count: int) -> list:
    """At most `count` of the items, evenly spaced."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


@contextmanager
def street_video(options: Options, frames: int) -> Iterator[Path]:
    """Yield a folder with video.mp4, 640×480, a frame for each of as many unseen images, and faces.json.

    faces.json has the frames' annotated faces of at least MIN_FACE pixels: label, left, top, right, bottom.
    """
    archive = options.path(UNSEEN)
    annotated = [one for one in annotated_images.read(archive).images if one.image and one.faces]
    width, height = VIDEO_SIZE
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive) as source:
        folder, table = Path(name), []
        with video.writer(folder / "video.mp4") as append:
            for number, one in enumerate(spread(annotated, frames)):
                assert one.image
                image = decoding.open_rgb(archives.read_member(source, one.image))[0]
                scale = np.array([width / image.width, height / image.height] * 2)
                append(np.asarray(image.resize(VIDEO_SIZE)), number / FPS)
                boxes = [(face.label, *(np.array(face.box) * scale).tolist()) for face in one.faces if face.box]
                table.append([box for box in boxes if min(box[3] - box[1], box[4] - box[2]) >= MIN_FACE])
        (folder / "faces.json").write_text(json.dumps(table), encoding="utf-8")
        yield folder
