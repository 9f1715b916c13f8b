"""Prediction sets: the guarantee on exchangeable data, closed forms, and the calibration inside a model's file."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from face_mask import conformal as deployed
from face_mask import litert
from face_mask.classifier import FaceClassifier
from face_mask.conformal import BadCalibration, Calibration
from face_mask.errors import UserError
from face_mask.schema import LABELS
from pipeline.models import conversion, exporting
from pipeline.scoring import conformal, metrics
from tests import litert_models

SIZE = 8
APART = Calibration(0.1, with_mask_from=0.7, without_mask_to=0.3, n_with_mask=20, n_without_mask=30)  # none between
OVERLAP = Calibration(0.1, with_mask_from=0.2, without_mask_to=0.9, n_with_mask=20, n_without_mask=30)  # both between
ALWAYS_BOTH = Calibration(0.01, with_mask_from=0.0, without_mask_to=1.0, n_with_mask=20, n_without_mask=30)


def drawn(n: int, generator: np.random.Generator, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Classes and P(with_mask) of n images of each class, drawn independently; with ties like those of int8."""
    y_true = np.repeat([0, 1], n)
    y_prob = 1 / (1 + np.exp(-generator.normal(3.0 * (2 * y_true - 1), 2.0)))
    return y_true, (y_prob * 256).round() / 256 if ties else y_prob


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "error"), [(40, 0.1), (372, 0.01), (99, 0.01)])
def test_the_coverage_of_each_class_is_the_guaranteed_one(n: int, error: float, ties: bool) -> None:
    """Over many calibrations and new images; given one calibration, coverage follows a beta distribution."""
    generator, repeats, new = np.random.default_rng(n), 400, 500
    covered = np.zeros((repeats, 2))
    for i in range(repeats):
        calibration = conformal.calibrate(*drawn(n, generator, ties), error)
        y_true, y_prob = drawn(new, generator, ties)
        sets = conformal.prediction_sets(y_prob, calibration)
        covered[i] = [sets[y_true == one, one].mean() for one in (0, 1)]
    k = math.ceil(round((n + 1) * (1 - error), 9))
    spread = beta(k, n + 1 - k).std() + math.sqrt(error * (1 - error) / new)
    tolerance = 4 * spread / math.sqrt(repeats)
    assert (covered.mean(axis=0) >= 1 - error - tolerance).all()
    if not ties:
        assert covered.mean(axis=0) == pytest.approx(k / (n + 1), abs=tolerance)


def test_a_tie_at_the_quantile_is_in_the_set_so_that_every_calibration_has_enough_images() -> None:
    y_true, y_prob = np.repeat([0, 1], 20), np.repeat([0.1, 0.4, 0.6, 0.9], 10)
    calibration = conformal.calibrate(y_true, y_prob, 0.2)
    assert (calibration.with_mask_from, calibration.without_mask_to) == (0.6, 0.4)
    assert conformal.prediction_sets(y_prob, calibration)[np.arange(40), y_true].all()


@pytest.mark.parametrize(
    ("n", "error", "rank"),
    [(9, 0.1, 9), (8, 0.1, None), (10, 0.1, 10), (19, 0.1, 18), (99, 0.01, 99), (98, 0.01, None), (372, 0.01, 370),
     (99, 0.29, 71), (0, 0.1, None)],
)  # fmt: skip
def test_the_quantile_in_closed_form(n: int, error: float, rank: int | None) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1)).astype(float)  # the k-th smallest is k
    assert conformal.quantile(scores, error) == (math.inf if rank is None else rank)


def test_both_thresholds_by_hand() -> None:
    y_true, y_prob = np.repeat([0, 1], 9), np.concatenate([np.arange(9) / 20, 1 - np.arange(9) / 16])
    calibration = conformal.calibrate(y_true, y_prob, 0.2)  # the eighth of nine
    assert calibration == Calibration(0.2, 1 - 7 / 16, 7 / 20, 9, 9)


