"""Evaluation of models of any origin: every format, how its preprocessing is chosen, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageOps

from face_mask import errors, evaluate
from face_mask.errors import UserError
from pipeline import evaluate_model
from pipeline.core import params
from pipeline.dataset import cropped_set
from pipeline.external_models import evaluation_sets, loading, overlap, preprocessing, scores
from pipeline.external_models.preprocessing import RANGES, Convention, Options
from pipeline.sources import annotated_images
from pipeline.synthetic import faces as synthetic
from tests.test_annotated_images import voc, zip_of

ROOT = Path(__file__).resolve().parents[1]
SIDE = 8
SLOPE = 3.0  # of the logit, per grey level of blue


def validation(n: int = 40, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Images whose blue is just above the middle for with_mask and just below it for the others; random red, green."""
    rng = np.random.default_rng(1)
    y = np.arange(n) % 2
    pixels = rng.integers(60, 200, (n, 1, 1, 3)).repeat(side, 1).repeat(side, 2).astype(np.uint8)
    pixels[..., 2] = np.where(y == 1, 130, 125)[:, None, None]
    return pixels, y


def logits(pixels: np.ndarray) -> np.ndarray:
    """What the models of `blue_rule` compute, positive for with_mask."""
    return SLOPE * (pixels[..., 2].mean(axis=(1, 2)) - 127.5)


def blue_rule(pixel_range: str, blue: int) -> tuple[np.ndarray, float]:
    """Weights (3,) of the channels' means and a bias, for pixels in this range with blue at this position."""
    low, high = (RANGES[pixel_range](np.full((1, 3), value, np.float32))[0, 2] for value in (127, 128))
    weights = np.zeros(3, np.float32)
    weights[blue] = SLOPE / (high - low)
    return weights, float(-weights[blue] * (low + high) / 2)


def write_onnx(
    path: Path, weights: np.ndarray, bias: np.ndarray, *, activation: str | None = None, first: bool = False,
    shape: tuple = ("n", SIDE, SIDE, 3), inputs: int = 1, outputs: int = 1,
) -> Path:  # fmt: skip
    """Write a linear classifier of the channels' means: weights (channels, k), bias (k,)."""
    axes = [2, 3] if first else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["x0", "axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "w", "b"], ["linear"]),
        helper.make_node(activation or "Identity", ["linear"], ["y0"]),
        *(helper.make_node("Identity", ["linear"], [f"y{i}"]) for i in range(1, outputs)),
    ]
    constants: dict[str, np.ndarray] = {
        "axes": np.array(axes, np.int64),
        "w": weights.astype(np.float32),
        "b": bias.astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i in range(inputs)],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def blue_onnx(path: Path, pixel_range: str = "0..255", side: int = SIDE) -> Path:
    """A single output with a sigmoid, P(with_mask)."""
    weights, bias = blue_rule(pixel_range, 2)
    return write_onnx(
        path, weights[:, None], np.array([bias]), activation="Sigmoid", shape=("n", side, side, 3)
    )  # fmt: skip


# Choice of the preprocessing


@pytest.mark.parametrize("pixel_range", RANGES)
@pytest.mark.parametrize(
    ("channels", "first", "kind", "position"),
    [
        ("rgb", False, "sigmoid", 1),
        ("bgr", True, "sigmoid", 0),
        ("rgb", True, "logit", 1),
        ("bgr", False, "softmax", 0),
        ("rgb", True, "logits of 3", 2),
    ],
)
def test_the_preprocessing_of_a_model_is_recovered(tmp_path, pixel_range, channels, first, kind, position) -> None:
    weights, bias = blue_rule(pixel_range, 2 if channels == "rgb" else 0)
    if kind in ("sigmoid", "logit"):
        sign = 1 if position else -1
        w, b = sign * weights[:, None], np.array([sign * bias])
    else:
        k = 3 if "3" in kind else 2
        w, b = np.zeros((3, k), np.float32), np.zeros(k, np.float32)
        w[:, position], b[position] = weights, bias
        b[1 if k == 3 else k :] = -50  # the third class, an incorrectly worn mask, is never predicted
        b[position] = bias
    shape = ("n", 3, SIDE, SIDE) if first else ("n", SIDE, SIDE, 3)
    activation = {"sigmoid": "Sigmoid", "softmax": "Softmax"}.get(kind)
    path = write_onnx(tmp_path / "model.onnx", w, b, activation=activation, first=first, shape=shape)
    model = loading.load(path)
    assert (model.shape.channels_first, model.shape.height, model.dtype) == (first, SIDE, "float32")
    pixels, y = validation()
    best, second = preprocessing.choose(model, Options(), pixels, y)
    outputs = "logits" if "logit" in kind else "probabilities"
    assert best.convention == Convention(pixel_range, channels, outputs, position)
    assert best.accuracy == 1 and (second is None or second.accuracy < 1)
    expected = 1 / (1 + np.exp(-logits(pixels)))
    assert best.convention.predict(model, [pixels[:33], pixels[33:]]) == pytest.approx(expected, abs=2e-3)


