"""The model that is shipped with the package: the committed files, and how the stage `package` chooses and measures."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from face_mask import litert, lockfile, models
from face_mask.errors import UserError
from face_mask.prevalence import Rates
from face_mask.settings import Settings
from pipeline import package
from pipeline.core import params
from pipeline.scoring.shipped_metrics import card_metrics
from tests import litert_models
from tools import scratch

REPOSITORY = Path(__file__).parent.parent
SIZE = 32
BRIGHT, DARK = 200, 20  # grey levels that the models of litert_models predict as with_mask and as without_mask
LABELS = ("with_mask", "without_mask")


def test_the_packaged_model_is_the_one_of_its_card_and_of_dvc_lock() -> None:
    content, card = (models.PACKAGED / models.FILE).read_bytes(), models.read_card()
    assert card["bytes"] == len(content) <= 1e6 * params.load().package.max_megabytes
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["md5"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert lockfile.recorded_output(Path(card["exported"])) == ("export", card["md5"])
    for name in (models.FILE, models.CARD):
        lockfile.check(package.TARGET / name)
    data = json.loads(Path("metrics/data.json").read_text())
    assert card["training_data"].items() >= data.items()
    assert Settings.model_validate(card["settings"]).image_size == models.find().load().size


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A LiteRT file that predicts with_mask for a bright image."""
    folder = tmp_path_factory.mktemp("model")
    litert_models.write(folder, SIZE, ("cnn",))
    return litert.path_of("cnn", folder=folder).read_bytes()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bright: bytes) -> Path:
    """A workspace in which everything that the stage reads is small: all models predict all images correctly."""
    for folder in ("data/split", "data/unseen", "metrics", "models/exported"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    scratch.set_params(tmp_path, {"image_size": SIZE, "package.max_megabytes": 0.01})
    for name in ("cnn", "mobilenet"):
        for number_format in ("int8", "float16"):
            litert.path_of(name, number_format).write_bytes(bright)
    set_accuracy(cnn=0.97, mobilenet=0.99)
    splits = ["train"] * 4 + ["val"] * 4 + ["test"] * 8
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(16)], "label": LABELS * 8, "split": splits})
    table.assign(row=range(16), content_hash="").to_csv("data/split/manifest.csv", index=False)
    table.assign(cnn=(table["label"] == "with_mask") * 0.8 + 0.1, mobilenet=0.9).to_csv(
        "data/predictions.csv", index=False
    )
    np.save("data/split/images.npy", grey(*[BRIGHT, DARK] * 8))
    faces = pd.DataFrame({
        "path": list("abcde"), "label": ["with_mask", "with_mask", "without_mask", "incorrect", "with_mask"],
        "split": ["unseen"] * 4 + ["too_small"], "row": [0, 1, 2, 3, -1], "face_size": 50.0,
    })  # fmt: skip
    faces[["face_left", "face_top", "face_right", "face_bottom"]] = 0.5
    faces.to_csv("data/unseen/manifest.csv", index=False)
    np.save("data/unseen/images.npy", grey(BRIGHT, DARK, DARK, BRIGHT))
    Path("metrics/data.json").write_text(json.dumps({"source": "folder", "sha256": "0" * 64}))
    Path("metrics/unseen_data.json").write_text(json.dumps({"source": "folder"}))
    for name, n in (("cnn", 8), ("mobilenet", 9)):
        Path(f"metrics/end_to_end_{name}.json").write_text(json.dumps({"rates": asdict(Rates(32, n, 7, 6, 5, 4, 3))}))
    return tmp_path


def grey(*levels: int) -> np.ndarray:
    return np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in levels])


def set_accuracy(**accuracy: float) -> None:
    for name, value in accuracy.items():
        Path(f"metrics/{name}.json").write_text(json.dumps({"val": {"accuracy": value}}))


def card() -> dict:
    return json.loads((package.TARGET / models.CARD).read_text())


