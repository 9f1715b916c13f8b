"""Objects before a face: what each hides and leaves free, in each family, on faces from the front and turned."""

import inspect

import numpy as np
import pytest

from pipeline.drawing import compositing, geometry
from pipeline.drawing.compositing import Face
from pipeline.drawing.facial_hair import COLOURS, STYLES
from pipeline.drawing.objects import COVERS, OBJECTS
from pipeline.drawing.wraps import DYES, WEAVES

SIDE = 128
EYES = (159, 145, 386, 374)  # lids
MOUTH = (13, 14, 0, 17)  # the middle of the lips
CHIN = (152, 175)
PLACES = {"eyes": EYES, "mouth": MOUTH, "chin": CHIN}
ALL = [(family, name) for family, drawings in OBJECTS.items() for name in drawings]


def synthetic(yaw: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """The canonical face's landmarks on a cylinder turned by `yaw`, then rotated by `roll`, in pixels."""
    x, y = geometry.CANONICAL.T
    depth = 1.5 * np.cos(np.clip(x / 1.6, -1, 1) * np.pi / 2) + 0.3 * np.exp(-(x**2 + (y - 0.7) ** 2) / 0.1)
    across = x * np.cos(yaw) + depth * np.sin(yaw)
    across = across - across.mean()
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * across - s * y, s * across + c * y], axis=1) * 24 + [SIDE / 2, 0.4 * SIDE]


FRONT, TURNED = synthetic(), synthetic(yaw=0.3, roll=0.25)


def photo(points: np.ndarray) -> np.ndarray:
    """A plain face: skin, brighter on its left side, dark eyebrows and red lips, on a grey background."""
    area = geometry.face_area(points, SIDE)[..., None]
    light = np.linspace(1.1, 0.8, SIDE)[None, :, None]
    image = 0.5 * (1 - area) + area * light * np.array([0.8, 0.6, 0.5])
    return (image * 255).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["front", "turned"])
def face(request: pytest.FixtureRequest) -> Face:
    points = FRONT if request.param == "front" else TURNED
    return compositing.describe(photo(points), points)


def opacity(face: Face, name: str, family: str, seed: int) -> np.ndarray:
    """(s, s) float: opacity 0…1 of all layers of a drawing on the image."""
    left = np.ones((SIDE, SIDE))
    for layer in OBJECTS[family][name](face, np.random.default_rng(seed), family):
        alpha = geometry.warp(layer.canvas, face.points, SIDE)[..., 3]
        left *= 1 - (alpha * compositing.grown(face.area) if layer.on_face else alpha)
    return 1 - left


def at(image: np.ndarray, face: Face, landmarks: tuple[int, ...]) -> np.ndarray:
    x, y = face.points[list(landmarks)].astype(int).T
    return image[y, x]


@pytest.mark.parametrize(("family", "name"), ALL)
def test_every_drawing_hides_what_it_reports(face: Face, family: str, name: str):
    for seed in range(2):
        alpha = opacity(face, name, family, seed)
        assert 0.01 < alpha.mean() < 0.95
        for place in COVERS[name]:
            hidden = at(alpha, face, PLACES[place])
            if name == "hand":  # there may be gaps between the fingers
                assert hidden.mean() > 0.7, (place, seed)
            else:  # stubble and glass are seen through
                assert hidden.min() > (0.1 if name in {"beard", "cup"} else 0.8), (place, seed)
        if "eyes" not in COVERS[name] and name not in {"hand", "hat_brim"}:
            assert at(alpha, face, EYES).max() < 0.3, seed


