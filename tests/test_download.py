"""Stage download: every source, and the official Kaggle client with a fake Kaggle server that has every fault."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from face_mask.errors import UserError
from pipeline import download
from pipeline.sources import archives, kaggle_client, training_sources
from tests.kaggle_server import Kaggle, basic, serving

ROOT = Path(__file__).resolve().parents[1]
DATASET = "somebody/some-faces"
CREDENTIALS = ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME")


def zip_of(names: list[str], size: int = 500_000) -> bytes:
    """A zip as Kaggle's; larger than the client's pieces of 1 MB, so that it is there in part when it is cut."""
    buffer = io.BytesIO()
    noise = random.Random(0)
    with zipfile.ZipFile(buffer, "w") as zf:
        for name in names:
            zf.writestr(zipfile.ZipInfo(name, (2020, 5, 26, 9, 36, 32)), noise.randbytes(size))
    return buffer.getvalue()


FACES = zip_of([f"data/{label}/{label}_{i}.jpg" for label in ("with_mask", "without_mask") for i in range(3)])


@pytest.fixture(scope="session")
def server() -> Iterator[Kaggle]:
    with serving() as server:
        yield server


@pytest.fixture
def kaggle(server: Kaggle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kaggle:
    """Kaggle with FACES and no fault, for a user who has no credentials."""
    server.reset(FACES)
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "images.zip"


def make(archive: Path, source: str, path: Path | str | None = None, per_class: int = 2, seed: int = 1) -> dict:
    return training_sources.make_archive(archive, source, DATASET, None if path is None else str(path), per_class, seed)


def fails(archive: Path, source: str, *words: str, path: Path | str | None = None) -> str:
    """Making the archive ends in one line with these words, and leaves nothing beside what was there before."""
    archive.parent.mkdir(exist_ok=True, parents=True)
    before = {file: file.read_bytes() for file in archive.parent.rglob("*")}
    with pytest.raises(UserError) as caught:
        make(archive, source, path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert {file: file.read_bytes() for file in archive.parent.rglob("*")} == before
    return message


# Kaggle


def test_kaggle_without_credentials(kaggle: Kaggle, archive: Path, capfd: pytest.CaptureFixture[str]) -> None:
    leftover = archive.parent / ".download-killed"  # of a run that had no chance to clear it away
    leftover.mkdir(parents=True)
    (leftover / "some-faces.zip").write_bytes(b"half")
    provenance = make(archive, "kaggle")
    assert archive.read_bytes() == FACES
    digest = hashlib.sha256(FACES).hexdigest()
    counts = {"with_mask": 3, "without_mask": 3}
    assert provenance == {"source": "kaggle", "name": DATASET, **counts, "bytes": len(FACES), "sha256": digest}
    assert {request.authorization for request in kaggle.requests} == {None}
    assert [file.name for file in archive.parent.iterdir()] == ["images.zip"]
    progress = capfd.readouterr().err
    assert DATASET in progress and "100%" in progress


@pytest.mark.parametrize("how", ["username and key", "kaggle.json", "token"])
def test_kaggle_with_credentials(
    kaggle: Kaggle, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    if how == "token":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "t0ken")
    elif how == "kaggle.json":
        (tmp_path / "config").mkdir()
        (tmp_path / "config/kaggle.json").write_text('{"username": "me", "key": "k3y"}')
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "config"))
    else:
        monkeypatch.setenv("KAGGLE_USERNAME", "me")
        monkeypatch.setenv("KAGGLE_KEY", "k3y")
    make(archive, "kaggle")
    asked = next(request for request in kaggle.requests if "ownload" in request.path)
    assert asked.authorization == ("Bearer t0ken" if how == "token" else basic("me", "k3y"))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, ["credentials", "KAGGLE_API_TOKEN"]),
        (403, ["accept its terms", f"https://www.kaggle.com/datasets/{DATASET}", "KAGGLE_API_TOKEN"]),
        (404, ["no data set", "data.kaggle", "params.yaml"]),
        (429, ["wait some minutes"]),
        (500, ["server failed", "later", "-S data.source=archive -S data.path=FILE"]),
    ],
)
def test_kaggle_refuses(
    kaggle: Kaggle, archive: Path, status: int, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    kaggle.fault = str(status)
    fails(archive, "kaggle", DATASET, str(status), *words)
    assert capfd.readouterr().err == ""


def test_a_cut_connection_is_resumed(kaggle: Kaggle, archive: Path) -> None:
    kaggle.fault = "cut"
    make(archive, "kaggle")
    assert archive.read_bytes() == FACES
    ranges = [request.range for request in kaggle.requests if request.range]
    assert ranges and all(0 < int(wanted.removeprefix("bytes=").rstrip("-")) < len(FACES) for wanted in ranges)


def test_a_download_that_stalls(kaggle: Kaggle, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle_client, "STALL_SECONDS", 3)
    kaggle.fault = "stall"
    fails(archive, "kaggle", DATASET, "stalled for 3 s", "network", "data.source=archive")


def test_a_download_that_stalls_midway_is_resumed(
    kaggle: Kaggle, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle_client, "STALL_SECONDS", 3)
    kaggle.fault = "stall midway"
    make(archive, "kaggle")
    assert archive.read_bytes() == FACES
    assert any(request.range for request in kaggle.requests)


def test_no_zip_from_kaggle(kaggle: Kaggle, archive: Path) -> None:
    kaggle.archive = bytes(3_000_000)
    fails(archive, "kaggle", DATASET, "not a zip archive", "download it again")


def test_a_hostile_zip_from_kaggle_leaves_the_former_one(kaggle: Kaggle, archive: Path) -> None:
    archive.parent.mkdir()
    archive.write_bytes(b"the former one")
    kaggle.archive = zip_of(["data/with_mask/a.jpg", "../without_mask/b.jpg"], 10)
    fails(archive, "kaggle", DATASET, "leads out")
    assert archive.read_bytes() == b"the former one"


def test_no_network(kaggle: Kaggle, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # the port of the discard service: nobody listens
    fails(archive, "kaggle", DATASET, "cannot be reached", "network", "data.source=archive")


def test_a_disk_seen_to_be_too_small(kaggle: Kaggle, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    kaggle.fault = "stall"
    fails(archive, "kaggle", DATASET, "too full", "needs 3.0 MB and 1.0 MB are free")


def test_a_file_that_cannot_grow(kaggle: Kaggle, archive: Path) -> None:
    """The limit stands for any disk, quota or file system that ends while the client writes."""
    archive.parent.mkdir()
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, {resource.RLIM_INFINITY}))\n"
        "import pathlib; from face_mask import errors; from pipeline.sources import kaggle_client\n"
        f"errors.run(lambda: kaggle_client.download({DATASET!r}, pathlib.Path({str(archive)!r})))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    assert "too full" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert list(archive.parent.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("foreseen", [True, False])
def test_a_full_disk(kaggle: Kaggle, small_disk: Path, monkeypatch: pytest.MonkeyPatch, foreseen: bool) -> None:
    if not foreseen:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 40))
    fails(small_disk / "images.zip", "kaggle", DATASET, "too full", "needs 3.0 MB")


@pytest.mark.parametrize("source", ["archive", "folder"])
def test_a_full_disk_for_the_other_sources(small_disk: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "faces.zip").write_bytes(FACES)
    folder = image_folder(tmp_path / "faces", size=1_500_000)
    path = folder if source == "folder" else tmp_path / "faces.zip"
    fails(small_disk / "images.zip", source, "disk is too full", "free some space", path=path)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_end_from_outside_leaves_nothing(kaggle: Kaggle, archive: Path, how: signal.Signals) -> None:
    archive.parent.mkdir()
    kaggle.fault = "stall midway"
    # A command that was started in the background, as CI may be, ignores Ctrl-C unless told otherwise.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import pathlib; from face_mask import errors; from pipeline.sources import training_sources\n"
        f"source = ('kaggle', {DATASET!r}, None, 1, 1)\n"
        f"errors.run(lambda: training_sources.make_archive(pathlib.Path({str(archive)!r}), *source))"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list(archive.parent.glob(".download-*/*.zip")):
        assert run.poll() is None
        time.sleep(0.05)
    clients = psutil.Process(run.pid).children()
    assert clients
    run.send_signal(how)
    _, written = run.communicate(timeout=20)
    assert run.returncode == (143 if how == signal.SIGTERM else 130)
    assert "Traceback" not in written
    assert list(archive.parent.iterdir()) == []
    assert not any(client.is_running() for client in clients)


# The other sources


def image_folder(folder: Path, size: int = 100) -> Path:
    for label in ("with_mask", "without_mask"):
        (folder / label).mkdir(parents=True)
        for name in ("b.jpg", "a.png"):
            (folder / label / name).write_bytes(f"{label} {name}".encode().ljust(size))
    return folder


def test_archive_is_copied(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(FACES)
    provenance = make(archive, "archive", tmp_path / "faces.zip")
    assert archive.read_bytes() == FACES
    assert (provenance["source"], provenance["name"]) == ("archive", "faces.zip")


def test_archive_may_be_the_former_output(archive: Path) -> None:
    archive.parent.mkdir()
    archive.write_bytes(FACES)
    assert make(archive, "archive", archive)["bytes"] == len(FACES) == archive.stat().st_size


@pytest.mark.parametrize("source", ["archive", "folder"])
@pytest.mark.parametrize("path", ["missing", None])
def test_a_path_that_is_not_there(archive: Path, source: str, path: str | None) -> None:
    fails(archive, source, "data.path", path or "not set", path=path)


def test_paths_of_the_other_kind(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(FACES)
    fails(archive, "archive", "is not a file", path=image_folder(tmp_path / "faces"))
    fails(archive, "folder", "is not a folder", path=tmp_path / "faces.zip")


def test_folder_gives_the_same_bytes_wherever_it_lies(archive: Path, tmp_path: Path) -> None:
    first, second = (image_folder(tmp_path / place / "faces") for place in ("here", "there"))
    os.utime(second / "with_mask/a.png", (0, 1e9))
    (second / "with_mask/a.png").chmod(0o600)
    provenance = make(archive, "folder", first)
    assert make(archive.with_name("again.zip"), "folder", second) == provenance
    assert archive.read_bytes() == archive.with_name("again.zip").read_bytes()
    assert provenance["name"] == "faces"
    assert archives.list_images(archive)["with_mask"] == ["with_mask/a.png", "with_mask/b.jpg"]
    with zipfile.ZipFile(archive) as zf:
        assert archives.read_member(zf, "with_mask/b.jpg").strip() == b"with_mask b.jpg"


def test_folder_leaves_other_files_alone(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image_folder(tmp_path / "faces")
    for name in ("notes.txt", "with_mask/.DS_Store", ".git/with_mask/c.jpg", "with_mask/labels.csv"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("")
    monkeypatch.chdir(folder)
    assert make(archive, "folder", ".")["name"] == "faces"
    assert "2 files of folder faces are not images" in capsys.readouterr().out
    with zipfile.ZipFile(archive) as zf:
        assert len(zf.namelist()) == 4


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: shutil.rmtree(f / "with_mask"), ["no images", "with_mask/"]),
        (lambda f: [file.unlink() for file in (f / "without_mask").iterdir()], ["no images", "without_mask/"]),
        (lambda f: shutil.copytree(f / "with_mask", f / "other"), ["2 images", "'other'", "not a class"]),
        (lambda f: shutil.copytree(f / "with_mask", f / "with_mask/with_mask"), ["'with_mask/with_mask'"]),
        (lambda f: shutil.copy(f / "with_mask/b.jpg", f / "b.jpg"), ["no class folder"]),
        (lambda f: (f / "with_mask/c.jpg").symlink_to("/etc/passwd"), ["c.jpg", "leaves the folder"]),
        (lambda f: (f / "with_mask/c.jpg").symlink_to("gone.jpg"), ["c.jpg", "cannot be read"]),
        (lambda f: (f / "with_mask/c.jpg").symlink_to("c.jpg"), ["c.jpg", "cannot be read"]),
        (lambda f: (f / "more").symlink_to(f / "with_mask"), ["more is a link"]),
        (lambda f: os.mkfifo(f / "with_mask/c.jpg"), ["c.jpg", "not a regular file"]),
        (lambda f: (f / "with_mask/c.jpg").mkdir() or (f / "with_mask/c.jpg/d.jpg").touch(), ["c.jpg", "not a class"]),
        (lambda f: os.truncate(f / "with_mask/b.jpg", 65 << 20), ["b.jpg", "too many for an image"]),
        (lambda f: (f / "with_mask/c\n.jpg").touch(), ["c\\n.jpg", "printable"]),
    ],
)
def test_folders_that_are_refused(archive: Path, tmp_path: Path, spoil, words: list[str]) -> None:
    folder = image_folder(tmp_path / "faces")
    spoil(folder)
    fails(archive, "folder", "faces", *words, path=folder)


def test_a_link_within_the_folder_is_followed(archive: Path, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "faces")
    (folder / "with_mask/c.jpg").symlink_to("b.jpg")
    assert make(archive, "folder", folder)["with_mask"] == 3


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(archive: Path, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "faces")
    (folder / "with_mask/b.jpg").chmod(0)
    fails(archive, "folder", "b.jpg", "cannot be read", path=folder)


def test_a_relative_path_is_found_from_dvc_s_copies_of_the_repository(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faces.zip").write_bytes(FACES)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    fails(archive, "archive", "faces.zip", path="faces.zip")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert make(archive, "archive", "faces.zip")["name"] == "faces.zip"


def test_synthetic(archive: Path) -> None:
    provenance = make(archive, "synthetic", per_class=2, seed=7)
    assert (provenance["name"], provenance["with_mask"], provenance["without_mask"]) == ("2 a class, seed 7", 2, 2)
    assert provenance["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


# The stage


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A scratch repository that the stage runs in, with data.kaggle = DATASET."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    set_parameters(kaggle=DATASET)
    return folder


def set_parameters(**data: object) -> None:
    """params.yaml of the repository with other data parameters, in the current folder."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"] |= data
    Path("params.yaml").write_text(yaml.safe_dump(values))


