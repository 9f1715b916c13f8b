"""Every exported format predicts as the Keras model does and is deterministic; a damaged file is named."""

from __future__ import annotations

import hashlib

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from face_mask import litert
from face_mask.errors import UserError
from pipeline.models import conversion, exporting

SIDE = 16


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A small model with every kind of layer of the two models, and varied predictions."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3), name="pixels"),
            layers.Rescaling(1 / 127.5, offset=-1.0),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(max_value=6.0),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(2, activation="softmax", name="probabilities"),
        ]
    )
    model.layers[-1].kernel.assign(6 * model.layers[-1].kernel)
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.integers(0, 256, (40, 1, 1, 3)) * generator.random((40, SIDE, SIDE, 3))).astype(np.uint8)


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("float16", 0.02), ("int8", 0.12), ("onnx", 1e-5)])
def test_a_format_predicts_as_keras_and_is_deterministic(model, images, kind, tolerance, tmp_path):
    expected = exporting.classify_with_keras(model, images)
    assert expected.std() > 0.1
    encoded = conversion.onnx(model) if kind == "onnx" else conversion.litert(model, kind, images)
    again = conversion.onnx(model) if kind == "onnx" else conversion.litert(model, kind, images)
    assert encoded == again
    path = tmp_path / kind
    path.write_bytes(encoded)
    classify = conversion.load_onnx(encoded, path) if kind == "onnx" else litert.load(path)
    actual = classify(images)
    assert actual.shape == (40,) and actual.dtype == np.float32
    assert actual == pytest.approx(expected, abs=tolerance)
    assert classify(images[:0]).shape == (0,)


@pytest.mark.parametrize(("kind", "large_bytes"), [("float32", 0), ("float32", 10**9), ("int8", 10**9)])
def test_a_batch_gives_the_probabilities_of_one_image_at_a_time(
    model, images, monkeypatch, tmp_path, kind, large_bytes
):
    monkeypatch.setattr(litert, "LARGE_BYTES", large_bytes)
    classify = litert.to_function(conversion.litert(model, kind, images), tmp_path / "cnn")
    many = np.concatenate([images, images[:25, ::-1]])
    expected = np.array([classify(image[None])[0] for image in many])
    assert expected.std() > 0.1
    for n in (0, 1, 3, 65, 4, 1, 16):  # in an order in which the interpreter's input grows and shrinks
        assert classify(many[:n]) == pytest.approx(expected[:n], abs=1e-6)
    with pytest.raises(ValueError, match="imension"):  # by which FaceClassifier.load knows another image_size
        classify(many[:, :8])
    assert classify(many) == pytest.approx(expected, abs=1e-6)


def test_a_file_for_one_image_still_takes_many(model, images, tmp_path):
    """Files of earlier versions, such as those in a registry."""
    import tensorflow as tf

    function = conversion.frozen_function(model, batch=1)
    encoded = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    expected = exporting.classify_with_keras(model, images)
    assert litert.to_function(encoded, tmp_path / "cnn")(images) == pytest.approx(expected, abs=1e-5)


def test_file_sizes_follow_the_number_format(model, images):
    dense = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Flatten(), layers.Dense(200), layers.Dense(2)])
    sizes = {kind: len(conversion.litert(dense, kind, images)) for kind in litert.FORMATS}
    assert sizes["float16"] < 0.55 * sizes["float32"] and sizes["int8"] < 0.3 * sizes["float32"]