def test_the_better_model_is_shipped_and_measured_itself(repo: Path, logged: list, capsys) -> None:
    package.main()
    found = card()
    assert (found["name"], found["format"], found["training_data"]["n_train"]) == ("mobilenet", "int8", 4)
    assert (package.TARGET / models.FILE).read_bytes() == litert.path_of("mobilenet", "int8").read_bytes()
    assert found["metrics"]["val"]["accuracy_n"] == 4 and found["metrics"]["test"]["accuracy"] == 1.0
    unseen = found["metrics"]["unseen"]  # of three faces: the incorrectly worn mask is of neither class
    assert (unseen["accuracy_n"], unseen["accuracy"]) == (3, pytest.approx(2 / 3, abs=1e-5))
    assert (unseen["recall_with_mask"], unseen["recall_without_mask"]) == (0.5, 1.0)
    assert unseen["accuracy_low"] == pytest.approx(0.2077, abs=1e-4)  # Wilson, 2 of 3
    assert found["settings"]["image_size"] == SIZE
    assert found["calibration"] == asdict(litert_models.CALIBRATION)
    assert found["metrics"]["test"]["conformal"]["unsure_n"] == 8 and "conformal" not in found["metrics"]["val"]
    assert Rates.read(found["rates"]) == Rates(32, 9, 7, 6, 5, 4, 3)
    assert "package: MobileNetV2 int8, 0.0 MB, test accuracy 100.00% (67.56% to 100.00%)" in capsys.readouterr().out


def test_two_runs_write_the_same_bytes_without_paths_or_times(repo: Path, logged: list) -> None:
    package.main()
    before = {path.name: path.read_bytes() for path in package.TARGET.iterdir()}
    package.main()
    assert before == {path.name: path.read_bytes() for path in package.TARGET.iterdir()}
    assert set(before) == {models.FILE, models.CARD}
    text = before[models.CARD].decode()
    assert str(repo) not in text and "latency" not in text


def test_int8_is_left_out_if_it_loses_more_validation_accuracy_than_allowed(repo: Path, logged: list) -> None:
    set_accuracy(cnn=0.995)  # its Keras model classifies all images correctly
    images = np.load("data/split/images.npy")
    images[8:] = grey(DARK)[0]  # test images count for nothing
    np.save("data/split/images.npy", images)
    package.main()
    assert (card()["name"], card()["format"]) == ("cnn", "int8")
    images[4:8] = grey(DARK)[0]  # of validation: this file, of any format, loses half of the accuracy
    np.save("data/split/images.npy", images)
    package.main()
    assert (card()["name"], card()["format"]) == ("cnn", "float16")
    scratch.set_params(repo, {"export.max_accuracy_drop": 0.5})
    package.main()
    assert card()["format"] == "int8"


def test_a_model_that_is_too_large_is_passed_over(repo: Path, logged: list) -> None:
    for number_format in ("int8", "float16"):
        path = litert.path_of("mobilenet", number_format)
        path.write_bytes(path.read_bytes() + bytes(20_000))
    package.main()
    assert card()["name"] == "cnn"
    before = (package.TARGET / models.FILE).read_bytes()
    scratch.set_params(repo, {"package.max_megabytes": 0.000001})
    with pytest.raises(UserError, match=r"no model has a file within package\.max_megabytes = 1e-06: raise it"):
        package.main()
    assert (package.TARGET / models.FILE).read_bytes() == before


@pytest.mark.parametrize("text", ['{"val": {"accuracy": NaN}}', '{"val": {"accuracy": 1e999}}', '{"val": {}}', "{"])
def test_a_validation_accuracy_that_is_not_a_number_is_one_line(repo: Path, logged: list, text: str) -> None:
    Path("metrics/cnn.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics/cnn\.json is damaged .*`dvc repro --force .*evaluate`"):
        package.main()
    assert not package.TARGET.exists()


def test_of_two_equal_models_the_first_is_shipped_as_in_the_registry(repo: Path, logged: list) -> None:
    set_accuracy(cnn=0.99)
    package.main()
    assert card()["name"] == "cnn"


def test_a_missing_or_replaced_exported_file_is_one_line(repo: Path, logged: list) -> None:
    path = litert.path_of("mobilenet", "int8")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match=r"mobilenet\.int8\.tflite is missing: run `dvc repro export`"):
        package.main()
    path.write_bytes(content)
    out = f"{{path: {path.as_posix()}, md5: {'0' * 32}}}"
    Path("dvc.lock").write_text(f"stages: {{export: {{outs: [{out}]}}}}\n")
    with pytest.raises(UserError, match=r"mobilenet\.int8\.tflite does not match dvc\.lock"):
        package.main()


def test_metrics_of_no_images_are_unknown() -> None:
    empty = card_metrics(np.empty(0, int), np.empty(0), threshold=0.5, confidence=0.95, bins=10)
    assert {value for key, value in empty.items() if not key.endswith("_n")} == {None}
    one_class = card_metrics(np.ones(3, int), np.array([0.9, 0.4, 0.5]), threshold=0.5, confidence=0.95, bins=10)
    assert (one_class["recall_with_mask_n"], one_class["recall_without_mask"]) == (3, None)
    assert one_class["accuracy"] == pytest.approx(2 / 3) and one_class["recall_with_mask_low"] < 0.5
