"""Untrusted archives: hostile and damaged ones are rejected in one line."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from face_mask.errors import UserError
from pipeline.sources import archives

GOOD = ["data/with_mask/a.jpg", "data/without_mask/b.jpg"]


def make_zip(path: Path, names: Sequence[str | zipfile.ZipInfo], content: bytes = b"image", **options) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from zipfile, about duplicate names
        with zipfile.ZipFile(path, "w", **options) as zf:
            for name in names:
                zf.writestr(name, content)
    return path


def patched(path: Path, old: bytes, new: bytes, count: int = -1) -> Path:
    """Replace bytes of a zip file."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))
    return path


def central_field(path: Path, member: int, offset: int, form: str, value: int) -> Path:
    """Overwrite one field of a member's entry in the central directory."""
    content = bytearray(path.read_bytes())
    at = -1
    for _ in range(member + 1):
        at = content.index(b"PK\x01\x02", at + 1)
    struct.pack_into(form, content, at + offset, value)
    path.write_bytes(content)
    return path


def refused(path: Path, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        archives.list_images(path, display_name="the.zip")
    message = str(caught.value)
    assert "\n" not in message
    for word in ("the.zip", *words):
        assert word in message
    return message


@pytest.mark.parametrize("prefix", ["", "data/", "a/b/", "./"])
def test_labels_are_the_names_of_the_folders(tmp_path: Path, prefix: str) -> None:
    names = [f"{prefix}with_mask/{name}" for name in ("b.jpg", "a.PNG")] + [f"{prefix}without_mask/c.jpeg"]
    found = archives.list_images(make_zip(tmp_path / "a.zip", names))
    assert found == {"without_mask": names[2:], "with_mask": sorted(names[:2])}


def test_backslashes_of_old_windows_tools_are_separators(tmp_path: Path) -> None:
    names = [name.replace("/", "\\") for name in GOOD]
    assert archives.list_images(make_zip(tmp_path / "a.zip", names))["with_mask"] == names[:1]


def test_system_files_are_ignored_and_other_files_are_counted(tmp_path: Path) -> None:
    system_files = ["__MACOSX/data/with_mask/._a.jpg", "data/with_mask/.DS_Store", "data/Thumbs.db", "data/.x/c.jpg"]
    path = make_zip(tmp_path / "a.zip", [*GOOD, *system_files, "data/with_mask/notes.txt", "data/", "README.md"])
    images, ignored = archives.inspect(path)
    assert images == {"without_mask": GOOD[1:], "with_mask": GOOD[:1]}
    assert ignored == 2


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("../with_mask/x.jpg", "leads out"),
        ("data/with_mask/../../../x.jpg", "leads out"),
        ("..\\with_mask\\x.jpg", "leads out"),
        ("..", "leads out"),
        ("/etc/passwd", "absolute"),
        ("\\with_mask\\x.jpg", "absolute"),
        ("C:\\with_mask\\x.jpg", "absolute"),
        ("c:with_mask/x.jpg", "absolute"),
        ("with_mask/x\n.jpg", "printable"),
        ("with_mask/\x1b[2Jx.jpg", "printable"),
    ],
)
def test_names_that_leave_the_archive(tmp_path: Path, name: str, word: str) -> None:
    message = refused(make_zip(tmp_path / "a.zip", [*GOOD, name]), word)
    assert "\x1b" not in message


def test_a_name_cut_short_by_a_nul(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [*GOOD, "data/with_mask/x.jpgQ/../x"])
    refused(patched(path, b"x.jpgQ", b"x.jpg\0"), "leads out")


@pytest.mark.parametrize(
    ("mode", "word"), [(0o120777, "link"), (0o010644, "not a regular file"), (0o060644, "regular")]
)
def test_links_and_devices(tmp_path: Path, mode: int, word: str) -> None:
    entry = zipfile.ZipInfo("data/with_mask/link.jpg")
    entry.external_attr = mode << 16
    refused(make_zip(tmp_path / "a.zip", [*GOOD, entry], b"/etc/passwd"), "link.jpg", word)


def test_encrypted_members(tmp_path: Path) -> None:
    refused(central_field(make_zip(tmp_path / "a.zip", GOOD), 1, 8, "<H", 1), "encrypted", "b.jpg")


def test_duplicate_members(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "a.zip", [*GOOD, GOOD[0]]), "twice")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression(tmp_path: Path, method: int) -> None:
    refused(make_zip(tmp_path / "a.zip", GOOD, compression=method), "compressed by method")


def test_overlapping_members(tmp_path: Path) -> None:
    """Fifield's bomb: many entries of the central directory share one stretch of bytes."""
    path = make_zip(tmp_path / "a.zip", [*GOOD, "data/with_mask/c.jpg"])
    refused(central_field(path, 2, 42, "<L", 0), "overlaps")