def test_options_fix_what_they_state(tmp_path) -> None:
    model = loading.load(blue_onnx(tmp_path / "model.onnx", "0..1"))
    pixels, y = validation()
    classes = preprocessing.parse_classes("with_mask,no_mask")  # of a single output: it is for the second
    options = Options("0..1", "bgr", "logits", classes)
    assert preprocessing.stated(model, options) == Convention("0..1", "bgr", "logits", 0)
    best, _ = preprocessing.choose(model, Options(classes=classes), pixels, y)
    assert best.convention.with_mask == 0
    with pytest.raises(UserError, match="names 3 classes"):
        preprocessing.stated(model, Options("0..1", "rgb", "logits", ("with_mask", "without_mask", "incorrect")))
    with pytest.raises(UserError, match="channels grey"):
        preprocessing.choose(model, Options(channels="grey"), pixels, y)
    for names in ("with_mask,mask", "cat,dog"):
        with pytest.raises(UserError, match="--classes"):
            preprocessing.parse_classes(names)


def test_a_grey_model(tmp_path) -> None:
    grey = write_onnx(
        tmp_path / "grey.onnx", np.array([[10.0]]), np.array([-5.0]), activation="Sigmoid",
        shape=(4, SIDE, SIDE, 1),
    )  # fmt: skip
    model = loading.load(grey)
    y = np.arange(10) % 2
    pixels = np.where(y == 1, 140, 110).astype(np.uint8)[:, None, None, None] * np.ones((1, SIDE, SIDE, 3), np.uint8)
    best, _ = preprocessing.choose(model, Options(), pixels, y)  # in batches of exactly 4
    assert best.convention == Convention("0..1", "grey", "probabilities", 1) and best.accuracy == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_refused(tmp_path, value) -> None:
    model = loading.load(write_onnx(tmp_path / "m.onnx", np.full((3, 2), value), np.zeros(2)))
    with pytest.raises(UserError, match="NaN or infinite"):
        preprocessing.choose(model, Options(), *validation())
    with pytest.raises(UserError, match="NaN or infinite"):
        Convention("0..1", "rgb", "logits", 1).predict(model, [validation()[0]])


def test_a_model_that_is_no_better_than_chance_is_refused_unless_its_classes_are_stated(tmp_path) -> None:
    model = loading.load(write_onnx(tmp_path / "m.onnx", np.zeros((3, 2)), np.array([0.0, 1.0])))
    with pytest.raises(UserError, match="may be chance"):
        preprocessing.choose(model, Options(), *validation())
    best, _ = preprocessing.choose(model, Options(classes=("without_mask", "with_mask")), *validation())
    assert best.accuracy == 0.5


def test_stated_probabilities_must_be_ones(tmp_path) -> None:
    model = loading.load(write_onnx(tmp_path / "m.onnx", np.full((3, 1), 5.0), np.zeros(1)))
    with pytest.raises(UserError, match="not a probability: give --outputs logits"):
        Convention("0..1", "rgb", "probabilities", 1).predict(model, [validation()[0]])


# Formats


