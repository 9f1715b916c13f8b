"""Stage unseen_faces: faces cut out as training pictures are framed, and what is left out is counted."""

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

from pipeline import tracking, unseen_faces
from pipeline.data import annotated_pictures, cutting, decoding, duplicates, framing, packing, synthetic, unseen
from pipeline.errors import UserError
from tests.test_annotated_pictures import voc, zip_of

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def face(index: int, label: str = "with_mask", size: int = 96) -> Image.Image:
    return synthetic.draw_picture(5, label, index, size)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


# Cutting


@pytest.mark.parametrize(
    ("box", "margin", "size", "cut"),
    [
        ((40, 40, 60, 50), 0.0, (100, 100), (40, 35, 60, 55)),
        ((40, 40, 60, 50), 0.25, (100, 100), (35, 30, 65, 60)),
        ((0, 0, 20, 20), 0.5, (100, 100), (0, 0, 40, 40)),  # shifted inside
        ((80, 90, 100, 100), 0.5, (100, 100), (60, 60, 100, 100)),
        ((10, 10, 90, 40), 0.5, (100, 60), (0, 0, 100, 60)),  # larger than the picture: all of it
    ],
)
def test_the_square_around_a_box(box, margin, size, cut) -> None:
    assert framing.square_around(box, margin, *size) == cut


sides = st.integers(1, 400)
places = st.floats(-0.5, 1.5)


@given(sides, sides, st.tuples(places, places, places, places), st.floats(0, 2))
def test_a_cut_lies_in_the_picture_and_holds_the_face(width, height, box, margin) -> None:
    inside = framing.in_pixels(box, True, width, height)
    if inside is None:
        return
    left, top, right, bottom = inside
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    cut = framing.square_around(inside, margin, width, height)
    assert 0 <= cut[0] < cut[2] <= width and 0 <= cut[1] < cut[3] <= height
    for low, high, first, last in ((left, right, cut[0], cut[2]), (top, bottom, cut[1], cut[3])):
        assert first <= low + 1.5 and last >= high - 1.5  # rounded to whole pixels
    shares = framing.within(inside, cut)
    assert all(0 <= share <= 1 for share in shares) and shares[0] <= shares[2] and shares[1] <= shares[3]


def test_boxes_in_pixels() -> None:
    assert framing.in_pixels((0.25, 0.5, 0.75, 1.0), True, 200, 100) == (50, 50, 150, 100)
    assert framing.in_pixels((-5, 10, 20, 30), False, 200, 100) == (0, 10, 20, 30)
    for bad in ((30, 10, 20, 30), (10, 10, 10, 30), (-30, 10, 20, 30), (210, 10, 230, 30), (10, -50, 30, -20)):
        assert framing.in_pixels(bad, False, 200, 100) is None


def test_faces_are_resized_as_training_pictures_are(tmp_path: Path) -> None:
    """A face whose cut is a whole picture has the very pixels that decoding gives that picture."""
    picture = face(1, size=100)
    archive = zip_of(
        tmp_path / "a.zip", {"a.jpg": jpeg(picture), "a.xml": voc(("with_mask", 5, 0, 95, 100), size=None)}
    )
    (one,) = annotated_pictures.read(archive).pictures
    pixels, greys, rows = cutting.cut_faces(one, archive, SIZE, 0.0, 32)
    assert (pixels.shape, greys.shape) == ((1, SIZE, SIZE, 3), (1, cutting.VIEWS, 32, 32))
    assert np.array_equal(pixels[0], decoding.decode(jpeg(picture), SIZE).pixels)
    assert rows[0]["split"] == unseen.UNSEEN and rows[0]["face_size"] == 90
    assert [rows[0][side] for side in unseen.BOX] == pytest.approx([0.05, 0, 0.95, 1])


def test_boxes_are_of_the_upright_picture(tmp_path: Path) -> None:
    picture = Image.new("RGB", (80, 60), "white")
    picture.paste((255, 0, 0), (0, 0, 20, 20))  # red at the top left of what is stored, so at the top right upright
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to see it
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif, quality=95)
    assert ImageOps.exif_transpose(Image.open(buffer)).size == (60, 80)
    annotation = voc(("with_mask", 40, 0, 60, 20), size=(60, 80))
    archive = zip_of(tmp_path / "a.zip", {"a.jpg": buffer.getvalue(), "a.xml": annotation})
    pixels, _, _ = cutting.cut_faces(annotated_pictures.read(archive).pictures[0], archive, 32, 0.0, 10)
    assert np.abs(pixels[0, 4:-4, 4:-4].mean(axis=(0, 1)) - (255, 0, 0)).max() < 20