@pytest.mark.parametrize("family", OBJECTS)
def test_a_beard_grows_on_the_jaw_and_leaves_the_lips_free(face: Face, family: str):
    jaw = {"training": (152, 176, 400), "measuring": (152, 176, 400, 150, 379, 149, 378)}[family]  # a goatee: the chin
    for seed in range(6):
        alpha = opacity(face, "beard", family, seed)
        inner = np.concatenate([at(alpha, face, (13, 14)), at(alpha, face, (12, 15))])
        assert inner.max() < 0.25, seed
        inside = [face.points[list(jaw)] + (face.points[1] - face.points[list(jaw)]) * 0.12]
        x, y = np.concatenate(inside).astype(int).T
        assert alpha[y, x].min() > 0.1, seed
        assert at(alpha, face, (1, 4, 10, 151, 117, 346)).max() < 0.1, seed  # nose, forehead, upper cheeks


@pytest.mark.parametrize("name", ["sunglasses", "hat_brim"])
def test_what_is_worn_above_leaves_the_mouth_free(face: Face, name: str):
    for seed in range(5):
        assert at(opacity(face, name, "measuring", seed), face, (*MOUTH, *CHIN, 2)).max() < 0.05


def test_a_veil_leaves_the_face_free(face: Face):
    for seed in range(5):
        assert at(opacity(face, "veil", "training", seed), face, (*MOUTH, *EYES, 1, 50, 280)).max() < 0.05


@pytest.mark.parametrize("name", ["scarf", "collar"])
def test_what_goes_round_the_neck_reaches_beyond_the_face(name: str):
    face = compositing.describe(photo(FRONT), FRONT)
    alpha = opacity(face, name, "measuring", 1)
    assert alpha[face.area < 0.01].max() > 0.9


@pytest.mark.parametrize(("family", "name"), ALL)
def test_the_same_seed_draws_the_same_image_and_another_seed_another(family: str, name: str):
    face = compositing.describe(photo(FRONT), FRONT)
    images = []
    for seed in (4, 4, 5):
        rng = np.random.default_rng(seed)
        before = face.pixels.copy()
        images.append(compositing.compose(face, OBJECTS[family][name](face, rng, family), rng))
        assert np.array_equal(face.pixels, before)
    assert images[0].shape == (SIDE, SIDE, 3) and images[0].dtype == np.uint8
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_canvas_is_valid(family: str, name: str):
    face = compositing.describe(photo(TURNED), TURNED)
    for layer in OBJECTS[family][name](face, np.random.default_rng(0), family):
        assert layer.canvas.shape == (*geometry.CANVAS, 4) and layer.canvas.dtype == np.float32
        assert layer.canvas.min() >= 0 and layer.canvas.max() <= 1  # NaN fails too


def test_families_differ():
    for table in (COLOURS, STYLES, WEAVES, DYES):
        assert set(table) == set(OBJECTS)
    for table in (STYLES, WEAVES, DYES):
        assert not set(table["training"]) & set(table["measuring"])
    common = set(OBJECTS["training"]) & set(OBJECTS["measuring"])
    assert common == {"hand", "cup", "scarf", "beard"}
    for name in common:
        assert "family" in inspect.signature(OBJECTS["training"][name]).parameters
        face = compositing.describe(photo(FRONT), FRONT)
        shapes = [[opacity(face, name, family, seed) for seed in range(3)] for family in OBJECTS]
        assert all(np.abs(a - b).max() > 0.5 for a in shapes[0] for b in shapes[1]), name
    assert set(COVERS) == set(OBJECTS["training"]) | set(OBJECTS["measuring"])


def test_a_hand_has_the_colour_of_the_face():
    points = FRONT
    area = geometry.face_area(points, SIDE)[..., None]
    for skin in ((0.85, 0.65, 0.55), (0.35, 0.22, 0.16)):
        face = compositing.describe(((area * skin + (1 - area) * 0.4) * 255).astype(np.uint8), points)
        rng = np.random.default_rng(2)
        layers = OBJECTS["training"]["hand"](face, rng, "training")
        alpha = opacity(face, "hand", "training", 2) * face.area
        drawn = compositing.compose(face, layers, rng)[alpha > 0.95].mean(axis=0) / 255
        assert np.abs(drawn - skin).max() < 0.13