def test_files_that_are_no_classifiers_are_refused_in_one_line(tmp_path) -> None:
    weights, bias = np.zeros((3, 2)), np.zeros(2)
    (tmp_path / "text.tflite").write_text("not a model")
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "damaged.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    (tmp_path / "text.keras").write_bytes(b"PK not a zip")
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04" + bytes(40) + b"PK\x05\x06" + b"\xff" * 16 + bytes(2))
    (tmp_path / "saved").mkdir()
    write_onnx(tmp_path / "large.onnx", weights, bias, shape=("n", 8, 100_000, 3))
    write_onnx(tmp_path / "many.onnx", weights, bias, shape=(10**6, 64, 64, 3))
    write_onnx(tmp_path / "detector.onnx", np.zeros((3, 84)), np.zeros(84))
    write_onnx(tmp_path / "two.onnx", weights, bias, outputs=2)
    write_onnx(tmp_path / "inputs.onnx", weights, bias, inputs=2)
    write_onnx(tmp_path / "open.onnx", weights, bias, shape=("n", "h", "w", 3))
    write_onnx(tmp_path / "unknown.onnx", weights, bias, shape=("n", "a", "b", "c"))
    reasons = {
        "missing.onnx": "is missing", "saved": "is a folder", "text.tflite": "not a valid LiteRT",
        "damaged.tflite": "cannot be loaded or run", "text.onnx": "cannot be loaded or run",
        "text.keras": "not a valid Keras", "cut.keras": "not a valid Keras",
        "large.onnx": "1 images of 8x100000 pixels", "many.onnx": "1000000 images of 64x64 pixels",
        "weights.pt": r"torch\.onnx\.export",
        "detector.onnx": "84 numbers per image", "two.onnx": "2 outputs", "inputs.onnx": "2 inputs",
        "open.onnx": "give --input-size",
        "unknown.onnx": "give --layout",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as caught:
            loading.load(tmp_path / name)
        assert "\n" not in str(caught.value), name
    assert loading.load(tmp_path / "open.onnx", size=(6, 5)).shape.of(2) == (2, 6, 5, 3)
    assert loading.load(tmp_path / "unknown.onnx", (6, 5), "nhwc").shape.channels == 3


def test_a_model_with_an_open_batch_that_takes_one_image_is_run_on_one_at_a_time(tmp_path) -> None:
    """As exporters write it: the axis is open, but a Reshape inside has the number 1."""
    nodes = [
        helper.make_node("Reshape", ["x0", "flat"], ["row"]),
        helper.make_node("ReduceMean", ["row", "axes"], ["y0"], keepdims=1),
    ]
    constants = {"flat": np.array([1, SIDE * SIDE * 3], np.int64), "axes": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, ("n", SIDE, SIDE, 3))],
        [helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    loaded = loading.load(path)
    assert loaded.shape.batch == 1
    images = np.stack([np.full((SIDE, SIDE, 3), value, np.float32) for value in (1, 2, 3)])
    assert loaded.run(images).tolist() == [[1], [2], [3]]
    assert loading.load(blue_onnx(tmp_path / "any.onnx")).shape.batch is None


def test_litert_and_keras_files(tmp_path) -> None:
    import h5py
    import keras

    from pipeline.models import conversion

    pixels, y = validation(60)
    layers = keras.layers
    weights, bias = blue_rule("tf", 2)
    model = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 3)),
            layers.DepthwiseConv2D(1, depthwise_initializer="ones"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="out"),
            layers.Softmax(),
        ]
    )
    model.get_layer("out").set_weights([np.stack([weights * 0, weights], axis=1), np.array([0, bias])])
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "r+") as file:  # as Keras 2 wrote it
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
                layer["config"]["depthwise_initializer"]["config"]["dtype"] = "float32"
        file.attrs["model_config"] = json.dumps(config)
    shutil.copy(tmp_path / "b.h5", tmp_path / "b.model")
    before = (tmp_path / "b.model").read_bytes()
    scaled = (RANGES["tf"](pixels.astype(np.float32))).astype(np.float32)
    (tmp_path / "c.tflite").write_bytes(conversion.litert(model, "float32", scaled))
    (tmp_path / "d.tflite").write_bytes(quantized(model, scaled))
    expected = 1 / (1 + np.exp(-logits(pixels)))
    kinds = {"a.keras": "Keras", "b.model": "Keras HDF5", "c.tflite": "LiteRT", "d.tflite": "LiteRT"}
    for name, kind in kinds.items():
        loaded = loading.load(tmp_path / name)
        assert loaded.format == kind
        best, _ = preprocessing.choose(loaded, Options(), pixels, y)
        assert best.convention == Convention("tf", "rgb", "probabilities", 1), name
        found = best.convention.predict(loaded, [pixels])
        assert found == pytest.approx(expected, abs=1e-2), name
    assert (tmp_path / "b.model").read_bytes() == before
    int8 = loading.load(tmp_path / "d.tflite")
    assert int8.dtype == "int8" and int8.limits == pytest.approx((-1, 1), abs=0.02)
    assert preprocessing.candidates(int8, Options()) == [("tf", "rgb"), ("tf", "bgr")]

    shape = layers.Input((SIDE, SIDE, 3))
    code = keras.Model(shape, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Lambda(lambda x: x + 1)(shape))))
    for name in ("code.keras", "code.h5"):
        code.save(tmp_path / name)
        with pytest.raises(UserError, match=r"cannot be loaded or run .*(lambda|Lambda)"):
            loading.load(tmp_path / name)
    whole = (tmp_path / "a.keras").read_bytes()
    at = whole.index(b"model.weights.h5") + 200  # in the first member of that name, whose checksum no longer fits
    (tmp_path / "damaged.keras").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(UserError, match="cannot be loaded or run"):
        loading.load(tmp_path / "damaged.keras")
    model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(UserError, match="it has weights, but no model"):
        loading.load(tmp_path / "only.weights.h5")


