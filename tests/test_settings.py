"""Which model and which settings a command uses: --models, the repository's model, or the packaged one."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from face_mask import litert, lockfile, models
from face_mask.errors import UserError
from tools import scratch

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace without models, the working directory in it."""
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no workspace, as if the package were installed apart from its source checkout."""
    package = tmp_path / "site-packages" / "face_mask"
    package.mkdir(parents=True)
    shutil.copytree(models.PACKAGED, package / "model")
    monkeypatch.setattr(models, "PACKAGE", package)
    monkeypatch.setattr(models, "PACKAGED", package / "model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def put(folder: Path, name: str, content: bytes = b"a model") -> Path:
    path = litert.path_of(name, folder=folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def lock(folder: Path, path: str, content: bytes) -> None:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    out = {"path": path, "hash": "md5", "md5": md5, "size": len(content)}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"export": {"outs": [out]}}}))


def test_without_a_trained_model_the_packaged_one_is_used_with_what_it_was_trained_for(here: Path) -> None:
    card = models.read_card()
    scratch.set_params(here, {"image_size": 64, "unseen.margin": 0.5, "live.smoothing": 1.5, "evaluate.threshold": 0.9})
    model = models.find()
    assert (model.name, model.path) == (card["name"], models.PACKAGED / "model.tflite")
    own = card["settings"]
    assert (model.image_size, model.margin, model.threshold) == (
        own["image_size"], own["unseen"]["margin"], own["evaluate"]["threshold"],
    )  # fmt: skip
    assert model.settings.live.smoothing == 1.5  # the rest is the workspace's
    assert str(model) == f"{card['name']} from the package ({card['format']})"
    assert model.load().size == card["settings"]["image_size"]
    assert [one.name for one in models.find_all()] == [card["name"]]


def test_a_model_that_is_not_packaged_is_named_with_the_ways_to_get_it(here: Path) -> None:
    with pytest.raises(UserError, match=r"cnn is not packaged, only mobilenet is: .*`dvc repro export`.*--models"):
        models.find("cnn")
    scratch.set_params(here, {"live.model": "cnn"})
    with pytest.raises(UserError, match="cnn is not packaged"):
        models.find()


def test_the_repositorys_model_wins_with_the_repositorys_settings(here: Path) -> None:
    scratch.set_params(here, {"image_size": 64, "unseen.margin": 0.5})
    path = put(here / litert.MODELS, "mobilenet")
    model = models.find("mobilenet")
    assert (model.path, model.image_size, model.margin) == (path, 64, 0.5)
    assert str(model) == "mobilenet from models/exported/mobilenet.float32.tflite of this repository"
    put(here / litert.MODELS, "cnn")
    assert [one.path.name for one in models.find_all()] == ["cnn.float32.tflite", "mobilenet.float32.tflite"]


def test_a_repository_with_one_model_offers_the_packaged_one_too(here: Path) -> None:
    put(here / litert.MODELS, "cnn")
    assert [str(one) for one in models.find_all()] == [
        "cnn from models/exported/cnn.float32.tflite of this repository",
        f"mobilenet from the package ({models.read_card()['format']})",
    ]


def test_a_named_folder_wins_over_both(here: Path) -> None:
    put(here / litert.MODELS, "mobilenet")
    path = put(here / "other", "mobilenet")
    assert models.find("mobilenet", folder=Path("other")).path == Path("other") / path.name
    assert [one.name for one in models.find_all(folder=Path("other"))] == ["mobilenet"]
    with pytest.raises(UserError, match=r"other/cnn\.float32\.tflite is missing: run `dvc repro export`"):
        models.find("cnn", folder=Path("other"))


def test_outside_a_workspace_everything_comes_from_the_package(outside: Path) -> None:
    card = models.read_card()
    model = models.find()
    assert (model.name, model.settings) == (card["name"], models.packaged_settings(card))
    path = put(outside / "own", "cnn")
    model = models.find("cnn", folder=outside / "own")
    assert (model.path, model.settings) == (path, models.packaged_settings(card))


def test_another_project_that_uses_dvc_is_not_a_workspace(outside: Path) -> None:
    Path("params.yaml").write_text("epochs: 3\n")
    Path("dvc.yaml").write_text("stages: {}\n")
    assert models.find().path == models.PACKAGED / "model.tflite"


def test_a_packaged_model_that_is_not_the_one_of_its_card_is_refused(outside: Path) -> None:
    model = models.PACKAGED / "model.tflite"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.tflite is damaged \(its SHA-256 .*install the package again"):
        models.find().load()


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"name": "mobilenet"}', "\x00"])
def test_a_damaged_card_is_one_line(outside: Path, text: str) -> None:
    (models.PACKAGED / "card.json").write_text(text)
    with pytest.raises(UserError, match=r"card\.json .*: install the package again"):
        models.find()


def test_a_card_with_settings_that_are_invalid_is_one_line(outside: Path) -> None:
    path = models.PACKAGED / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"settings": {"image_size": 128}}))
    with pytest.raises(UserError, match=r"card\.json: evaluate is missing"):
        models.find()


def test_settings_that_were_removed_are_ignored_in_a_card_and_named_in_params(outside: Path, here: Path) -> None:
    path = models.PACKAGED / "card.json"
    card = json.loads(path.read_text())
    known = card["settings"]["live"] | {"unsure_low": 0.3, "unsure_high": 0.7}
    path.write_text(json.dumps(card | {"settings": card["settings"] | {"live": known}}))
    assert models.packaged().settings == models.packaged_settings(card)
    params = here / "params.yaml"
    params.write_text(params.read_text().replace("\nlive: ", "\nlive:\n  unsure_low: 0.3  #"))
    with pytest.raises(UserError, match=r"live\.unsure_low was removed: delete it; .* conformal\.error"):
        models.find()


def test_a_file_that_dvc_lock_has_otherwise_is_refused_and_every_other_passes(here: Path) -> None:
    path = put(here / litert.MODELS, "mobilenet", b"trained")
    models.find()
    lock(here, "models/exported/cnn.float32.tflite", b"another")
    models.find()
    lock(here, "models/exported/mobilenet.float32.tflite", b"trained")
    models.find()
    path.write_bytes(b"trainee")
    with pytest.raises(UserError) as caught:
        models.find()
    message = str(caught.value)
    assert message.startswith(f"{path} does not match dvc.lock: run `dvc checkout --force")
    assert (
        "`dvc repro` after running a stage by hand" in message and "`dvc repro --force --single-item export`" in message
    )
    with pytest.raises(UserError):  # the same file, named otherwise
        lockfile.check(Path("models/exported/mobilenet.float32.tflite"))
    with pytest.raises(UserError):
        models.find("mobilenet", folder=Path("models/exported"))


def test_an_input_that_is_a_folder_is_compared_with_dvc_lock(here: Path) -> None:
    for name, content in (("00000.npy", b"a"), ("00001.npy", b"b")):
        (here / "data/images.npy").mkdir(parents=True, exist_ok=True)
        (here / "data/images.npy" / name).write_bytes(content)
    (here / "dvc.yaml").write_text("stages: {split: {deps: [data/images.npy]}}")
    # The digest that `dvc add` of DVC 3.67 gives such a folder.
    digest = "7ac226645efe906a89429a096c7580b2.dir"
    (here / "dvc.lock").write_text(f"stages: {{decode: {{outs: [{{path: data/images.npy, md5: {digest}}}]}}}}")
    lockfile.check_inputs("split")
    (here / "data/images.npy/00001.npy").write_bytes(b"c")
    with pytest.raises(UserError, match=r"^data/images\.npy does not match dvc\.lock"):
        lockfile.check_inputs("split")


@pytest.mark.parametrize("text", ["stages: [", "\x00", "stages: {export: {outs: [3]}}", "stages: {export: 3}", "3"])
def test_a_damaged_dvc_lock_is_one_line(here: Path, text: str) -> None:
    put(here / litert.MODELS, "mobilenet")
    (here / "dvc.lock").write_text(text)
    with pytest.raises(UserError, match=r"dvc\.lock is damaged: restore it with `git checkout"):
        models.find()
    (here / "dvc.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"dvc\.lock is damaged"):
        models.find()


def test_an_empty_dvc_lock_lists_nothing(here: Path) -> None:
    put(here / litert.MODELS, "mobilenet")
    (here / "dvc.lock").write_text("")
    models.find()