def test_the_onnx_file_is_valid_and_takes_any_number_of_raw_images(model, images):
    import onnxruntime

    encoded = conversion.onnx(model)
    onnx.checker.check_model(onnx.load_from_string(encoded), full_check=True)
    session = onnxruntime.InferenceSession(encoded, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["pixels"]
    (probabilities,) = session.run(["probabilities"], {"pixels": images[:7].astype(np.float32)})
    assert probabilities[:, 1] == pytest.approx(exporting.classify_with_keras(model, images[:7]), abs=1e-5)


def test_a_damaged_or_missing_file_is_named_with_its_remedy(tmp_path):
    (tmp_path / "cnn.int8.tflite").write_bytes(b"TFL3 is not enough")
    with pytest.raises(UserError, match=r"cnn\.int8\.tflite is damaged .*dvc repro --force --single-item export"):
        litert.load(tmp_path / "cnn.int8.tflite")
    with pytest.raises(UserError, match=r"cnn\.float32\.tflite is missing: run `dvc repro export`"):
        litert.load(litert.path_of("cnn", folder=tmp_path))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5, 2.0])
def test_an_output_that_is_no_probability_is_an_error_and_never_a_class(tmp_path, bad):
    """Of one image among others; the exported formats are checked alike."""
    pixels = keras.Input((SIDE, SIDE, 3))
    bright = keras.layers.GlobalAveragePooling2D()(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, name="out")(bright))  # the second output is red / 255
    model.get_layer("out").set_weights([np.array([[0, 1 / 255], [0, 0], [0, 0]], np.float32), np.zeros(2, np.float32)])
    path = tmp_path / "cnn.float32.tflite"
    path.write_bytes(conversion.litert(model, "float32", np.empty(0)))
    images = np.full((3, SIDE, SIDE, 3), [100.0, 0, 0], np.float32)
    for classify in (litert.load(path), conversion.load_onnx(conversion.onnx(model), path)):
        assert classify(images) == pytest.approx(100 / 255)
        damaged = images.copy()
        damaged[1, ..., 0] = 255 * bad
        message = r"cnn\.float32\.tflite is damaged \(a probability is not a number from 0 to 1, that of image 2 of 3\)"
        with pytest.raises(UserError, match=message):
            classify(damaged)
        with pytest.raises(UserError, match="that of image 65 of 65"):
            classify(np.concatenate([images] * 21 + [damaged[:2]]))
        with pytest.raises(UserError, match=r"from 0 to 1\)"):
            classify(damaged[1:2])
        assert classify(images) == pytest.approx(100 / 255)


def test_a_file_with_another_digest_is_refused(tmp_path, model, images):
    path = tmp_path / "model.tflite"
    path.write_bytes(conversion.litert(model, "float32", images))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(litert.load(path, digest)(images)) == 40
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"model\.tflite is damaged \(its SHA-256 is not"):
        litert.load(path, digest)


def test_calibration_images_are_spread_evenly():
    images = np.arange(100)
    assert exporting.calibration_images(images, np.arange(10, 90), 5).tolist() == [10, 30, 50, 69, 89]
    assert exporting.calibration_images(images, np.array([3, 4]), 5).tolist() == [3, 4]


def test_a_format_that_loses_more_accuracy_than_allowed_is_lossy():
    y_true = np.array([0, 0, 1, 1])
    expected, actual = np.array([0.1, 0.2, 0.9, 0.8]), np.array([0.1, 0.6, 0.9, 0.8])
    metrics = exporting.compare_with_keras(y_true, expected, actual, 0.5, 0.25)
    assert metrics["accuracy"] == 0.75 and metrics["accuracy_lost"] == 0.25 and metrics["other_class"] == 1
    assert metrics["probability_difference_max"] == pytest.approx(0.4) and not metrics["lossy"]
    assert exporting.compare_with_keras(y_true, expected, actual, 0.5, 0.2)["lossy"]
    assert exporting.compare_with_keras(y_true, actual, expected, 0.5, 0.0)["accuracy_lost"] == -0.25


def test_latencies_are_medians_in_milliseconds():
    calls: list[str] = []

    def ask(name):
        def classify(images):
            calls.append(name)
            return np.zeros(len(images), np.float32)

        return classify

    actual = exporting.latencies({"a": ask("a"), "b": ask("b")}, np.zeros((3, 2, 2, 3), np.uint8))
    assert calls == ["a", "b"] * 3 and set(actual) == {"a", "b"} and all(0 < taken < 50 for taken in actual.values())