def test_with_too_few_images_both_classes_are_in_every_set_and_a_line_says_so() -> None:
    y_true, y_prob = np.repeat([0, 1], 40), np.repeat([0.0, 1.0], 40)
    calibration = conformal.calibrate(y_true, y_prob, 0.01)
    assert (calibration.with_mask_from, calibration.without_mask_to) == (0.0, 1.0)
    assert conformal.prediction_sets(np.array([0.0, 0.5, 1.0]), calibration).all()
    line = conformal.shortage(y_true, 0.01)
    assert line and line.startswith("conformal.error = 0.01 needs 99 validation images of each class, but there are 40")
    assert conformal.shortage(np.repeat([0, 1], 99), 0.01) is conformal.shortage(y_true, 0.05) is None
    assert calibration.limits(0.5) == (-math.inf, math.inf)


@given(st.floats(0, 1))
def test_thresholds_are_rounded_so_that_sets_only_grow(value: float) -> None:
    down, up = conformal.round_down(value), -conformal.round_down(-value)
    assert value - 1.001e-6 < down <= value <= up < value + 1.001e-6
    assert (down, up) == (round(down, 6), round(up, 6))


@given(st.floats(0, 1, width=32), st.sampled_from([APART, OVERLAP, ALWAYS_BOTH]), st.sampled_from([0.1, 0.5, 0.95]))
def test_the_deployed_code_and_the_metrics_agree(p: float, calibration: Calibration, threshold: float) -> None:
    inside = conformal.prediction_sets(np.array([p]), calibration)[0]
    labels = calibration.prediction_set(p)
    assert labels == tuple(label for label, one in zip(LABELS, inside.tolist(), strict=True) if one)
    sure = labels == (LABELS[p >= threshold],)
    assert conformal.is_sure(np.array([p]), calibration, threshold).tolist() == [sure]
    low, high = calibration.limits(threshold)
    assert (low < p < high) == (not sure)
    low, high = deployed.surely(threshold)
    assert (p <= low or p >= high) and (p >= high) == (p >= threshold)


def test_a_set_in_a_word() -> None:
    assert [deployed.set_name(APART, p) for p in (0.3, 0.5, 0.7)] == ["without_mask", "none", "with_mask"]
    assert [deployed.set_name(OVERLAP, p) for p in (0.1, 0.5, 0.95)] == ["without_mask", "both", "with_mask"]
    assert deployed.set_name(None, 0.5) is None


