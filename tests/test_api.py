"""The Python API: `from face_mask import FaceMaskDetector`."""

from __future__ import annotations

import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import face_mask
from face_mask import BadImage, Face, FaceMaskDetector, UserError, decoding, models
from face_mask.api import to_face
from face_mask.classifier import FaceClassifier, Prediction
from tests import live_workspace
from tests.litert_models import CALIBRATION

SCENE = live_workspace.scene()
RGB = np.asarray(SCENE)


@pytest.fixture(scope="module")
def detector() -> FaceMaskDetector:
    return FaceMaskDetector()


@pytest.fixture(scope="module")
def faces(detector: FaceMaskDetector) -> list[Face]:
    return detector.predict(RGB)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_faces_are_the_predictions_of_the_model(faces: list[Face]) -> None:
    model = models.find()
    predictions = model.load().predict_faces(RGB)
    assert len(faces) == len(predictions) >= 2
    for face, one in zip(faces, predictions, strict=True):
        assert (face.box, face.with_mask, face.score) == (one.box, one.with_mask, one.score)
        assert face.label == ("with_mask" if one.with_mask >= model.threshold else "without_mask")
        assert face.probability == (one.with_mask if face.label == "with_mask" else 1 - one.with_mask)
        calibration = model.load().calibration
        assert face.prediction_set == (calibration.prediction_set(one.with_mask) if calibration else None)
        assert face.unsure == (face.prediction_set not in (None, (face.label,)))
    with pytest.raises(FrozenInstanceError):
        faces[0].label = "with_mask"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("probability", "labels"), [(0.9, ("with_mask",)), (0.6, ()), (0.4, ()), (0.2, ("without_mask",))]
)
def test_a_face_has_the_prediction_set_of_the_models_calibration(probability: float, labels: tuple[str, ...]) -> None:
    loaded = FaceClassifier("cnn", 32, 0.2, 0.5, lambda images: images[:, 0, 0, 0], calibration=CALIBRATION)
    face = to_face(Prediction((0, 0, 9, 9), 0.9, probability), loaded, detected=True)
    assert (face.prediction_set, face.unsure) == (labels, not labels)
    face = to_face(Prediction((0, 0, 9, 9), 0.9, probability), replace(loaded, calibration=None), detected=True)
    assert (face.prediction_set, face.unsure) == (None, False)


def test_every_kind_of_image_gives_the_same_faces(
    detector: FaceMaskDetector, faces: list[Face], tmp_path: Path
) -> None:
    path = tmp_path / "scene.png"
    SCENE.save(path)
    for image in (path, str(path), path.read_bytes(), SCENE, SCENE.convert("RGBA")):
        assert detector.predict(image) == faces
    assert detector.predict(RGB[..., ::-1], channels="bgr") == faces
    assert detector.predict(np.ascontiguousarray(RGB[..., ::-1])) != faces


def test_a_photograph_is_turned_upright(detector: FaceMaskDetector, faces: list[Face]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    buffer = io.BytesIO()
    SCENE.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    assert detector.predict(buffer.getvalue()) == detector.predict(Image.open(buffer)) == faces


def test_a_batch_gives_the_faces_of_each_image_in_order(detector: FaceMaskDetector, faces: list[Face]) -> None:
    empty = live_workspace.empty_scene()
    assert detector.predict_batch([SCENE, empty, RGB, png(SCENE)]) == [faces, [], faces, faces]
    assert detector.predict_batch([]) == []
    assert detector.predict_batch([RGB[..., ::-1]], channels="bgr", threads=1) == [faces]


@pytest.mark.parametrize("count", [1, 3, 65])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_whole_images_are_predicted_as_one_at_a_time(detector: FaceMaskDetector, count: int, threads: int) -> None:
    images: list[Any] = [RGB[8 * (i % 20) :, 16 * (i % 7) :] for i in range(count)]
    images[count // 2] = Image.fromarray(images[count // 2])
    expected = [detector.predict(image, faces="whole") for image in images]
    assert count == 1 or len({face.with_mask for (face,) in expected}) > 1
    found = detector.predict_batch(images, faces="whole", threads=threads)
    assert [[replace(face, with_mask=0, probability=0) for face in one] for one in found] == [
        [replace(face, with_mask=0, probability=0) for face in one] for one in expected
    ]
    assert [face.with_mask for (face,) in found] == pytest.approx([face.with_mask for (face,) in expected], abs=1e-6)


def test_one_detector_serves_several_threads(detector: FaceMaskDetector, faces: list[Face]) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(found == faces for found in pool.map(detector.predict, [RGB] * 12))


def test_a_whole_image_is_one_face(detector: FaceMaskDetector) -> None:
    (face,) = detector.predict(RGB, faces="whole")
    assert (face.box, face.score) == ((0.0, 0.0, 640.0, 480.0), None)
    assert face.with_mask == models.find().load().predict_whole(RGB).with_mask


@pytest.mark.parametrize(
    ("image", "arguments", "error", "message"),
    [
        (b"", {}, BadImage, "empty file"),
        (b"hello", {}, BadImage, "not an image"),
        (png(SCENE)[:5000], {}, BadImage, "damaged"),
        (RGB.astype(np.float32), {}, ValueError, r"shape \(480, 640, 3\) and dtype float32: use .* uint8"),
        (RGB[..., 0], {}, ValueError, r"shape \(480, 640\)"),
        (np.empty((0, 5, 3), np.uint8), {}, ValueError, r"shape \(0, 5, 3\)"),
        (RGB, {"channels": "bgra"}, ValueError, "channels = 'bgra': use rgb, or bgr"),
        (RGB, {"faces": "some"}, ValueError, "faces = 'some': use auto or whole"),
        ([1, 2], {}, TypeError, "not list"),
        ("missing.jpg", {}, FileNotFoundError, "missing.jpg"),
    ],
)
def test_what_is_not_an_image_is_an_error(
    detector: FaceMaskDetector, image: Any, arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        detector.predict(image, **arguments)


def test_a_bad_file_is_named(detector: FaceMaskDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "letter.jpg"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"letter\.jpg: not an image"):
        detector.predict_batch([RGB, path])
    with pytest.raises(FileNotFoundError, match="missing"):  # the first of several bad ones
        detector.predict_batch([RGB] * 9 + [tmp_path / "missing.jpg"] + [path] * 40, faces="whole")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(BadImage, match="640x480 pixels are too many"):
        detector.predict(SCENE)


def test_a_missing_model_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cnn\.float32\.tflite is missing"):
        FaceMaskDetector("cnn", folder=tmp_path)


def test_the_package_exports_the_api_and_nothing_else() -> None:
    assert [name for name in face_mask.__all__ if not hasattr(face_mask, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'Faces'"):
        _ = face_mask.Faces


def test_the_examples_of_the_documentation_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", Path("docs/api.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    opencv = SimpleNamespace(imread=lambda path: np.asarray(Image.open(path).convert("RGB"))[..., ::-1])
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    monkeypatch.chdir(tmp_path)
    Path("holiday").mkdir()
    SCENE.save("street.jpg", quality=95)
    SCENE.save("holiday/1.jpg", quality=95)
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    out = capsys.readouterr().out.splitlines()
    assert len(out) >= 3 and re.fullmatch(r"with(out)?_mask [01]\.\d+ \(.*\)", out[0])
    assert any(re.fullmatch(r"holiday.1\.jpg: \d faces, \d without a mask", line) for line in out)
    assert "% with a mask as predicted" in out[-2]