def quantized(model, images: np.ndarray) -> bytes:
    """A LiteRT file with int8 input and output."""
    import tensorflow as tf

    from face_mask.quiet import stderr_closed
    from pipeline.models import conversion

    spread = np.concatenate([images, np.full_like(images[:1], -1), np.full_like(images[:1], 1)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([conversion.frozen_function(model, batch=1)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in spread)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with stderr_closed():
        return converter.convert()


# Scores


def test_scores_by_hand() -> None:
    labels = pd.Series(["with_mask"] * 3 + ["without_mask"] * 2 + ["incorrect"])
    mine, ours = np.array([0.9, 0.4, 0.2, 0.1, 0.7, 0.8]), np.array([0.9, 0.8, 0.1, 0.2, 0.1, 0.1])
    found = scores.compare(labels, {"x": mine, "CNN": ours}, {"x": 0.5, "CNN": 0.5}, 0.95)
    x, cnn = found["x"], found["CNN"]
    assert (x["n"], x["accuracy"], x["false_positives"], x["false_negatives"]) == (5, 2 / 5, 1, 2)
    assert (x["recall_with_mask"], x["recall_without_mask"]) == (1 / 3, 1 / 2)
    assert (x["n_incorrect"], x["incorrect_called_mask"], cnn["incorrect_called_mask"]) == (1, 1, 0)
    assert (cnn["only_evaluated_correct"], cnn["only_this_correct"], cnn["mcnemar_p"]) == (0, 2, 0.5)
    assert "mcnemar_p" not in x and "1 of 1" in scores.table(found)[1]
    one_class = scores.compare(labels[:3], {"x": mine[:3]}, {"x": 0.5}, 0.95)
    assert one_class["x"]["recall_without_mask"] is None and "–" in scores.table(one_class)[1]
    assert len({len(line) for line in scores.case_table({"beard": found, "hand": found})}) == 1


# Sets


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_annotated_faces_are_cropped_as_in_unseen_faces(tmp_path) -> None:
    scene = Image.new("RGB", (200, 120), (90, 100, 110))
    scene.paste(synthetic.draw_image(1, "with_mask", 1, 64), (10, 20))
    scene.paste(synthetic.draw_image(1, "without_mask", 2, 64), (120, 40))
    annotation = voc(("with_mask", 20, 30, 64, 74), ("without_mask", 130, 50, 176, 98), size=(200, 120))
    archive = zip_of(tmp_path / "a.zip", {"images/a.jpg": jpeg(scene), "annotations/a.xml": annotation})
    contents = annotated_images.read(archive)
    manifest, _, _ = cropped_set.crop_all(contents, archive, tmp_path / "x.npy", None, 48, 0.25, 32)
    read = evaluation_sets.annotated_faces(manifest["path"].tolist(), archive, contents, 0.25)
    faces = evaluation_sets.EvaluationSet("a", "data", manifest, read)
    assert np.array_equal(np.concatenate([*faces.batches(48, 48)]), np.load(tmp_path / "x.npy"))
    assert np.concatenate([*faces.batches(30, 20)]).shape == (2, 30, 20, 3)


def test_near_duplicates_in_a_folder_of_training_images(tmp_path) -> None:
    images = [synthetic.draw_image(3, label, i, 64) for i in range(6) for label in ("with_mask", "without_mask")]
    folder = tmp_path / "theirs" / "deep"
    folder.mkdir(parents=True)
    (folder / "copy.jpg").write_bytes(jpeg(images[0].resize((90, 90)), 70))
    (folder / "mirrored.jpg").write_bytes(jpeg(ImageOps.mirror(images[5])))
    (folder / "damaged.jpg").write_bytes(b"no image")
    (folder / "readme.txt").write_text("no image")
    ours = cropped_set.Known(np.empty(0, np.uint64), None, None, None)
    training, undecodable = overlap.training_images(tmp_path / "theirs", ours, 64)
    assert (len(training.hashes), undecodable) == (2, 1)
    described = overlap.describe_images(iter([np.stack([np.asarray(image) for image in images])]), None)
    paths = pd.Series([f"{i}.jpg" for i in range(len(images))])
    near, _ = cropped_set.near_duplicates(paths, *described, training, 6, {})
    assert np.flatnonzero(near).tolist() == [0, 5]
    archive = zip_of(tmp_path / "theirs.zip", {"a/copy.jpg": (folder / "copy.jpg").read_bytes()})
    assert len(overlap.training_images(archive, ours, 64)[0].hashes) == 1
    for nothing in (tmp_path / "missing", tmp_path):
        shutil.rmtree(tmp_path / "theirs", ignore_errors=True)
        with pytest.raises(UserError, match=r"is missing|has no images"):
            overlap.training_images(nothing, ours, 64)


# The command


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """Arrays of the split and of unseen faces of 32 px, and what this project's models predict on them."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("image_size: 128", "image_size: 32"), encoding="utf-8")
    Path("dvc.yaml").write_text("stages: {}\n")
    pixels, y = validation(60, side=32)
    pixels[0, ..., 2] = 140  # without a mask, and the model predicts with_mask
    labels = np.where(y == 1, "with_mask", "without_mask")
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(60)], "label": labels})
    split = np.array(["test", "val", "train"])[np.arange(60) // 20]
    hashes = np.random.default_rng(2).integers(0, 2**63, 60)
    for folder in ("split", "unseen"):
        Path("data", folder).mkdir(parents=True)
        np.save(f"data/{folder}/images.npy", pixels[: 60 if folder == "split" else 20])
    manifest = table.assign(split=split, row=range(60), perceptual_hash=[f"{value:016x}" for value in hashes])
    manifest.to_csv("data/split/manifest.csv", index=False)
    probabilities = {"cnn": np.where(y == 1, 0.9, 0.2), "mobilenet": np.where(y == 1, 0.8, 0.9)}
    table.assign(split=split, **probabilities).to_csv("data/predictions.csv", index=False)
    box = dict.fromkeys(["face_left", "face_top", "face_right", "face_bottom"], 0.2)
    unseen = table[:20].assign(split="unseen", row=range(20), face_size=40, **box)
    unseen.loc[19, "label"] = "incorrect"
    unseen.to_csv("data/unseen/manifest.csv", index=False)
    known = {name: values[:20] for name, values in probabilities.items()}
    unseen[["path", "label", "face_size"]].assign(**known).to_csv("data/unseen/predictions.csv", index=False)
    return tmp_path


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate_model.main()


def test_the_command_on_the_sets_of_the_repository(workspace, monkeypatch, capsys) -> None:
    blue_onnx(workspace / "model.onnx", "0..1", side=32)
    theirs = workspace / "theirs"
    theirs.mkdir()
    pixels = np.load("data/split/images.npy")
    Image.fromarray(pixels[1]).save(theirs / "1.png")
    monkeypatch.setattr(evaluate_model, "near_training", lambda faces, *_: np.arange(len(faces.faces)) == 1)
    run(monkeypatch, "model.onnx", "--training-data", "theirs", "--json", "out.json")
    printed = capsys.readouterr().out
    assert "range 0..1, channels rgb, probabilities, 1 output, for with_mask (chosen on 20 validation images" in printed
    result = json.loads(Path("out.json").read_text())
    test = result["sets"]["test"]["models"]
    assert list(test) == ["model.onnx", "CNN", "MobileNetV2"]
    assert (test["model.onnx"]["accuracy"], test["CNN"]["accuracy"], test["MobileNetV2"]["accuracy"]) == (0.95, 1, 0.5)
    assert test["model.onnx"]["false_positives"] == 1 and test["MobileNetV2"]["mcnemar_p"] < 0.01
    unseen = result["sets"]["unseen"]
    assert unseen["models"]["CNN"]["n"] == 19 and unseen["models"]["CNN"]["n_incorrect"] == 1
    assert unseen["near_duplicates_of_training"] == 1
    assert unseen["without_near_duplicates"]["CNN"]["n"] == 18
    assert set(result["seconds_per_image"]) >= {"model.onnx", "MobileNetV2"}


def test_the_command_on_a_folder(workspace, monkeypatch, capsys) -> None:
    blue_onnx(workspace / "model.onnx", "0..1", side=32)
    pixels, y = validation(6, side=48)
    for i, image in enumerate(pixels):
        folder = workspace / "mine" / ("with_mask" if y[i] else "without_mask")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    run(monkeypatch, "model.onnx", "mine", "--json", "out.json")
    printed = capsys.readouterr().out
    assert "mine: 3 " in printed and "unseen faces" not in printed
    (models,) = (one["models"] for one in json.loads(Path("out.json").read_text())["sets"].values())
    assert models["model.onnx"]["accuracy"] == 1 and "MobileNetV2" in models
    for data, reason in (("missing", "is missing"), ("theirs", "has no images")):
        (workspace / "theirs").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=reason):
            run(monkeypatch, "model.onnx", "--data", data)


def test_hard_cases_are_used_where_they_are(workspace, monkeypatch, capsys) -> None:
    blue_onnx(workspace / "model.onnx", "0..1", side=32)
    pixels = np.load("data/split/images.npy")
    Path("data/hard_cases").mkdir()
    np.save("data/hard_cases/images.npy", pixels[:6])
    cases = ["original", "original", "beard", "beard", "hand", "hand"]
    table = pd.DataFrame({"row": range(6), "case": cases, "group": "face", "label": ["without_mask", "with_mask"] * 3})
    table = table.assign(source_row=range(6), path="0.jpg", split=["test"] * 5 + ["val"])
    table.to_csv("data/hard_cases/manifest.csv", index=False)
    table.assign(cnn=0.9, mobilenet=0.1).to_csv("data/hard_cases/predictions.csv", index=False)
    options = (
        "--range",
        "0..1",
        "--channels",
        "rgb",
        "--outputs",
        "probabilities",
        "--classes",
        "without_mask,with_mask",
    )
    run(monkeypatch, "model.onnx", "--json", "out.json", *options)
    assert "hard cases: 2 without_mask, 1 with_mask" in capsys.readouterr().out
    found = json.loads(Path("out.json").read_text())["sets"]["hard_cases"]["cases"]
    assert {case: models["model.onnx"]["accuracy"] for case, models in found.items()} == {"beard": 1, "hand": 1}
    assert found["hand"]["CNN"]["accuracy"] == 0 and found["hand"]["MobileNetV2"]["accuracy"] == 1


def test_without_validation_images_or_any_images_there_is_a_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Path("dvc.yaml").write_text("stages: {}\n")
    blue_onnx(tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"data/split/manifest.csv is missing.*--classes"):
        run(monkeypatch, "model.onnx")
    options = ("--range", "0..1", "--channels", "rgb", "--outputs", "logits", "--classes", "without_mask,with_mask")
    with pytest.raises(UserError, match="no images to evaluate on"):
        run(monkeypatch, "model.onnx", *options)
    assert params.load().image_size


def test_face_mask_evaluate_says_what_is_missing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "model.onnx"])
    monkeypatch.setattr(evaluate.models, "workspace", lambda: None)
    with pytest.raises(SystemExit):
        errors.run(evaluate.main, "evaluate")
    assert capsys.readouterr().err == (
        "evaluate: no repository with the evaluation's data here: clone it, run `make install`, and work in it\n"
    )
    monkeypatch.setattr(evaluate.models, "workspace", lambda: ROOT)
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(UserError, match="onnxruntime, of the extra `train`, is not installed: run `make install`"):
        evaluate.main()
    for arguments in (["m", "a", "--data", "b"], ["m", "--input-size", "4"], ["m", "--threshold", "1"], []):
        with pytest.raises(UserError, match="see --help"):
            evaluate.parse(arguments)
    (tmp_path / "file").touch()
    for target, reason in ((tmp_path, "is a folder"), (tmp_path / "file/a/b.json", "file is not a folder")):
        with pytest.raises(UserError, match=reason):
            evaluate.parse(["m", "--json", str(target)])
    assert evaluate.parse(["m", "--json", str(tmp_path / "new/a.json")]).json == tmp_path / "new/a.json"
    assert evaluate.parse(["m", "--input-size", "224x192"]).input_size == (224, 192)