def test_metrics_by_hand() -> None:
    y_true, y_prob = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.5, 0.8, 0.9, 0.7, 0.2])
    found = conformal.conformal_metrics(y_true, y_prob, APART, threshold=0.5, confidence=0.95)
    assert (found["coverage_without_mask"], found["coverage_with_mask"]) == (1 / 3, 2 / 3)
    assert (found["unsure"], found["unsure_n"]) == (1 / 6, 6)
    assert (found["sure_accuracy"], found["sure_accuracy_n"]) == (3 / 5, 5)
    ends = [found[f"coverage_with_mask_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx(metrics.wilson(2, 3))
    nothing = conformal.conformal_metrics(y_true, y_prob, ALWAYS_BOTH, threshold=0.5, confidence=0.95)
    assert (nothing["unsure"], nothing["sure_accuracy"], nothing["coverage_with_mask"]) == (1.0, None, 1.0)
    assert "unsure about 100.00%, accuracy on the rest unknown" in conformal.summary(nothing)
    empty = conformal.conformal_metrics(np.empty(0, int), np.empty(0), APART, threshold=0.5, confidence=0.95)
    assert (empty["unsure"], empty["unsure_n"], empty["coverage_with_mask"]) == (None, 0, None)


# The calibration in a file


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A LiteRT file without a calibration."""
    folder = tmp_path_factory.mktemp("model")
    litert_models.write(folder, SIZE, ("cnn",))
    content = litert.path_of("cnn", folder=folder).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: archive.getinfo(deployed.MEMBER).header_offset]


def test_a_litert_file_carries_its_calibration_and_predicts_as_before(plain: bytes, tmp_path: Path) -> None:
    content = deployed.append(plain, APART)
    assert content.startswith(plain) and len(content) < len(plain) + 1000
    assert content == deployed.append(plain, APART)
    assert (deployed.extract(plain), deployed.extract(content)) == (None, APART)
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    answers = []
    for name, one in (("plain", plain), ("calibrated", content)):
        path = tmp_path / name
        path.write_bytes(one)
        loaded = FaceClassifier.load(path, name="cnn", size=SIZE, margin=0.2, threshold=0.5)
        answers.append(loaded.classify(images).tolist())
        assert loaded.calibration == deployed.extract(one)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("number_format", ["int8", "onnx"])
def test_an_exported_file_is_calibrated_with_its_own_probabilities(
    number_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    bright = keras.layers.GlobalAveragePooling2D()(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax", name="out")(bright))
    model.get_layer("out").set_weights([np.array([[0.0, 0.02]] * 3, np.float32), np.array([0, -6], np.float32)])
    images = np.arange(0, 240, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIZE, SIZE, 3), np.uint8)
    y_true = (np.arange(40) >= 20).astype(int)
    contents = []
    for _ in range(2):
        path, classify, calibration = exporting.write_format(
            model, "cnn", number_format, images, lambda run: conformal.calibrate(y_true, run(images), 0.1)
        )
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert calibration == conformal.calibrate(y_true, classify(images), 0.1)
    assert 0 < calibration.without_mask_to < 1 and calibration.n_with_mask == 20
    if number_format == "onnx":
        session = onnxruntime.InferenceSession(contents[0], providers=["CPUExecutionProvider"])
        carried: Calibration | None = deployed.from_json(session.get_modelmeta().custom_metadata_map[deployed.KEY])
        again = conversion.load_onnx(contents[0], path)
    else:
        carried, again = litert.calibration_of(contents[0], path), litert.load(path)
    assert carried == calibration
    assert again(images).tolist() == classify(images).tolist()


def damaged(text: str, name: str = deployed.MEMBER, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO(b"model")
    with zipfile.ZipFile(file, "a", compression) as archive:
        archive.writestr(name, text)
    return file.getvalue()


COMPRESSIONS = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
VALUES = json.loads(deployed.to_json(APART))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (damaged("{"), "not valid"),
        *((damaged("{}", compression=kind), "cannot be read") for kind in COMPRESSIONS),
        (damaged("[]"), "not valid"),
        (damaged("{}"), "not valid"),
        (damaged(json.dumps(VALUES | {"more": 1})), "not valid"),
        (damaged(json.dumps(VALUES | {"error": "low"})), "not valid"),
        (damaged(json.dumps(VALUES | {"error": 1})), "out of range"),
        (damaged(json.dumps(VALUES | {"with_mask_from": math.nan})), "out of range"),
        (damaged(json.dumps(VALUES | {"method": "newer"})), "of another version"),
        (damaged(" " * 10**7), "more than 4096 bytes"),
        (deployed.append(b"model", APART)[:-1], "its end is missing"),
        (deployed.append(b"model", APART).replace(b"without", b"wit\0out", 1), "cannot be read"),  # its checksum
    ],
)
def test_a_damaged_calibration_is_one_line(content: bytes, message: str) -> None:
    with pytest.raises(BadCalibration, match=message):
        deployed.extract(content)
    with pytest.raises(UserError, match=r"cnn\.tflite is damaged \(.*\): run `dvc checkout`"):
        litert.calibration_of(content, Path("cnn.tflite"))


def test_other_files_in_the_archive_are_no_calibration() -> None:
    assert deployed.extract(damaged("with_mask\n", "labels.txt")) is None


def test_coverage_of_one_test_set_lies_within_the_binomial_bounds() -> None:
    """What the report shows: the interval around the measured coverage contains the true one, 19 times in 20."""
    generator, inside = np.random.default_rng(5), 0
    calibration = Calibration(0.1, 0.3, 0.8, 100, 100)
    y_true, y_prob = drawn(200_000, generator)
    truth = conformal.prediction_sets(y_prob, calibration)[y_true == 1, 1].mean()
    for _ in range(200):
        found = conformal.conformal_metrics(*drawn(150, generator), calibration, threshold=0.5, confidence=0.95)
        low, high = (found[f"coverage_with_mask_{end}"] or 0.0 for end in ("low", "high"))
        inside += low <= truth <= high
    assert inside >= binom(200, 0.93).ppf(0.001)