# The stage


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict]:
    """Runs the stage on these files in a scratch repository whose training set is the pictures 100 to 103.

    Returns metrics/unseen_faces.json.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "log_stage", lambda *_, **__: None)
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"image_size": SIZE}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    trained = [np.asarray(face(100 + i).resize((SIZE, SIZE))) for i in range(4)]
    hashes, _ = duplicates.perceptual_hashes(np.stack([duplicates.grey_thumbnail(one) for one in trained]))
    manifest = pd.DataFrame({"path": "x", "split": ["train", "val", "test", "surplus"]})
    manifest["perceptual_hash"] = [f"{value:016x}" for value in hashes]
    packing.MANIFEST_PATH.parent.mkdir(parents=True)
    manifest.to_csv(packing.MANIFEST_PATH, index=False)

    def run(files: dict[str, str | bytes]) -> dict:
        unseen.ARCHIVE.parent.mkdir(exist_ok=True)
        zip_of(unseen.ARCHIVE, files)
        provenance = {"source": "archive", "name": "a.zip", "sha256": "0", "kind": "voc", "pictures": 9, "failed": []}
        unseen.PROVENANCE.parent.mkdir(exist_ok=True)
        unseen.PROVENANCE.write_text(json.dumps(provenance))
        unseen_faces.main()
        return json.loads(unseen_faces.METRICS.read_text())

    return run


def scene(*faces: tuple[int, str, int]) -> tuple[bytes, str]:
    """A picture of faces (index, label, side), each a square of its own, and its annotation."""
    picture, boxes, x = Image.new("RGB", (1000, 300), (90, 120, 150)), [], 60
    for index, label, side in faces:
        picture.paste(face(index, size=side), (x, 80))
        boxes.append((label, x, 80, x + side, 80 + side))
        x += side + 120
    return png(picture), voc(*boxes, size=picture.size)


def test_what_is_cut_and_what_is_left_out(stage: Callable[..., dict], capsys: pytest.CaptureFixture[str]) -> None:
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
        "too_small": 1, "bad_box": 2, "undecodable": 3, "no_picture": 1, "other_size": 1, "near_twin_trained_on": 0,
    }  # fmt: skip
    assert sum(counts["faces"].values()) == 2 + sum(counts["left_out"].values())
    assert (counts["pictures_not_annotated"], counts["name"]) == (1, "a.zip")
    assert "left out: images/a.jpg: no picture" in capsys.readouterr().out

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


def test_near_twins_of_what_was_trained_on_are_left_out(stage: Callable[..., dict]) -> None:
    files: dict[str, str | bytes] = {"with_mask/new.jpg": jpeg(face(1))}
    files["with_mask/train.jpg"] = jpeg(face(100, size=192))  # larger, and compressed again
    files["with_mask/val_mirrored.png"] = png(ImageOps.mirror(face(101)))
    files["with_mask/test.jpg"] = jpeg(face(102))  # never trained on
    counts = stage(files)
    manifest = unseen.read_manifest().set_index("path")["split"]
    twins = manifest[manifest == "near_twin_trained_on"].index.tolist()
    assert twins == ["with_mask/train.jpg", "with_mask/val_mirrored.png"]
    assert (counts["left_out"]["near_twin_trained_on"], counts["used"]["with_mask"]) == (2, 2)


def test_a_face_is_left_out_where_the_whole_picture_was_trained_on(stage: Callable[..., dict]) -> None:
    files = {"a.png": png(face(100, size=200)), "a.xml": voc(("with_mask", 60, 60, 100, 100), size=None)}
    files |= dict(zip(("b.png", "b.xml"), scene((100, "with_mask", 96), (3, "with_mask", 96)), strict=True))
    stage(files)
    assert unseen.read_manifest()["split"].tolist() == ["near_twin_trained_on", unseen.UNSEEN, unseen.UNSEEN]


def test_folders_have_no_boxes_and_small_pictures_are_left_out(stage: Callable[..., dict]) -> None:
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
    assert duplicates.near_any(near, other, known, 6).tolist() == [n <= 6 for n in range(13)]
    assert duplicates.near_any(other, near, known, 6).tolist() == [n <= 6 for n in range(13)]
    assert not duplicates.near_any(near, near, known[:0], 6).any()
