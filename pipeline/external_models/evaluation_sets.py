"""The images that a model is evaluated on, at any size: the test set, the unseen faces, the hard cases, or a folder.

Where the original images are there, they are resized from those, so that a model for larger images than this project's
is not evaluated on enlarged ones.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from face_mask import cropping, decoding
from face_mask.errors import UserError
from face_mask.schema import IMAGE_SUFFIXES, MODELS
from pipeline.dataset import hard_cases, packing, unseen
from pipeline.sources import annotated_images, archives, training_sources, unseen_sources

ARCHIVE = Path("data/raw/images.zip")
HARD_PREDICTIONS = Path("data/hard_cases/predictions.csv")
UNSEEN_PREDICTIONS = Path("data/unseen/predictions.csv")
BATCH = 32  # images that are held at a time
MAX_VALIDATION = 800  # images that a model's preprocessing is chosen on

Images = Callable[[int, int], Iterator[Image.Image | np.ndarray]]  # height and width to images, RGB, of that size


@dataclass(frozen=True)
class EvaluationSet:
    """Images with labels. `faces` has a row for each: path, label, and for hard cases `case` and `split`.

    It has a column of P(with_mask) for each of this project's models whose predictions are known. The `path` of a hard
    case is that of the test image that it was drawn on.
    """

    name: str  # in words
    key: str  # test, unseen, hard_cases or data
    faces: pd.DataFrame
    images: Images
    thresholds: Mapping[str, float] | None = None  # of this project's models, if other than evaluate.threshold
    resized_from: int | None = None  # side in pixels of the images that others are resized from; None: the originals

    def batches(self, height: int, width: int) -> Iterator[np.ndarray]:
        """Yield the pixels (b, height, width, 3) uint8, RGB, in the order of `faces`."""
        images = self.images(height, width)
        while batch := list(islice(images, BATCH)):
            yield np.stack([np.asarray(image) for image in batch])


def resized(image: Image.Image, height: int, width: int) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def packed_images(images: np.ndarray, rows: np.ndarray) -> Images:
    """Images of a packed array."""

    def read(height: int, width: int) -> Iterator[Image.Image]:
        return (resized(Image.fromarray(images[row]), height, width) for row in rows)

    return read


def archived_images(paths: list[str], archive: Path) -> Images:
    """Whole images of an archive, decoded as the stage `decode` does."""

    def read(height: int, width: int) -> Iterator[Image.Image]:
        with zipfile.ZipFile(archive) as zf:
            for path in paths:
                yield resized(decode(zf, path, archive, 2 * max(height, width)), height, width)

    return read


def annotated_faces(paths: list[str], archive: Path, contents: annotated_images.Contents, margin: float) -> Images:
    """Faces of an archive of annotated images, cropped as the stage `unseen_faces` does.

    `paths` are those of the stage's manifest: the image's, with # and the number of the face if it has a box.
    """
    by_name = {annotated.name: annotated for annotated in contents.images}

    def read(height: int, width: int) -> Iterator[Image.Image]:
        name, rgb = "", Image.new("RGB", (1, 1))
        with zipfile.ZipFile(archive) as zf:
            for path in paths:
                before, mark, number = path.rpartition("#")
                boxed = bool(mark) and before in by_name
                this = before if boxed else path
                if this != name:
                    draft = None if boxed else 2 * max(height, width)
                    name, rgb = this, decode(zf, by_name[this].image or this, archive, draft)
                if not boxed:
                    yield resized(rgb, height, width)
                    continue
                face = by_name[this].faces[int(number) - 1]
                box = cropping.in_pixels(face.box or (0, 0, *rgb.size), face.relative, *rgb.size)
                if box is None:
                    raise changed(path, archive)
                yield resized(rgb.crop(cropping.square_around(box, margin, *rgb.size)), height, width)

    return read


def decode(zf: zipfile.ZipFile, member: str, archive: Path, draft: int | None) -> Image.Image:
    """Decode an image that a stage could decode. Raises UserError."""
    try:
        return decoding.open_rgb(archives.read_member(zf, member), draft=draft)[0]
    except (decoding.BadImage, zipfile.BadZipFile, KeyError):
        raise changed(member, archive) from None


def changed(path: str, archive: Path) -> UserError:
    return UserError(f"{archive} has no valid {archives.quoted(path)} as when it was decoded: run `dvc repro`")


def validation(model_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Validation images (n, *model_size, 3) uint8 and their classes (n,), spread evenly if there are very many."""
    manifest = packing.read_manifest()
    chosen = manifest[manifest["split"] == "val"]
    spread = np.linspace(0, len(chosen) - 1, min(MAX_VALIDATION, len(chosen))).round().astype(int)
    chosen = chosen.iloc[spread]
    source = of_split("validation images", "val", chosen, packing.open_images(), model_size)
    return np.concatenate([*source.batches(*model_size)]), packing.to_classes(chosen["label"])


