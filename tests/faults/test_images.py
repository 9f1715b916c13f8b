"""Hostile and very large images, wherever images enter: in bounded time and memory, and each with a reason."""

from __future__ import annotations

import base64
import io
import json
import random
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from face_mask import decoding, inputs
from pipeline.dataset import decode_archive
from tests.faults import made_images, processes

Seen = Callable[[str], None]
SCANS = 170_000
MANY_SCANS = "more than 100 scans are too many"
PREDICT = ["-m", "face_mask.predict", "--faces", "whole"]
DECODE = """
import json, sys
from pathlib import Path
from pipeline.dataset import decode_archive
if __name__ == "__main__":
    archive = Path(sys.argv[1])
    import zipfile
    members = sorted(zipfile.ZipFile(archive).namelist())
    print(json.dumps(decode_archive.decode_all(archive, members, 128, archive.with_suffix(".npy"))["bad"].tolist()))
"""


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Two megabytes that libjpeg decodes for half a minute."""
    return made_images.scan_bomb(SCANS, 1920, 1080)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 50-megapixel images in every mode and format."""
    folder = tmp_path_factory.mktemp("large")
    for name, encoded in made_images.large_images():
        (folder / name).write_bytes(encoded)
    return folder


def good(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    return made_images.encoded(Image.new("RGB", (300, 200), colour), "PNG")


def reason(encoded: bytes) -> str:
    with pytest.raises(decoding.BadImage) as caught:
        decoding.decode(encoded, 128)
    return str(caught.value)


@pytest.mark.fault(16, "JPEG images of 170,000 scans in the training set", "refused undecoded, the others decoded")
def test_the_decode_stage_refuses_scan_bombs(tmp_path: Path, bomb: bytes, seen: Seen) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as zf:
        for number in range(20):
            zf.writestr(f"with_mask/{number:02d}.jpg", bomb if number % 2 else good())
    started = time.process_time()
    pixels, table = decode_archive.decode_chunk(zipfile.ZipFile(archive).namelist(), archive, 32)
    seconds = time.process_time() - started
    assert table["bad"].tolist() == ["", MANY_SCANS] * 10
    assert (pixels[::2, 0, 0] == (200, 30, 30)).all() and not pixels[1::2].any()
    assert seconds < 15
    seen(f"10 of 20 refused, “{MANY_SCANS}”, in {seconds:.1f} s")


@pytest.mark.fault(16, "JPEG images of 170,000 scans given to predict", "one line each, the others classified")
def test_predict_refuses_scan_bombs(tmp_path: Path, bomb: bytes, seen: Seen) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(bomb)
    started = time.process_time()
    for one in inputs.resolve([str(tmp_path)])[0]:
        with pytest.raises(inputs.UnreadableInput, match=MANY_SCANS):
            next(inputs.read_frames(one, 0, 1000, 1))
    seconds = time.process_time() - started
    assert seconds < 10
    seen(f"“{MANY_SCANS}”, {seconds:.1f} s for three")


@pytest.mark.fault(16, "scan bombs sent to the model server, and another request meanwhile", "an error of their rows")
def test_the_model_server_refuses_scan_bombs(bomb: bytes, monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    model = served_model(monkeypatch)
    rows = pd.DataFrame({"image": [base64.b64encode(one).decode() for one in (bomb, good(), bomb)]})
    started = time.process_time()
    answer = model.predict(None, rows)
    seconds = time.process_time() - started
    assert answer["error"].tolist() == [MANY_SCANS, None, MANY_SCANS] and answer["class"][1] == "with_mask"
    assert seconds < 10
    seen(f"“{MANY_SCANS}” in two of three rows, {seconds:.1f} s")


@pytest.mark.fault(16, "an image that takes long in the model server", "other requests are answered meanwhile")
def test_the_model_server_decodes_side_by_side(monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    model = served_model(monkeypatch)
    slow, decode, begun, go_on = good((1, 2, 3)), decoding.decode, threading.Event(), threading.Event()

    def decode_slowly(encoded: bytes, size: int) -> decoding.DecodedImage:
        if encoded == slow:
            begun.set()
            assert go_on.wait(60)
        return decode(encoded, size)

    monkeypatch.setattr(decoding, "decode", decode_slowly)
    answers: list[pd.DataFrame] = []
    requests = [pd.DataFrame({"image": [base64.b64encode(one).decode()]}) for one in (slow, good())]
    first, second = (
        threading.Thread(target=lambda one=one: answers.append(model.predict(None, one)), daemon=True)
        for one in requests
    )
    first.start()
    assert begun.wait(60)
    second.start()
    second.join(60)
    assert len(answers) == 1 and answers[0]["class"][0] == "with_mask"
    go_on.set()
    first.join(60)
    assert len(answers) == 2
    seen("the second request was answered while the first was being decoded")


def served_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model that MLflow serves, with a classifier that needs no model file."""
    from face_mask.classifier import FaceClassifier
    from pipeline.registry import pyfunc_model

    def classify(images: np.ndarray) -> np.ndarray:
        return images[..., 0].mean(axis=(1, 2)) / np.float32(255)  # redness

    classifier = FaceClassifier("cnn", 32, 0.25, 0.5, classify)
    monkeypatch.setattr(FaceClassifier, "load", lambda *_, **__: classifier)
    model = pyfunc_model.FaceMask()
    model.load_context(SimpleNamespace(artifacts={"litert": "-"}, model_config={}))  # type: ignore[arg-type]
    return model


@pytest.mark.full
@pytest.mark.fault(16, "100 scans of 50 megapixels; EXIF data of 200,000 segments", "bounded processor time")
def test_other_files_that_take_long(seen: Seen) -> None:
    started = time.process_time()
    assert reason(made_images.scan_bomb(100, 7000, 7000)) == "more than 30 scans are too many"
    assert (decoding.decode(made_images.exif_bomb(60, 200_000), 32).pixels == 255).all()
    assert reason(made_images.exif_bomb(0, 400_000)) == "takes too long to decode"
    seconds = time.process_time() - started
    assert seconds < 15
    seen(f"the scans refused, the EXIF data ignored, in {seconds:.1f} s")


@pytest.mark.fault(17, "TIFFs of a tile of 3 GB and of eight million strips", "refused before anything is decoded")
def test_tiffs_that_take_memory(tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "tile.tif").write_bytes(made_images.tile_bomb())
    (tmp_path / "strips.tif").write_bytes(made_images.strips_bomb(8_000_000))
    outcome = processes.run(["-c", READ, *map(str, sorted(tmp_path.iterdir()))], cwd=processes.REPOSITORY, seconds=120)
    reasons = outcome.stdout.splitlines()
    assert reasons == [
        "a TIFF tag of more than 200000 values is too large", "a strip or tile of 3051 MB is too large"
    ]  # fmt: skip
    assert outcome.peak_mb < 400
    seen(f"“{reasons[1]}”, “{reasons[0]}”, {outcome.peak_mb:.0f} MB")


READ = """
import sys
from face_mask import decoding
for path in sys.argv[1:]:
    try:
        decoding.open_rgb(open(path, "rb").read())
    except decoding.BadImage as error:
        print(error)
"""


@pytest.mark.full
@pytest.mark.fault(17, "images of 50 megapixels in 19 modes and formats given to predict", "classified within 1.3 GB")
def test_predict_classifies_large_images(large: Path, models: Path, seen: Seen) -> None:
    outcome = processes.run(
        [*PREDICT, str(large), "--models", str(models), "--format", "json"], cwd=processes.REPOSITORY, seconds=600
    )
    assert outcome.code == 0, outcome.stderr
    assert len(json.loads(outcome.stdout)) == len(made_images.LARGE)
    assert outcome.peak_mb < 1300
    seen(f"exit code 0, {outcome.peak_mb:.0f} MB, {outcome.seconds / len(made_images.LARGE):.1f} s each")


@pytest.mark.full
@pytest.mark.fault(17, "the same in the training set", "decoded within 1.3 GB a core")
def test_the_decode_stage_decodes_large_images(large: Path, tmp_path: Path, seen: Seen) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as zf:
        for path in sorted(large.iterdir()):
            zf.write(path, f"with_mask/{path.name}")
    outcome = processes.run(["-c", DECODE, str(archive)], cwd=processes.REPOSITORY, seconds=600)
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout) == [""] * len(made_images.LARGE)
    assert outcome.peak_mb < 1300
    seen(f"all decoded, {outcome.peak_mb:.0f} MB")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from face_mask import settings
    from tests import litert_models

    folder = tmp_path_factory.mktemp("models")
    litert_models.write(folder, settings.load(processes.REPOSITORY / "params.yaml").image_size)
    return folder


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif.update({0x0112: orientation, 0x010F: "maker", 0x011A: 72.0, 0x011B: 72.0, 0x0128: 2})
    exif.get_ifd(ExifTags.IFD.Exif)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[2] = (1.0, 2.0, 3.0)
    return exif.tobytes()


def damaged_exif(count: int, seed: int) -> int:
    """Decode good pixels with `count` damaged EXIF data in three formats; returns the number of images."""
    chance = random.Random(seed)
    image = made_images.noise(40, 24)
    bodies = {kind: made_images.encoded(image, kind, lossless=True) for kind in ("JPEG", "PNG", "WEBP")}
    pixels = {kind: np.asarray(Image.open(io.BytesIO(body)).convert("RGB")) for kind, body in bodies.items()}
    images = 0
    for _ in range(count):
        exif = bytearray(exif_of(chance.choice((1, 3, 6, 8))))
        for _ in range(chance.choice((1, 1, 2, 4, 10))):
            exif[chance.randrange(6, len(exif))] = chance.choice((0, 1, 255, chance.randrange(256)))
        if chance.random() < 0.2:
            del exif[chance.randrange(6, len(exif)) :]
        for kind, expected in pixels.items():
            rgb = np.asarray(decoding.open_rgb(made_images.encoded(image, kind, lossless=True, exif=bytes(exif)))[0])
            ways = [np.rot90(expected[:, ::flip], turn) for turn in range(4) for flip in (1, -1)]
            assert any(np.array_equal(rgb, way) for way in ways), exif
            images += 1
    return images


@pytest.mark.fault(19, "750 damaged EXIF data around good pixels", "the pixels are used")
def test_some_damaged_exif_data(seen: Seen) -> None:
    seen(f"{damaged_exif(250, seed=3)} of 750 decoded")


@pytest.mark.full
@pytest.mark.fault(19, "15,000 damaged EXIF data around good pixels", "the pixels are used")
def test_many_damaged_exif_data(seen: Seen) -> None:
    seen(f"{damaged_exif(5000, seed=4):,} of 15,000 decoded")