def test_a_member_that_reaches_into_the_central_directory(tmp_path: Path) -> None:
    refused(central_field(make_zip(tmp_path / "a.zip", GOOD), 1, 20, "<L", 5000), "overlaps")


def test_a_member_larger_than_any_image(tmp_path: Path) -> None:
    refused(central_field(make_zip(tmp_path / "a.zip", GOOD), 1, 24, "<L", 1 << 30), "unpacks to")


def test_a_bomb_of_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_MATTERS_FROM", 1 << 20)
    names: list[str] = [f"data/with_mask/{i}.bmp" for i in range(4)]
    path = make_zip(tmp_path / "a.zip", [*GOOD, *names], bytes(1 << 20), compression=zipfile.ZIP_DEFLATED)
    refused(path, "bomb")


@pytest.mark.parametrize("stated", [4, 1])  # the number of members that the archive states
def test_members_are_counted_unparsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: int) -> None:
    path = make_zip(tmp_path / "a.zip", [*GOOD, "data/with_mask/1.jpg", "data/with_mask/2.jpg"])
    content = bytearray(path.read_bytes())
    content[-14:-10] = struct.pack("<2H", stated, stated)
    path.write_bytes(content)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    monkeypatch.setattr(zipfile, "ZipInfo", None)
    refused(path, "4 members, more than 3")
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 100)
    refused(path, "a central directory of", "more than 100")


def test_a_wrong_declared_size_does_not_unpack_further(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", GOOD, bytes(32 << 20), compression=zipfile.ZIP_DEFLATED)
    central_field(path, 0, 24, "<L", 10)
    with zipfile.ZipFile(path) as zf, pytest.raises(zipfile.BadZipFile):
        archives.read_member(zf, GOOD[0])


def test_damaged_members_are_bad_zips_one_by_one(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", GOOD, bytes(range(256)) * 40, compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as zf:
        offset = zf.getinfo(GOOD[0]).header_offset + 30 + len(GOOD[0])
    content = bytearray(path.read_bytes())
    content[offset : offset + 20] = b"\xff" * 20
    path.write_bytes(content)
    with zipfile.ZipFile(path) as zf:
        with pytest.raises(zipfile.BadZipFile):
            archives.read_member(zf, GOOD[0])
        assert archives.read_member(zf, GOOD[1]) == bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["data/with_mask/a.jpg"], ["no images in a folder without_mask/"]),
        (["data/without_mask/a.jpg", "data/with_mask/"], ["no images in a folder with_mask/"]),
        ([*GOOD[1:], "data/with_mask/a.txt"], ["only files that are not images (1)", "with_mask"]),
        ([*GOOD, "data/masks/c.jpg", "data/masks/d.jpg"], ["2 images", "'masks'", "not a class"]),
        ([*GOOD, "data/With_Mask/c.jpg"], ["'With_Mask'"]),
        ([*GOOD, "c.jpg"], ["no class folder", "c.jpg"]),
        ([], ["no images"]),
    ],
)
def test_classes_missing_empty_or_unknown(tmp_path: Path, names: list[str], words: list[str]) -> None:
    refused(make_zip(tmp_path / "a.zip", names), *words)


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"<html>Log in to this network</html>", b"PK\x05\x06"])
def test_files_that_are_not_zips(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    refused(path, "not a zip archive")


def test_a_zip_cut_short(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", GOOD)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "not a zip archive")


def test_a_zip_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.zip", "missing", "data.path")
    refused(tmp_path, "cannot be read")


def test_long_names_are_shown_short(tmp_path: Path) -> None:
    assert len(refused(make_zip(tmp_path / "a.zip", [*GOOD, "../" + 5000 * "x"]), "leads out")) < 300


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_damage_is_one_line_or_harmless(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zf:
        for name in GOOD:
            zf.writestr(name, b"image" * 20)
    content = bytearray(buffer.getvalue())
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    try:
        found = archives.list_images(path)
    except UserError:
        return
    with zipfile.ZipFile(path) as zf:
        for name in chain(*found.values()):
            with suppress(zipfile.BadZipFile):
                archives.read_member(zf, name)


def test_75_000_members_are_listed_in_two_seconds(tmp_path: Path) -> None:
    names: list[str] = [
        f"data/{label}/{label}_{i}.jpg" for label in ("with_mask", "without_mask") for i in range(37_500)
    ]
    path = make_zip(tmp_path / "a.zip", names, b"")
    started = time.process_time()
    found = archives.list_images(path)
    assert sum(map(len, found.values())) == 75_000
    assert time.process_time() - started < 5  # 1 s on an idle machine