def of_split(
    name: str, key: str, faces: pd.DataFrame, images: np.ndarray, model_size: tuple[int, int]
) -> EvaluationSet:
    """Images of the manifest: packed ones where a model takes their size, else the originals if they are there."""
    side = images.shape[1]
    if model_size != (side, side) and ARCHIVE.is_file():
        archives.file_names(ARCHIVE, str(ARCHIVE))  # checks it
        return EvaluationSet(name, key, faces, archived_images(faces["path"].tolist(), ARCHIVE))
    read = packed_images(images, faces["row"].to_numpy())
    return EvaluationSet(name, key, faces, read, resized_from=side if model_size != (side, side) else None)


def test_set(model_size: tuple[int, int]) -> EvaluationSet:
    """The grouped test set, with this project's predictions if the stage `predict` has run."""
    manifest = packing.read_manifest()
    faces = manifest.loc[manifest["split"] == "test", ["path", "label", "row"]].reset_index(drop=True)
    if packing.PREDICTIONS_PATH.is_file():
        table = packing.read_predictions(packing.PREDICTIONS_PATH, ["path", "label", "split"], "predict")
        faces = faces.merge(table[["path", *MODELS]], on="path", validate="one_to_one")
    return of_split("test images", "test", faces, packing.open_images(), model_size)


def unseen_set(model_size: tuple[int, int], margin: float, own_margin: float) -> EvaluationSet:
    """The unseen faces, with this project's predictions if the stage `unseen_eval` has run.

    `own_margin` is that of the packed faces; another `margin` needs the original images.
    """
    manifest, images = unseen.read_manifest(), unseen.open_images()
    columns = ["path", "label", "row"]
    faces = manifest.loc[manifest["split"] == unseen.UNSEEN, columns].reset_index(drop=True)
    if UNSEEN_PREDICTIONS.is_file():
        table = packing.read_predictions(UNSEEN_PREDICTIONS, ["path", "label"], "unseen_eval")
        if table["path"].tolist() != faces["path"].tolist():
            raise packing.damaged(UNSEEN_PREDICTIONS, f"not the faces of {unseen.MANIFEST_PATH}", "unseen_eval")
        faces = faces.assign(**{name: table[name].to_numpy() for name in MODELS})
    side = images.shape[1]
    if margin == own_margin and (model_size == (side, side) or not unseen.ARCHIVE.is_file()):
        read = packed_images(images, faces["row"].to_numpy())
        return EvaluationSet(
            "unseen faces", "unseen", faces, read, resized_from=side if model_size != (side, side) else None
        )
    read = annotated_faces(faces["path"].tolist(), unseen.ARCHIVE, annotated_images.read(unseen.ARCHIVE), margin)
    return EvaluationSet("unseen faces", "unseen", faces, read)


def hard_case_set(model_size: tuple[int, int]) -> EvaluationSet:
    """The drawn cases of test faces, without the unchanged originals, which are in the test set.

    With this project's predictions if the stage `hard_cases_eval` has run.
    """
    table = hard_cases.read_manifest()
    if HARD_PREDICTIONS.is_file():
        predictions = packing.read_predictions(HARD_PREDICTIONS, ["row"], "hard_cases_eval")
        table = table.merge(predictions[["row", *MODELS]], on="row", validate="one_to_one")
    chosen = (table["split"] == "test") & (table["case"] != hard_cases.ORIGINAL)
    faces, images = table[chosen].reset_index(drop=True), hard_cases.open_images()
    side = images.shape[1]
    read = packed_images(images, faces["row"].to_numpy())
    return EvaluationSet(
        "hard cases", "hard_cases", faces, read, resized_from=side if model_size != (side, side) else None
    )


def pack(data: Path, folder: Path, max_bytes: int, seconds: float) -> Path:
    """Return `data` as an archive of annotated images: a zip, or a folder or CSV packed into `folder`."""
    aside = folder / "data.zip"
    if data.is_dir():
        names = training_sources.files_below(data)
        if not any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
            raise UserError(f"{data} has no images: name a folder with with_mask/ and without_mask/, or annotations")
        training_sources.write_zip(aside, unseen_sources.files_of_folder(data), f"folder {data.name}")
        return aside
    if not data.is_file():
        raise UserError(f"{data} is missing: name a folder, a zip or a CSV of images")
    if data.suffix.lower() == ".csv":
        unseen_sources.pack_list(data, aside, max_bytes, seconds, partial(unseen_sources.web.is_public))
        return aside
    return data
