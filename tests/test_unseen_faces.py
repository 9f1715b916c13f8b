"""Stage unseen_faces: faces are cropped and framed like training images, and those left out are counted."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from face_mask import cropping, decoding
from face_mask.errors import UserError
from pipeline import unseen_faces
from pipeline.dataset import cropped_set, face_crops, packing, perceptual_hash, similarity, unseen, views
from pipeline.sources import annotated_images
from pipeline.synthetic import faces
from tests.test_annotated_images import voc, zip_of

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def face(index: int, label: str = "with_mask", size: int = 96) -> Image.Image:
    return faces.draw_image(5, label, index, size)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# Cropping


@pytest.mark.parametrize(
    ("box", "margin", "size", "square"),
    [
        ((40, 40, 60, 50), 0.0, (100, 100), (40, 35, 60, 55)),
        ((40, 40, 60, 50), 0.25, (100, 100), (35, 30, 65, 60)),
        ((0, 0, 20, 20), 0.5, (100, 100), (0, 0, 40, 40)),  # shifted inside
        ((80, 90, 100, 100), 0.5, (100, 100), (60, 60, 100, 100)),
        ((10, 10, 90, 40), 0.5, (100, 60), (0, 0, 100, 60)),  # larger than the image: all of it
    ],
)
def test_the_square_around_a_box(box, margin, size, square) -> None:
    assert cropping.square_around(box, margin, *size) == square


sides = st.integers(1, 400)
places = st.floats(-0.5, 1.5)


@given(sides, sides, st.tuples(places, places, places, places), st.floats(0, 2))
def test_a_crop_is_inside_the_image_and_contains_the_face(width, height, box, margin) -> None:
    inside = cropping.in_pixels(box, True, width, height)
    if inside is None:
        return
    left, top, right, bottom = inside
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    cut = cropping.square_around(inside, margin, width, height)
    assert 0 <= cut[0] < cut[2] <= width and 0 <= cut[1] < cut[3] <= height
    for low, high, first, last in ((left, right, cut[0], cut[2]), (top, bottom, cut[1], cut[3])):
        assert first <= low + 1.5 and last >= high - 1.5  # rounded to whole pixels
    left, top, right, bottom = cropping.within(inside, cut)
    assert 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1


def test_boxes_in_pixels() -> None:
    assert cropping.in_pixels((0.25, 0.5, 0.75, 1.0), True, 200, 100) == (50, 50, 150, 100)
    assert cropping.in_pixels((-5, 10, 20, 30), False, 200, 100) == (0, 10, 20, 30)
    for bad in ((30, 10, 20, 30), (10, 10, 10, 30), (-30, 10, 20, 30), (210, 10, 230, 30), (10, -50, 30, -20)):
        assert cropping.in_pixels(bad, False, 200, 100) is None


def test_faces_are_resized_like_training_images(tmp_path: Path) -> None:
    """A face whose crop is the whole image has the same pixels as the decoded image."""
    image = face(1, size=100)
    archive = zip_of(tmp_path / "a.zip", {"a.jpg": jpeg(image), "a.xml": voc(("with_mask", 5, 0, 95, 100), size=None)})
    (one,) = annotated_images.read(archive).images
    pixels, views, rows = face_crops.crop_faces(one, archive, SIZE, 0.0, 32)
    assert (pixels.shape, views.shape) == ((1, SIZE, SIZE, 3), (1, face_crops.VIEWS, SIZE, SIZE, 3))
    assert np.array_equal(views[0, 0], pixels[0]) and np.array_equal(views[0, -1], pixels[0])
    assert np.array_equal(pixels[0], decoding.decode(jpeg(image), SIZE).pixels)
    assert rows[0]["split"] == unseen.UNSEEN and rows[0]["face_size"] == 90
    assert [rows[0][side] for side in unseen.BOX] == pytest.approx([0.05, 0, 0.95, 1])


def test_boxes_refer_to_the_upright_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 60), "white")
    image.paste((255, 0, 0), (0, 0, 20, 20))  # red at the top left as stored, which is the top right when upright
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90° clockwise
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, quality=95)
    assert ImageOps.exif_transpose(Image.open(buffer)).size == (60, 80)
    annotation = voc(("with_mask", 40, 0, 60, 20), size=(60, 80))
    archive = zip_of(tmp_path / "a.zip", {"a.jpg": buffer.getvalue(), "a.xml": annotation})
    pixels, _, _ = face_crops.crop_faces(annotated_images.read(archive).images[0], archive, 32, 0.0, 10)
    assert np.abs(pixels[0, 4:-4, 4:-4].mean(axis=(0, 1)) - (255, 0, 0)).max() < 20


# The stage


@pytest.fixture
def stage(logged: list[dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict]:
    """Runs the stage on these files in a scratch repository whose training set is the images 100 to 103.

    Returns metrics/unseen_faces.json.
    """
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"image_size": SIZE}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    trained = [np.asarray(face(100 + i).resize((SIZE, SIZE))) for i in range(4)]
    hashes, _ = perceptual_hash.perceptual_hashes(
        np.stack([perceptual_hash.grey_thumbnail(image) for image in trained])
    )
    splits = ["train", "val", "test", "surplus"]
    manifest = pd.DataFrame({"path": "x", "label": "with_mask", "split": splits, "row": range(4)})
    manifest["perceptual_hash"] = [f"{value:016x}" for value in hashes]
    packing.MANIFEST_PATH.parent.mkdir(parents=True)
    manifest.to_csv(packing.MANIFEST_PATH, index=False)

    def run(files: dict[str, str | bytes]) -> dict:
        unseen.ARCHIVE.parent.mkdir(exist_ok=True)
        zip_of(unseen.ARCHIVE, files)
        provenance = {"source": "archive", "name": "a.zip", "sha256": "0", "kind": "voc", "images": 9, "failed": []}
        unseen.PROVENANCE.parent.mkdir(exist_ok=True)
        unseen.PROVENANCE.write_text(json.dumps(provenance))
        unseen_faces.main()
        return json.loads(unseen_faces.METRICS.read_text())

    return run


def scene(*faces: tuple[int, str, int]) -> tuple[bytes, str]:
    """An image with faces (index, label, side), each a square, and its annotation."""
    image, boxes, x = Image.new("RGB", (1000, 300), (90, 120, 150)), [], 60
    for index, label, side in faces:
        image.paste(face(index, size=side), (x, 80))
        boxes.append((label, x, 80, x + side, 80 + side))
        x += side + 120
    return png(image), voc(*boxes, size=image.size)


def test_faces_are_cropped_or_left_out_for_a_reason(
    stage: Callable[..., dict], capsys: pytest.CaptureFixture[str]
) -> None:
    street, annotation = scene((1, "with_mask", 96), (2, "without_mask", 31), (3, "mask_weared_incorrect", 32))
    boxes = voc(("with_mask", 50, 50, 40, 90), ("with_mask", 2000, 50, 2040, 90), size=None)
    counts = stage(
        {
            "images/b.png": street, "annotations/b.xml": annotation,
            "images/a.jpg": b"no picture", "annotations/a.xml": annotation,
            "annotations/gone.xml": voc(("with_mask", 1, 1, 60, 60), filename="gone.jpg"),
            "images/boxes.png": street, "annotations/boxes.xml": boxes,
            "images/other.png": street, "annotations/other.xml": voc(("with_mask", 1, 1, 60, 60), size=(500, 150)),
            "images/bare.png": street,
        }
    )  # fmt: skip
    assert counts["used"] == {"with_mask": 1, "without_mask": 0, "incorrect": 1}
    assert counts["left_out"] == {
        "too_small": 1,
        "bad_box": 2,
        "undecodable": 3,
        "no_image": 1,
        "other_size": 1,
        "near_duplicate_of_training": 0,
    }
    assert sum(counts["faces"].values()) == 2 + sum(counts["left_out"].values())
    assert (counts["images_not_annotated"], counts["name"]) == (1, "a.zip")
    assert "left out: images/a.jpg: not an image" in capsys.readouterr().out

    manifest, images = unseen.read_manifest(), unseen.open_images()
    assert list(manifest) == unseen.COLUMNS
    assert manifest["path"].is_unique and manifest["path"].is_monotonic_increasing
    assert images.shape == (2, SIZE, SIZE, 3) and images.dtype == np.uint8
    used = manifest[manifest["split"] == unseen.UNSEEN]
    assert used["path"].tolist() == ["images/b.png#1", "images/b.png#3"]
    assert used["row"].tolist() == [0, 1] and used["face_size"].tolist() == [96, 32]
    assert (manifest.loc[manifest["split"] != unseen.UNSEEN, "row"] == -1).all()
    with zipfile.ZipFile(unseen.ARCHIVE) as zf:
        whole = Image.open(io.BytesIO(zf.read("images/b.png")))
    assert np.array_equal(images[0], decoding.to_square(whole.crop((36, 56, 180, 200)), SIZE))


def test_near_duplicates_of_training_and_validation_images_are_left_out(stage: Callable[..., dict]) -> None:
    files: dict[str, str | bytes] = {"with_mask/new.jpg": jpeg(face(1))}
    files["with_mask/train.jpg"] = jpeg(face(100, size=192))  # larger, and compressed again
    files["with_mask/val_mirrored.png"] = png(ImageOps.mirror(face(101)))
    files["with_mask/test.jpg"] = jpeg(face(102))  # a test image, not used for training
    counts = stage(files)
    manifest = unseen.read_manifest().set_index("path")["split"]
    near_duplicates = manifest[manifest == "near_duplicate_of_training"].index.tolist()
    assert near_duplicates == ["with_mask/train.jpg", "with_mask/val_mirrored.png"]
    assert (counts["left_out"]["near_duplicate_of_training"], counts["used"]["with_mask"]) == (2, 2)


def test_faces_are_compared_with_all_views_of_the_known_images_by_features() -> None:
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(len(views.VIEWS), 200, 40)).astype(np.float32)
    whitenings = similarity.fit_whitenings(stored, np.arange(200))
    known_rows = similarity.describe(stored, np.arange(100), whitenings)  # the others are test images
    known = cropped_set.Known(np.array([0], np.uint64), whitenings, known_rows, None)
    hashes = rng.integers(2**62, 2**63, (2, 8, face_crops.VIEWS), dtype=np.uint64)
    hashes[0, 5:7, 2] = 0
    features = rng.normal(size=(len(views.VIEWS), 8, face_crops.VIEWS, 40)).astype(np.float32)
    for i, view in enumerate(views.VIEWS):  # face i, in one of its crops, is what this view shows of known image i
        part = list(views.VIEWS).index("upper" if view.startswith("upper") else "images")
        features[part, i, i % face_crops.VIEWS] = stored[list(views.VIEWS).index(view), i]
    features[0, 7, 1] = stored[0, 150]
    thresholds = dict.fromkeys(("whole", "rotated", "upper"), 0.95)
    paths = pd.Series([*(f"{i}.jpg#1" for i in range(7)), "6.jpg#2"])
    near, found_by = cropped_set.near_duplicates(paths, hashes, features, known, 6, thresholds)
    assert near.tolist() == [True] * 8  # the last is another face of image 6
    assert found_by == {"hash_only": 1, "features_only": 5, "both": 1, "other_face_of_the_image": 1}
    paths[7] = "7.jpg"
    near, found_by = cropped_set.near_duplicates(paths, hashes, features, known, 6, thresholds)
    assert near.tolist() == [True] * 7 + [False] and found_by["other_face_of_the_image"] == 0
    near, _ = cropped_set.near_duplicates(paths, hashes, features, known, 6, thresholds | {"upper": 1.1})
    assert near.tolist() == [True] * 4 + [False] + [True] * 2 + [False]
    nothing = np.empty((len(views.VIEWS), 8, face_crops.VIEWS, 0), np.float32)
    near, found_by = cropped_set.near_duplicates(
        paths, hashes, nothing, cropped_set.Known(known.hashes, None, None, None), 6, thresholds
    )
    assert near.tolist() == [False] * 5 + [True] * 2 + [False] and found_by["features_only"] == 0


def test_a_face_is_left_out_if_the_whole_image_is_a_training_image(stage: Callable[..., dict]) -> None:
    files = {"a.png": png(face(100, size=200)), "a.xml": voc(("with_mask", 60, 60, 100, 100), size=None)}
    files |= dict(zip(("b.png", "b.xml"), scene((100, "with_mask", 96), (3, "with_mask", 96)), strict=True))
    stage(files)
    assert unseen.read_manifest()["split"].tolist() == ["near_duplicate_of_training", unseen.UNSEEN, unseen.UNSEEN]


def test_folders_have_no_boxes_and_small_images_are_left_out(stage: Callable[..., dict]) -> None:
    counts = stage(
        {"masked/a.png": png(face(1)), "masked/b.png": png(face(2, size=31)), "incorrect/c.png": png(face(3))}
    )
    assert counts["used"] == {"with_mask": 1, "without_mask": 0, "incorrect": 1}
    manifest = unseen.read_manifest()
    assert manifest["path"].tolist() == ["incorrect/c.png", "masked/a.png", "masked/b.png"]
    assert manifest["split"].tolist() == [unseen.UNSEEN, unseen.UNSEEN, "too_small"]
    assert manifest[["face_size", *unseen.BOX]].isna().all(axis=None)
    assert np.array_equal(unseen.open_images()[0], decoding.decode(png(face(3)), SIZE).pixels)


def test_the_same_bytes_every_time(stage: Callable[..., dict]) -> None:
    files = {
        f"{i}.{end}": part for i in range(6) for end, part in zip(("png", "xml"), scene((i, "mask", 80)), strict=True)
    }
    stage(files)
    paths = (unseen.IMAGES_PATH, unseen.MANIFEST_PATH, unseen_faces.METRICS)
    first = [path.read_bytes() for path in paths]
    stage(dict(reversed(files.items())))
    assert [path.read_bytes() for path in paths] == first


def test_no_face_left_is_a_clear_error_and_writes_nothing(stage: Callable[..., dict]) -> None:
    with pytest.raises(UserError, match=r"no face of archive a\.zip is left .*\(too_small\).*unseen\.min_face"):
        stage({"masked/b.png": png(face(2, size=20))})
    assert not unseen.IMAGES_PATH.exists() and not unseen.MANIFEST_PATH.exists()
    unseen.PROVENANCE.unlink()
    with pytest.raises(UserError, match=r"unseen_data\.json is missing"):
        unseen_faces.main()
    with pytest.raises(UserError, match="dvc repro unseen_faces"):
        unseen.read_manifest()
    with pytest.raises(UserError, match="dvc repro unseen_faces"):
        unseen.open_images()


def test_near_any_agrees_with_pairs() -> None:
    rng = np.random.default_rng(0)
    known = rng.integers(0, 2**63, 40, np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, n, replace=False)) for n in range(13)]
    near = known[:13] ^ np.array(flips, np.uint64)
    other = rng.integers(0, 2**63, 13, np.uint64)
    assert perceptual_hash.near_any(near, other, known, 6).tolist() == [n <= 6 for n in range(13)]
    assert perceptual_hash.near_any(other, near, known, 6).tolist() == [n <= 6 for n in range(13)]
    assert not perceptual_hash.near_any(near, near, known[:0], 6).any()
