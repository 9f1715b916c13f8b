"""Faults of what comes from outside: downloads side by side, hostile archives and annotations, lists of images."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import workspaces
from tests.kaggle_server import serving
from tests.test_annotated_images import zip_of
from tests.test_download import CREDENTIALS, FACES
from tests.test_unseen_download import png

Seen = Callable[[str], None]
# Each line holds nine of the one before: 9^9 entries if merged.
MERGE_BOMB = b"a: &a {0: mask}\n" + b"".join(
    b"%c: &%c {<<: [%s]}\n" % (new, new, b", ".join([b"*%c" % old] * 9))
    for old, new in zip(b"abcdefgh", b"bcdefghi", strict=True)
) + b"names: {<<: *i}\n"  # fmt: skip


def directory_alone(path: Path, entries: int, stated: int) -> None:
    """Write a zip of a central directory without members, whose number it states as `stated`."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    size = entries * len(entry)
    with path.open("wb") as file:
        for _ in range(entries // 100_000):
            file.write(entry * 100_000)
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, stated, stated, size, 0))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))


@pytest.mark.fault(
    21, "a zip of three million entries that states to have one", "refused in one line before it is parsed"
)
def test_an_archive_of_millions_of_entries_is_refused_unparsed(tmp_path: Path, seen: Seen) -> None:
    folder = workspaces.make(tmp_path / "w", {"data.source": "archive", "data.path": "many.zip"})
    directory_alone(folder / "many.zip", 3_000_000, stated=1)
    outcome = workspaces.stage(folder, "download")
    assert outcome.code == 1 and "has 3000000 members, more than 1000000" in outcome.error()
    assert not list((folder / "data/raw").iterdir())
    assert outcome.peak_mb < 700
    seen(f"exit code 1, “has 3000000 members, more than 1000000”, {outcome.peak_mb:.0f} MB")


@pytest.mark.fault(20, "a YAML bomb of merge keys in a YOLO data.yaml", "refused in one line, unexpanded")
def test_a_yaml_bomb_is_refused(tmp_path: Path, seen: Seen) -> None:
    folder = workspaces.make(tmp_path / "w", {"unseen.source": "archive", "unseen.path": "bomb.zip"})
    assert len(MERGE_BOMB) < 600
    zip_of(folder / "bomb.zip", {"a.png": png(), "a.txt": "0 .5 .5 .5 .5", "data.yaml": MERGE_BOMB})
    outcome = workspaces.stage(folder, "unseen_download", seconds=60)
    assert outcome.code == 1 and "'data.yaml' has an alias (*) or a merge key (<<)" in outcome.error()
    assert not list((folder / "data/raw").iterdir())
    assert outcome.peak_mb < 500
    seen(f"exit code 1, “has an alias (*) or a merge key (<<)”, {outcome.peak_mb:.0f} MB")


@pytest.mark.full
@pytest.mark.fault(20, "100,000 annotations piled on one image", "refused in one line; 2,000 are cropped within 2 GB")
def test_annotations_piled_on_one_image(tmp_path: Path, seen: Seen) -> None:
    parameters = {"unseen.source": "archive", "unseen.path": "piled.zip", "mobilenet.pretrained": "none"}
    folder = workspaces.make(tmp_path / "w", parameters)
    contents: dict[str, str | bytes] = {"classes.txt": "mask\n", "a.png": png(size=(400, 300))}
    piled = "0 .5 .5 .4 .4\n" * 70_000  # 1 MB is the limit of one file, and faces of several add up
    zip_of(folder / "piled.zip", contents | {"a.txt": piled, "b/a.txt": piled})
    refused = workspaces.stage(folder, "unseen_download")
    assert refused.code == 1 and "more than 2000 faces" in refused.error()

    zip_of(folder / "piled.zip", contents | {"a.txt": "0 .5 .5 .4 .4\n" * 2000})
    assert workspaces.stage(folder, "unseen_download").code == 0
    (folder / "data/split").mkdir()
    manifest = "path,label,split,group,row,perceptual_hash,mirrored_hash\na.jpg,with_mask,train,0,0,00ff,00fe\n"
    (folder / "data/split/manifest.csv").write_text(manifest)
    cropped = workspaces.stage(folder, "unseen_faces")
    assert cropped.code == 0 and "2000 with_mask" in cropped.stdout, cropped.stderr
    assert cropped.peak_mb < 2000
    seen(f"exit code 1, “more than 2000 faces”; 2,000 faces cropped with {cropped.peak_mb:.0f} MB")


@pytest.mark.full
@pytest.mark.fault(13, "download and unseen_download at the same time", "both finish, neither removes the other's part")
def test_two_downloads_side_by_side(tmp_path: Path, seen: Seen) -> None:
    folder = workspaces.make(tmp_path / "w", {"data.kaggle": "somebody/faces", "unseen.kaggle": "somebody/others"})
    with serving() as kaggle, ThreadPoolExecutor(2) as pool:
        kaggle.reset(FACES)
        env = {**kaggle.environment, **dict.fromkeys(CREDENTIALS, ""), "HOME": str(tmp_path / "home")}
        kaggle.fault = "stall midway"  # the first download waits with half of its bytes until the second is done
        first = pool.submit(workspaces.stage, folder, "download", env)
        partial = wait_for_partial(folder / "data/raw")
        kaggle.fault = None
        second = workspaces.stage(folder, "unseen_download", env)
        assert second.code == 0, second.stderr
        assert partial.exists()
        kaggle.closing.set()  # breaks the first connection, which is then resumed
        outcome = first.result()
    assert outcome.code == 0, outcome.stderr
    for name in ("images.zip", "unseen.zip"):
        assert (folder / "data/raw" / name).read_bytes() == FACES
    assert sorted(path.name for path in (folder / "data/raw").iterdir()) == ["images.zip", "unseen.zip"]
    seen("exit code 0 twice, both zips whole, one of them resumed from the half that it had")


def wait_for_partial(folder: Path) -> Path:
    """Wait until the client's partial file has more than half a megabyte."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.glob(".download-*/*.zip"):
            if path.stat().st_size > 500_000:
                return path
        time.sleep(0.05)
    raise AssertionError("no partial download")
