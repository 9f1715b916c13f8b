"""Arrays in shards: the same rows, batches and weights as from one file, and no half-written folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from face_mask import files
from face_mask.errors import UserError
from pipeline.core import params
from pipeline.dataset import packing

SIZE = 32


def faces(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)


def in_parts(array: np.ndarray, axis: int, *lengths: int) -> list[np.ndarray]:
    return np.split(array, np.cumsum(lengths), axis)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    packing.IMAGES_PATH.parent.mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shard_images", [0, 1, 4, 6, 22, 23, 100])
def test_shards_have_the_rows_of_the_array(axis: int, shard_images: int) -> None:
    array = np.random.default_rng(0).normal(size=(23, 5, 2) if axis == 0 else (3, 23, 2)).astype(np.float32)
    packing.write_array(Path("a.npy"), in_parts(array, axis, 3, 10, 1), 23, shard_images, axis)
    if shard_images == 0:
        np.save("expected.npy", array)
        assert Path("a.npy").read_bytes() == Path("expected.npy").read_bytes()
    else:
        names = sorted(path.name for path in Path("a.npy").iterdir())
        assert names == [f"{k:05d}.npy" for k in range(-(-23 // shard_images))]
    parts = packing.open_parts("a.npy", "decode", axis)
    assert [part.shape[axis] for part in parts[:-1]] == [shard_images] * (len(parts) - 1)
    assert np.array_equal(np.concatenate(parts, axis), array)


@pytest.mark.parametrize("shard_images", [0, 4, 23])
@pytest.mark.parametrize("n", [0, 3, 23])
def test_an_array_of_unknown_length(shard_images: int, n: int) -> None:
    parts = [faces(0), *in_parts(faces(n), 0, 2, 0, 9), faces(0)]
    packing.write_array(Path("a.npy"), parts, None, shard_images)
    assert np.array_equal(packing.open_images("a.npy")[:], faces(n))
    if shard_images == 0:
        np.save("expected.npy", faces(n))
        assert Path("a.npy").read_bytes() == Path("expected.npy").read_bytes()


def test_rows_are_read_as_from_one_array() -> None:
    array = faces(23)
    packing.write_array(Path("a.npy"), [array], 23, 5)
    shards = packing.open_images("a.npy")
    assert (len(shards), shards.shape, shards.dtype) == (23, array.shape, array.dtype)
    assert np.array_equal(np.asarray(shards), array) and np.array_equal(list(shards), array)
    rng = np.random.default_rng(0)
    for rows in (
        *(0, 4, 5, 22, -1, -23, np.int64(7)),
        *(slice(3, 17), slice(None), slice(20, 99), slice(5, 5), slice(None, None, -3)),
        *(rng.permutation(23), np.array([9, 9, 0, -1]), [1, 20], np.array([], np.int64), [], rng.random(23) < 0.5),
    ):
        read = shards[rows]
        assert np.array_equal(read, array[rows]) and read.dtype == array.dtype
    for wrong in (23, -24, np.array([0, 23]), np.array([0.5]), (0, 1, 2, np.zeros((2, 2))), np.zeros(3, bool)):
        with pytest.raises((IndexError, ValueError)):
            shards[wrong]


def test_shards_are_read_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SHARD", "{:d}.npy")  # as from the shard 100000 on: 10.npy is sorted before 2.npy
    packing.write_array(Path("a.npy"), [faces(23)], 23, 2)
    assert np.array_equal(packing.open_images("a.npy")[:], faces(23))


def test_features_in_shards_are_those_of_one_file() -> None:
    features = np.random.default_rng(0).normal(size=(6, 23, 8)).astype(np.float32)
    packing.write_array(packing.IMAGES_PATH, [faces(23)], 23, 10)
    packing.write_array(packing.FEATURES_PATH, in_parts(features, 1, 16), 23, 10, axis=1)
    rows = np.array([22, 0, 9, 10])
    assert np.array_equal(packing.open_features()[rows], features[0, rows])
    for of_view, expected in zip(packing.open_view_features(), features, strict=True):
        assert of_view.shape == expected.shape and np.array_equal(of_view[rows], expected[rows])
    (packing.FEATURES_PATH / "00002.npy").unlink()
    with pytest.raises(UserError, match=r"features\.npy is of 20 images, but .*images\.npy has 23: run `dvc repro"):
        packing.open_features()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "00001.npy").unlink(), "it has no 00001.npy"),
        (lambda path: (path / "notes.txt").touch(), "it has no 00003.npy"),
        (lambda path: [shard.unlink() for shard in path.iterdir()], "it has no 00000.npy"),
        (lambda path: (path / "00001.npy").write_bytes(b"half"), "damaged"),
        (lambda path: np.save(path / "00001.npy", faces(7)), "its shards do not fit together"),
        (lambda path: np.save(path / "00002.npy", faces(11)), "its shards do not fit together"),
        (lambda path: np.save(path / "00002.npy", np.zeros((3, 2))), "its shards do not fit together"),
    ],
)
def test_damaged_shards_are_named_in_one_line(damage, message: str) -> None:
    packing.write_array(packing.IMAGES_PATH, [faces(23)], 23, 10)
    damage(packing.IMAGES_PATH)
    with pytest.raises(UserError, match=r"images\.npy is damaged.*run `dvc repro --force decode`") as error:
        packing.open_images()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_lost_last_shard_is_noticed() -> None:
    packing.write_array(packing.IMAGES_PATH, [faces(23)], 23, 10)
    table = {"path": "a.jpg", "label": "with_mask", "perceptual_hash": "0", "mirrored_hash": "0", "bad": ""}
    files.write_csv(packing.DECODED_PATH, pd.DataFrame([table] * 23))
    packing.read_decoded()
    (packing.IMAGES_PATH / "00002.npy").unlink()
    with pytest.raises(UserError, match=r"describes 23 images, but .* has 20"):
        packing.read_decoded()


@pytest.mark.parametrize("old", ["nothing", "file", "folder"])
def test_a_killed_write_leaves_the_old_array(folder: Path, old: str) -> None:
    path = packing.IMAGES_PATH
    if old != "nothing":
        with files.replacing(path) as aside:
            packing.write_array(aside, [faces(3)], 3, 0 if old == "file" else 2)
    code = """
