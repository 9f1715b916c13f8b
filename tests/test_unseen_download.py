"""Stage unseen_download: every source of the unseen set becomes one archive with its provenance."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import yaml
from PIL import Image

from face_mask.errors import UserError
from face_mask.schema import IMAGE_SUFFIXES
from pipeline import unseen_download
from pipeline.dataset import unseen
from pipeline.sources import annotated_images, kaggle_client, training_sources, unseen_sources
from pipeline.synthetic import scenes
from tests.test_annotated_images import WITH_MASK_FACE, voc, zip_of
from tests.test_web import Server, server

__all__ = ["server"]
ROOT = Path(__file__).resolve().parents[1]
KEYS = ["source", "name", "kind", "images", "faces", "failed", "bytes", "sha256"]


def png(seed: int = 0, size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "unseen.zip"


def local(address: str) -> bool:
    return address == "127.0.0.1"


def make(
    archive: Path, source: str, path: Path | None = None, scenes: int = 2, seed: int = 1, max_bytes: int = 10**6,
    allowed: Callable[[str], bool] = local,
) -> dict:  # fmt: skip
    place = None if path is None else str(path)
    return unseen_sources.make_archive(archive, source, "o/n", place, scenes, seed, max_bytes, 5.0, allowed)


def fails(archive: Path, source: str, *words: str, path: Path | None = None) -> None:
    """Making the archive ends in one line with these words, and nothing is left."""
    with pytest.raises(UserError) as caught:
        make(archive, source, path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert not archive.parent.exists() or list(archive.parent.iterdir()) == []


def test_archive_and_kaggle_are_copied_unchanged(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zip_of(
        tmp_path / "set.zip", {"i/a.png": png(), "a/a.xml": voc(WITH_MASK_FACE, WITH_MASK_FACE), "i/b.png": png(1)}
    )
    provenance = make(archive, "archive", source)
    assert archive.read_bytes() == source.read_bytes()
    assert list(provenance) == KEYS
    counts = {"with_mask": 2, "without_mask": 0, "incorrect": 0}
    assert (provenance["kind"], provenance["images"], provenance["faces"]) == ("voc", 2, counts)
    assert provenance["sha256"] == training_sources.sha256(source)

    def download(dataset: str, aside: Path, section: str) -> None:
        assert (dataset, section) == ("o/n", "unseen")
        aside.write_bytes(source.read_bytes())

    monkeypatch.setattr(kaggle_client, "download", download)
    assert make(archive, "kaggle") == {**provenance, "source": "kaggle", "name": "o/n"}


def test_messages_about_kaggle_name_the_parameters_of_this_stage(tmp_path: Path) -> None:
    for status, words in ((404, "unseen.kaggle"), (500, "-S unseen.source=archive -S unseen.path=FILE")):
        state = kaggle_client.ClientState(status=status)
        assert words in kaggle_client.failure_message("o/n", state, 0, 1, tmp_path, "unseen")


def test_a_folder_of_classes_or_with_annotations(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    for name in ("masked/a.png", "masked/b.jpg", "without_mask/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png())
    (folder / "masked/.DS_Store").write_bytes(b"")
    (folder / "notes.md").write_text("")
    first = make(archive, "folder", folder)
    assert (first["kind"], first["name"]) == ("folders", "faces")
    assert first["faces"] == {"with_mask": 2, "without_mask": 1, "incorrect": 0}
    content = archive.read_bytes()
    assert make(archive, "folder", folder) == first and archive.read_bytes() == content

    (folder / "masked/a.txt").write_text("0 0.5 0.5 0.5 0.5")
    (folder / "classes.txt").write_text("mask\n")
    second = make(archive, "folder", folder)
    assert (second["kind"], second["faces"]["with_mask"], second["images"]) == ("yolo", 1, 3)


def test_an_invalid_or_missing_path(archive: Path, tmp_path: Path) -> None:
    for source in ("archive", "folder", "csv"):
        fails(archive, source, "unseen.path", "not set")
        fails(archive, source, "unseen.path" if source != "csv" else "not a CSV", "gone", path=tmp_path / "gone")


def test_a_csv_of_paths_and_addresses(
    archive: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a.jpeg").write_bytes(png(1, kind="JPEG"))
    (tmp_path / "outside.jpg").symlink_to("/etc/passwd")
    lines = [
        "picture, label",
        "here/a.jpeg, masked",
        "here/a.jpeg, incorrect",
        "",
        f"{server.url('/gone')}?key=secret, with_mask",
        f"{server.url('/file')}, without_mask",  # the header says image, but the content is not
        f"{server.url('/to?' + server.url('/file', '127.0.0.2'))}, without_mask",
        "file:///etc/passwd, with_mask",
        "here/gone.jpg, with_mask",
        "outside.jpg, with_mask",
        "here, with_mask",
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    provenance = make(archive, "csv", tmp_path / "list.csv")
    assert (provenance["name"], provenance["kind"], provenance["images"]) == ("list.csv", "folders", 2)
    with zipfile.ZipFile(archive) as zf:
        assert zf.namelist() == ["with_mask/000002.jpeg", "incorrect/000003.jpeg"]
        assert zf.read("with_mask/000002.jpeg") == (tmp_path / "here/a.jpeg").read_bytes()
    failed = {one["image"].partition(":")[0]: one["reason"] for one in provenance["failed"]}
    reasons = {
        "line 5": "HTTP 404",
        "line 6": "not an image",
        "line 7": "127.0.0.2, which is not on the public Internet",
        "line 8": "file is neither http nor https",
        "line 9": "cannot be read (No such file or directory)",
        "line 10": "leaves the folder",
        "line 11": "not a regular file",
    }
    assert failed.keys() == reasons.keys()
    for line, words in reasons.items():
        assert words in failed[line]
    output = capsys.readouterr().out + json.dumps(provenance)
    assert output.count("line 5") == 2 and "secret" not in output and str(tmp_path) not in output


def test_images_are_downloaded(archive: Path, tmp_path: Path, server: Server, monkeypatch) -> None:
    monkeypatch.setattr("tests.test_web.CONTENT", png(3))
    listed = "".join(f"{server.url(f'/file?{i}')},with_mask\n" for i in range(70))
    (tmp_path / "list.csv").write_text(listed)
    provenance = make(archive, "csv", tmp_path / "list.csv")
    assert (provenance["faces"]["with_mask"], provenance["failed"]) == (70, [])
    content = archive.read_bytes()
    assert make(archive, "csv", tmp_path / "list.csv") == provenance and archive.read_bytes() == content
    with pytest.raises(
        UserError, match=r"none of its 70 images could be loaded, the first is line 1: .* more than 100"
    ):
        make(archive, "csv", tmp_path / "list.csv", max_bytes=100)
    with pytest.raises(UserError, match=r"127\.0\.0\.1, which is not on the public Internet"):
        unseen_sources.make_archive(archive, "csv", "o/n", str(tmp_path / "list.csv"), 1, 1, 10**6, 5.0)


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("a.jpg,cat\n", ["line 1", "class 'cat'"]),
        ("path,label\na.jpg,with_mask\nb.jpg\n", ["line 3", "comma"]),
        ("a.jpg,with_mask,more\n", ["line 1", "comma"]),
        ("", ["lists no images"]),
        ("path,label\n", ["lists no images"]),
        (b"\xff\xfe\x00", ["not a CSV"]),
        ("a\0.jpg,with_mask\n", ["none of its 1 images"]),
        ("a.jpg,with_mask\n../b.jpg,with_mask\n", ["line 2: '../b.jpg' is absolute or has `..`"]),
        ("a/../../b.jpg,with_mask\n", ["line 1", "is absolute"]),
        ("/etc/b.jpg,with_mask\n", ["line 1", "is absolute"]),
        ("C:\\b.jpg,with_mask\n", ["line 1", "is absolute"]),
        ("a\\..\\b.jpg,with_mask\n", ["line 1", "is absolute"]),
    ],
)
def test_lists_that_are_refused(archive: Path, tmp_path: Path, listed: str | bytes, words: list[str]) -> None:
    (tmp_path / "list.csv").write_bytes(listed if isinstance(listed, bytes) else listed.encode())
    fails(archive, "csv", "list.csv", *words, path=tmp_path / "list.csv")


def test_drawn_scenes(archive: Path) -> None:
    provenance = make(archive, "synthetic", scenes=12)
    assert (provenance["name"], provenance["kind"], provenance["images"]) == ("12 scenes, seed 1", "voc", 12)
    assert min(provenance["faces"].values()) > 0
    content = archive.read_bytes()
    assert make(archive, "synthetic", scenes=12) == provenance and archive.read_bytes() == content
    assert make(archive, "synthetic", scenes=12, seed=2)["sha256"] != provenance["sha256"]
    for one in annotated_images.read(archive).images:
        assert one.size == (504, 336)
        for face in one.faces:
            assert face.box is not None
            left, top, right, bottom = face.box
            assert 0 <= left < right <= 504 and 0 <= top < bottom <= 336
            assert 0.5 < (right - left) / (bottom - top) < 1.6
    image, _ = scenes.draw(0, 2)
    with zipfile.ZipFile(archive) as zf:
        assert zf.read("images/scene_1.jpg") == image


def test_an_mpo_image_of_a_csv_is_used(archive: Path, tmp_path: Path) -> None:
    first, second = (Image.open(io.BytesIO(png(seed, kind="JPEG"))) for seed in (1, 2))
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "phone.jpg").format == "MPO"
    (tmp_path / "list.csv").write_text("phone.jpg,mask\n", encoding="utf-8-sig")
    provenance = make(archive, "csv", tmp_path / "list.csv")
    assert (provenance["images"], provenance["faces"]["with_mask"], provenance["failed"]) == (1, 1, [])
    with zipfile.ZipFile(archive) as zf:
        assert PurePosixPath(zf.namelist()[0]).suffix in IMAGE_SUFFIXES


def test_a_linked_folder_does_not_lead_out_of_a_csv(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.png").write_bytes(png())
    (tmp_path / "in").mkdir()
    (tmp_path / "in/there").symlink_to(tmp_path / "outside")
    (tmp_path / "in/list.csv").write_text("there/a.png,mask\n")
    fails(archive, "csv", "none of its 1 images", "leaves the folder", path=tmp_path / "in/list.csv")


# The stage


@pytest.fixture
def stage(logged: list[dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Runs the stage in a scratch repository, with these parameters of `unseen` and without MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def run(**parameters: object) -> None:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["unseen"] |= parameters
        Path("params.yaml").write_text(yaml.safe_dump(values))
        unseen_download.main()

    return run


def test_a_complete_download_is_not_repeated(
    stage: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = zip_of(tmp_path / "set.zip", {"a.png": png(), "a.xml": voc(WITH_MASK_FACE)})
    asked = []

    def download(dataset: str, aside: Path, section: str) -> None:
        asked.append(dataset)
        aside.write_bytes(source.read_bytes())

    monkeypatch.setattr(kaggle_client, "download", download)
    stage()
    stage()
    assert asked == ["andrewmvd/face-mask-detection"]
    assert "not downloaded again" in capsys.readouterr().out
    unseen.ARCHIVE.write_bytes(b"no longer whole")
    stage()
    stage(kaggle="other/set")
    assert asked[1:] == ["andrewmvd/face-mask-detection", "other/set"]

    before = unseen.PROVENANCE.read_bytes()
    with pytest.raises(UserError, match=r"unseen\.path = .*gone is not a folder"):
        stage(source="folder", path="gone")
    assert (unseen.PROVENANCE.read_bytes(), unseen.ARCHIVE.read_bytes()) == (before, source.read_bytes())
    assert list(json.loads(before)) == KEYS and str(tmp_path) not in before.decode()
