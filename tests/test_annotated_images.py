"""Annotated faces of an archive: VOC, YOLO and class folders, and invalid or hostile annotations."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_mask.errors import UserError
from pipeline.sources import annotated_images
from pipeline.sources.annotation_files import SYNONYMS, Face, label_of, read_voc, read_yolo


def voc(*faces: tuple, size: tuple[int, int] | None = (100, 80), filename: str = "a.jpg") -> str:
    """A VOC file of faces (label, left, top, right, bottom)."""
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in faces
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation><filename>{filename}</filename>{stated}{boxes}</annotation>"


def zip_of(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zf:
        for name, content in files.items():
            zf.writestr(name, content)
    return path


def fails(path: Path, files: dict[str, str | bytes], *words: str) -> None:
    """Reading these files ends in one line with these words."""
    with pytest.raises(UserError) as caught:
        annotated_images.read(zip_of(path, files), display_name="the set")
    assert "\n" not in str(caught.value)
    for word in ("the set", *words):
        assert word in str(caught.value)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "set.zip"


WITH_MASK_FACE = ("with_mask", 10, 20, 50, 60)


def test_voc(archive: Path) -> None:
    files: dict[str, str | bytes] = {
        "annotations/b.xml": voc(WITH_MASK_FACE, ("mask_weared_incorrect", 1.5, 2, 30, 40)),
        "annotations/a.xml": voc(("without_mask", 0, 0, 9, 9), size=None),
        "images/b.jpg": b"",
        "images/a.png": b"",  # its annotation says a.jpg
        "images/c.jpg": b"",
        "readme.md": "",
        "__MACOSX/images/._b.jpg": b"",
    }
    found = annotated_images.read(zip_of(archive, files))
    assert (found.kind, found.not_annotated, found.other_files) == ("voc", 1, 1)
    a, b = found.images
    assert (a.name, a.image, a.size) == ("images/a.png", "images/a.png", None)
    assert a.faces == (Face("without_mask", (0, 0, 9, 9)),)
    assert b.faces == (Face("with_mask", (10, 20, 50, 60)), Face("incorrect", (1.5, 2, 30, 40)))
    assert b.size == (100, 80)


def test_an_image_is_also_matched_by_the_name_in_its_annotation(archive: Path) -> None:
    files: dict[str, str | bytes] = {
        "x/0001.xml": voc(WITH_MASK_FACE, filename="C:\\faces\\street.png"),
        "x/street.jpg": b"",
        "x/0002.xml": voc(WITH_MASK_FACE),
    }
    found = annotated_images.read(zip_of(archive, files)).images
    assert [(one.name, one.image) for one in found] == [("x/0002.xml", None), ("x/street.jpg", "x/street.jpg")]


def test_of_images_with_one_name_the_nearest_is_matched(archive: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{part}/{kind}": "" for part in ("train", "test") for kind in ("images/1.jpg", "labels/1.txt")
    }
    files |= {"train/labels/1.txt": "0 0.5 0.5 0.2 0.2", "test/labels/1.txt": "1 0.5 0.5 0.2 0.2"}
    found = annotated_images.read(zip_of(archive, {**files, "data.yaml": "names: [mask, no-mask]"})).images
    assert [(one.name, one.faces[0].label) for one in found] == [
        ("test/images/1.jpg", "without_mask"),
        ("train/images/1.jpg", "with_mask"),
    ]
    fails(
        archive,
        {"a/1.jpg": b"", "b/1.jpg": b"", "c/1.xml": voc(WITH_MASK_FACE)},
        "'c/1.xml'",
        "a/1.jpg",
        "b/1.jpg",
        "rename",
    )


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("classes.txt", "with_mask\nwithout_mask\nmask_weared_incorrect\n"),
        ("obj.names", "mask\r\nno_mask\r\nincorrect_mask"),
        ("data.yaml", "nc: 3\nnames: [With Mask, Without-Mask, incorrect]"),
        ("data.yml", "names: {0: masked, 1: unmasked, 2: mask_worn_incorrectly}"),
    ],
)
def test_yolo(archive: Path, name: str, classes: str) -> None:
    files: dict[str, str | bytes] = {
        "images/a.jpg": b"",
        "images/empty.jpg": b"",
        "images/none.jpg": b"",
        "labels/a.txt": "\ufeff0 0.5 0.25 0.5 0.5\n\n1 0.1 0.2 0.1 0.2\n2 0.5 0.5 1 1\n".encode(),
        "labels/empty.txt": "",
        "notes.txt": "not an annotation",
        name: classes,
    }
    found = annotated_images.read(zip_of(archive, files))
    assert (found.kind, found.not_annotated, found.other_files) == ("yolo", 1, 1)
    a, empty = found.images
    assert empty.faces == ()
    assert [face.label for face in a.faces] == ["with_mask", "without_mask", "incorrect"]
    assert a.faces[0].relative and a.faces[0].box == (0.25, 0, 0.75, 0.5)
    assert a.faces[1].box == pytest.approx((0.05, 0.1, 0.15, 0.3))


def test_folders_of_one_class_or_of_three(archive: Path) -> None:
    one = annotated_images.read(zip_of(archive, {"faces/with_mask/a.jpg": b"", "faces/with_mask/b.txt.png": b""}))
    assert one.kind == "folders"
    assert [(x.name, x.faces) for x in one.images] == [
        ("faces/with_mask/a.jpg", (Face("with_mask"),)),
        ("faces/with_mask/b.txt.png", (Face("with_mask"),)),
    ]
    names = ("No Mask/a.jpg", "incorrect/a.jpg", "masked/a.jpg")
    three = annotated_images.read(zip_of(archive, dict.fromkeys(names, b"")))
    assert {x.name: x.faces[0].label for x in three.images} == dict(
        zip(names, ["without_mask", "incorrect", "with_mask"], strict=True)
    )


BILLION = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
BOX = "<annotation><object><name>with_mask</name><bndbox>{}</bndbox></object></annotation>"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("<annotation>", ["not valid XML"]),
        ("", ["not valid XML"]),
        (f'<!DOCTYPE a [<!ENTITY l0 "ha">{BILLION}]><a>&l9;</a>', ["declares a document type"]),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', ["declares a document type"]),
        ('<?xml version="1.0" encoding="no-such"?><a/>', ["not valid XML"]),
        (voc(("cat", 1, 1, 9, 9)), ["class 'cat'", "with_mask, without_mask, incorrect"]),
        (voc(("face", 1, 1, 9, 9)), ["class 'face'"]),
        (voc(("\x1b[31m".replace("\x1b", "&#27;"), 1, 1, 9, 9)), ["not valid XML"]),
        (voc(("with_mask", "left", 1, 9, 9)), ["no number in <xmin>"]),
        (voc(("with_mask", 1, "nan", 9, 9)), ["no number in <ymin>"]),
        (voc(("with_mask", 1, 1, "1e999", 9)), ["no number in <xmax>"]),
        (BOX.format("<xmin>1</xmin>"), ["no number in <ymin>"]),
        ("<annotation><object><name>with_mask</name></object></annotation>", ["no number in <xmin>"]),
        (f"<annotation>{' ' * 2_000_000}</annotation>", ["too many for an annotation"]),
        ("<annotation/>", ["not of any face"]),
        ("<a>" * 100_000 + "</a>" * 100_000, ["not of any face"]),
    ],
)
def test_bad_voc(archive: Path, annotation: str, words: list[str]) -> None:
    where = [] if "not of any face" in words else ["'a.xml'"]
    fails(archive, {"a.jpg": b"", "a.xml": annotation}, *where, *words)


@pytest.mark.parametrize(
    ("lines", "classes", "words"),
    [
        ("0 0.5 0.5 0.2", "mask", ["'a.txt' line 1", "class, x, y, width, height"]),
        ("\n0 0.5 0.5 0.2 nan", "mask", ["'a.txt' line 2"]),
        ("1 0.5 0.5 0.2 0.2", "mask", ["class 1", "not in the list"]),
        ("0.5 0.5 0.5 0.2 0.2", "mask", ["class 0.5"]),
        ("0 0.5 0.5 0.2 0.2", "person", ["class 'person'"]),
        (b"\xff\xfe0", "mask", ["not UTF-8"]),
        ("", "mask", ["not of any face"]),
    ],
)
def test_bad_yolo(archive: Path, lines: str | bytes, classes: str, words: list[str]) -> None:
    fails(archive, {"a.jpg": b"", "a.txt": lines, "classes.txt": classes}, *words)


@pytest.mark.parametrize("listed", ["[", "- a", "names: 3", "train: x", "a: &a [*a]\nnames: *b", "[" * 5000])
def test_bad_class_lists(archive: Path, listed: str) -> None:
    fails(archive, {"a.jpg": b"", "a.txt": "0 0.5 0.5 0.2 0.2", "data.yaml": listed}, "'data.yaml'", "names")


def test_archives_without_faces(archive: Path) -> None:
    fails(archive, {"notes.txt": ""}, "has no images")
    fails(archive, {"a.jpg": b""}, "'a.jpg' is in no folder", "with_mask/")
    fails(archive, {"with_mask/a.jpg": b"", "cats/b.jpg": b""}, "'cats/b.jpg'", "not a class")
    fails(archive, {"i/a.jpg": b"", "i/a.txt": "0 .5 .5 .1 .1"}, "no class names", "classes.txt")
    fails(archive, {"../with_mask/a.jpg": b""}, "leads out")


def test_a_missing_archive_names_the_stage_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unseen\.zip is missing: run `dvc repro unseen_download`, .*unseen\.path"):
        annotated_images.read(tmp_path / "unseen.zip")


def test_every_synonym_belongs_to_one_label() -> None:
    names = [name for names in SYNONYMS.values() for name in names]
    assert len(set(names)) == len(names)
    for label, synonyms in SYNONYMS.items():
        for name in synonyms:
            assert label_of(name) == label_of(name.upper().replace("_", "-")) == label_of(f" {name} ") == label
    assert [label_of(name) for name in ("face", "", "person", "with", "1")] == [None] * 5


fractions = st.floats(0.01, 0.99)


@given(st.lists(st.tuples(st.sampled_from([*SYNONYMS]), fractions, fractions, fractions, fractions)))
def test_both_formats_are_read_as_written(faces: list) -> None:
    yolo = "\n".join(f"{[*SYNONYMS].index(label)} {x!r} {y!r} {w!r} {h!r}" for label, x, y, w, h in faces)
    read = read_yolo(yolo.encode(), dict(enumerate(SYNONYMS)), "a.txt")
    in_voc, size, name = read_voc(voc(*faces).encode(), "a.xml")
    assert [face.label for face in read] == [face.label for face in in_voc] == [face[0] for face in faces]
    assert [face.box for face in in_voc] == [face[1:] for face in faces]
    for face, (_, x, y, w, h) in zip(read, faces, strict=True):
        assert face.box is not None
        left, top, right, bottom = face.box
        assert (left + right, top + bottom, right - left, bottom - top) == pytest.approx((2 * x, 2 * y, w, h))
    assert (size, name) == ((100, 80), "a.jpg")


def test_yaml_that_could_unfold_is_refused(archive: Path) -> None:
    files: dict[str, str | bytes] = {"a.jpg": b"", "a.txt": "0 0.5 0.5 0.2 0.2"}
    for names in ("a: &a [mask]\nnames: *a", "a: &a {0: mask}\nnames: {<<: *a}", "names: {<<: {0: mask}}"):
        fails(archive, files | {"data.yaml": names}, "'data.yaml'", "an alias (*) or a merge key (<<)")
    fails(archive, files | {"data.yaml": f"names: [mask]\n#{'x' * 65536}"}, "'data.yaml'", "too many")
    fails(archive, files | {"data.yaml": "names: mask"}, "'data.yaml'", "no list `names`")


def test_more_faces_than_an_image_can_show_are_refused(archive: Path) -> None:
    line = "0 0.5 0.5 0.2 0.2\n"
    files: dict[str, str | bytes] = {"a.jpg": b"", "classes.txt": "mask", "a.txt": line * 1900}
    assert len(annotated_images.read(zip_of(archive, files)).images[0].faces) == 1900
    fails(archive, files | {"b/a.txt": line * 101}, "'b/a.txt'", "more than 2000 faces")