import time
from face_mask import files
from pipeline.dataset import packing
import numpy as np
def parts():
    yield np.zeros((5, 4, 4, 3), np.uint8)
    print("half", flush=True)
    time.sleep(60)
with files.replacing(packing.IMAGES_PATH) as aside:
    packing.write_array(aside, parts(), 9, 2)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(packing.__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None and process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.exists() == (old != "nothing") and (old == "nothing" or len(packing.open_images()) == 3)
    for shard_images in (4, 0, 3):  # each replaces what is there, also a folder a file and the reverse
        with files.replacing(path) as aside:
            packing.write_array(aside, [faces(9)], 9, shard_images)
        assert [one.name for one in path.parent.iterdir()] == [path.name]
        assert path.is_dir() == bool(shard_images) and np.array_equal(packing.open_images()[:], faces(9))


def test_a_failed_write_leaves_the_old_array() -> None:
    with files.replacing(packing.IMAGES_PATH) as aside:
        packing.write_array(aside, [faces(9)], 9, 4)
    with pytest.raises(RuntimeError), files.replacing(packing.IMAGES_PATH) as aside:
        packing.write_array(aside, [faces(5)], 9, 4)
        raise RuntimeError
    assert [path.name for path in packing.IMAGES_PATH.parent.iterdir()] == ["images.npy"]
    assert len(packing.open_images()) == 9


def test_training_on_shards_gives_the_same_batches_and_weights() -> None:
    import keras

    from pipeline.training import batches

    changes = {field: 0.0 for field in params.Augment.model_fields if field != "incorrect_as"} | {"downscale_prob": 0.0}
    weights, seen = [], []
    for shard_images in (0, 7):
        with files.replacing(packing.IMAGES_PATH) as aside:
            packing.write_array(aside, [faces(40)], 40, shard_images)
        rows, classes = np.arange(38)[::-1].copy(), np.arange(38) % 2
        images = batches.Images(packing.open_images(), rows, classes, packing.open_images(), rows[:20], classes[:20])
        dataset = batches.training_batches(images, batch_size=8, seed=3, changes=changes, counterfactual_prob=0.3)
        validation = batches.validation_batches(images, seed=3, counterfactual_prob=0.1, batch_size=16)
        keras.utils.set_random_seed(0)
        flat = [keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
        model = keras.Sequential(flat)
        model.compile("sgd", "categorical_crossentropy")
        model.fit(dataset, steps_per_epoch=4, validation_data=validation, verbose=0)
        weights.append([value.tobytes() for value in model.get_weights()])
        both = [*dataset.take(6), *validation]
        seen.append([(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in both])
    assert weights[0] == weights[1] and seen[0] == seen[1] and len(seen[0]) > 8