def test_a_complete_download_is_not_repeated(
    kaggle: Kaggle, stage: Path, logged: list[dict], capsys: pytest.CaptureFixture[str]
) -> None:
    download.main()
    recorded = download.PROVENANCE.read_bytes()
    asked = len(kaggle.requests)
    assert asked
    download.main()
    assert len(kaggle.requests) == asked
    assert "not downloaded again" in capsys.readouterr().out.splitlines()[-1]
    assert download.PROVENANCE.read_bytes() == recorded
    assert [call["stage"] for call in logged] == ["download", "download"]
    assert logged[0]["metrics"] == {"with_mask": 3, "without_mask": 3, "bytes": len(FACES)}

    download.ARCHIVE.write_bytes(FACES[:-1])  # no longer whole
    download.main()
    assert len(kaggle.requests) > asked
    assert download.ARCHIVE.read_bytes() == FACES

    asked = len(kaggle.requests)
    set_parameters(kaggle="somebody/other-faces")
    download.main()
    assert len(kaggle.requests) > asked
    assert json.loads(download.PROVENANCE.read_text())["name"] == "somebody/other-faces"


def test_a_failed_change_of_source_leaves_both_files(kaggle: Kaggle, stage: Path, logged: list[dict]) -> None:
    download.main()
    recorded = download.PROVENANCE.read_bytes()
    set_parameters(source="archive", path="missing.zip")
    with pytest.raises(UserError):
        download.main()
    assert (download.ARCHIVE.read_bytes(), download.PROVENANCE.read_bytes()) == (FACES, recorded)
    assert len(logged) == 1


def test_nothing_of_this_machine_is_recorded(stage: Path, logged: list[dict], tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(FACES)
    set_parameters(source="archive", path=str(tmp_path / "faces.zip"))
    download.main()
    recorded = json.loads(download.PROVENANCE.read_text())
    assert list(recorded) == ["source", "name", "with_mask", "without_mask", "bytes", "sha256"]
    assert str(tmp_path) not in download.PROVENANCE.read_text() + str({**logged[0], "started": None})


def test_an_error_as_a_command_is_one_line(stage: Path) -> None:
    set_parameters(source="archive", path="no.zip")
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    ended = subprocess.run([sys.executable, "-m", "pipeline.download"], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "download: data.path = no.zip is not a file: set it to a zip file, or change data.source\n"
