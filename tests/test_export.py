"""Every exported format says what the Keras model says, is the same file twice, and a damaged one is named."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from pipeline import export
from pipeline.errors import UserError
from pipeline.serve import conversion, litert

SIDE = 16


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Small, with every kind of layer that the two models have, and some spread in what it says."""
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
def pictures() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.integers(0, 256, (40, 1, 1, 3)) * generator.random((40, SIDE, SIDE, 3))).astype(np.uint8)


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("float16", 0.02), ("int8", 0.12), ("onnx", 1e-5)])
def test_a_format_says_what_keras_says_and_is_the_same_file_twice(model, pictures, kind, tolerance, tmp_path):
    wanted = export.ask_keras(model, pictures)
    assert wanted.std() > 0.1
    encoded = conversion.onnx(model) if kind == "onnx" else conversion.litert(model, kind, pictures)
    again = conversion.onnx(model) if kind == "onnx" else conversion.litert(model, kind, pictures)
    assert encoded == again
    path = tmp_path / kind
    path.write_bytes(encoded)
    classify = conversion.load_onnx(encoded) if kind == "onnx" else litert.load(path)
    found = classify(pictures)
    assert found.shape == (40,) and found.dtype == np.float32
    assert found == pytest.approx(wanted, abs=tolerance)
    assert classify(pictures[:0]).shape == (0,)


def test_half_the_bits_make_half_the_file(model, pictures):
    dense = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Flatten(), layers.Dense(200), layers.Dense(2)])
    sizes = {kind: len(conversion.litert(dense, kind, pictures)) for kind in litert.FORMATS}
    assert sizes["float16"] < 0.55 * sizes["float32"] and sizes["int8"] < 0.3 * sizes["float32"]


def test_the_onnx_file_is_valid_and_takes_any_number_of_raw_pictures(model, pictures):
    import onnxruntime

    encoded = conversion.onnx(model)
    onnx.checker.check_model(onnx.load_from_string(encoded), full_check=True)
    session = onnxruntime.InferenceSession(encoded, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["pixels"]
    (probabilities,) = session.run(["probabilities"], {"pixels": pictures[:7].astype(np.float32)})
    assert probabilities[:, 1] == pytest.approx(export.ask_keras(model, pictures[:7]), abs=1e-5)


def test_a_damaged_or_missing_file_is_named_with_its_remedy(tmp_path):
    (tmp_path / "cnn.int8.tflite").write_bytes(b"TFL3 is not enough")
    with pytest.raises(UserError, match=r"cnn\.int8\.tflite is damaged .*dvc repro --force export"):
        litert.load(tmp_path / "cnn.int8.tflite")
    with pytest.raises(UserError, match=r"cnn\.float32\.tflite is missing: run `dvc repro export`"):
        litert.load(litert.path_of("cnn", folder=tmp_path))


def test_calibration_pictures_are_spread_evenly():
    images = np.arange(100)
    assert export.calibration_pictures(images, np.arange(10, 90), 5).tolist() == [10, 30, 50, 69, 89]
    assert export.calibration_pictures(images, np.array([3, 4]), 5).tolist() == [3, 4]


def test_a_format_that_loses_more_than_is_allowed_is_lossy():
    y_true = np.array([0, 0, 1, 1])
    wanted, found = np.array([0.1, 0.2, 0.9, 0.8]), np.array([0.1, 0.6, 0.9, 0.8])
    figures = export.judged(y_true, wanted, found, 0.5, 0.25)
    assert figures["accuracy"] == 0.75 and figures["accuracy_lost"] == 0.25 and figures["other_class"] == 1
    assert figures["probability_difference_max"] == pytest.approx(0.4) and not figures["lossy"]
    assert export.judged(y_true, wanted, found, 0.5, 0.2)["lossy"]
    assert export.judged(y_true, found, wanted, 0.5, 0.0)["accuracy_lost"] == -0.25


def test_latencies_are_medians_in_milliseconds():
    calls: list[str] = []

    def ask(name):
        def classify(images):
            calls.append(name)
            return np.zeros(len(images), np.float32)

        return classify

    found = export.latencies({"a": ask("a"), "b": ask("b")}, np.zeros((3, 2, 2, 3), np.uint8))
    assert calls == ["a", "b"] * 3 and set(found) == {"a", "b"} and all(0 < taken < 50 for taken in found.values())
