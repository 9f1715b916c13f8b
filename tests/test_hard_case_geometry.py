"""Drawing on faces: landmarks to pixels, light, and the training pool."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from face_mask.errors import UserError
from pipeline.dataset import counterfactual_pool as pool
from pipeline.dataset import packing
from pipeline.drawing import brushes, compositing, face_mesh, geometry, objects
from pipeline.synthetic.faces import draw_image

SIDE = 128
NOSE, CHIN = 1, 152
CENTRE = (64.0, 50.0)


@lru_cache
def drawn(label: str, index: int) -> np.ndarray:
    return np.asarray(draw_image(42, label, index).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def turned(degrees: float) -> np.ndarray:
    """The matrix (2, 2) that turns points (n, 2) in the image plane, multiplied from the right."""
    a = np.radians(degrees)
    return np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def placed(degrees: float = 0.0, unit: float = 30.0) -> np.ndarray:
    """Landmarks in pixels of a frontal face that is turned in the image plane."""
    return geometry.CANONICAL @ turned(degrees) * unit + CENTRE


@pytest.mark.parametrize(("degrees", "unit"), [(0, 30), (25, 18), (-40, 35)])
def test_face_coordinates_invert_a_rotation_and_scaling(degrees, unit):
    points = placed(degrees, unit)
    np.testing.assert_allclose(geometry.face_coordinates(points, points), geometry.CANONICAL, atol=1e-6)
    outside = np.array([[-3.0, 4.0], [2.5, -2.0], [0.0, 6.0]])  # far beyond the face it is still linear
    at = outside @ turned(degrees) * unit + CENTRE
    np.testing.assert_allclose(geometry.face_coordinates(points, at), outside, atol=1e-6)


@pytest.mark.parametrize(("degrees", "unit"), [(0, 30), (25, 18), (-40, 25)])
def test_a_canvas_lands_where_the_landmarks_are(degrees, unit):
    x, y = geometry.grid()
    canvas = np.zeros((*geometry.CANVAS, 4), np.float32)
    nose_x, nose_y = geometry.CANONICAL[NOSE]
    canvas[..., 0] = 1
    canvas[..., 3] = (x - nose_x) ** 2 + (y - nose_y) ** 2 < 0.3**2
    points = placed(degrees, unit)
    warped = geometry.warp(canvas, points, SIDE)
    row, column = np.indices((SIDE, SIDE)) + 0.5
    alpha = warped[..., 3]
    centroid = np.array([(alpha * column).sum(), (alpha * row).sum()]) / alpha.sum()
    np.testing.assert_allclose(centroid, points[NOSE], atol=0.15)
    assert alpha.sum() == pytest.approx(np.pi * (0.3 * unit) ** 2, rel=0.02)  # the area of the disc
    assert np.abs(warped[..., 0] - alpha).max() < 0.01 and not warped[..., 1].any()  # premultiplied red


def test_the_turn_is_zero_from_the_front_and_has_the_sign_of_the_side():
    points = placed(15)
    assert geometry.turn(points) == pytest.approx(0, abs=0.02)
    points[NOSE] += 0.4 * (points[454] - points[234])
    assert geometry.turn(points) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("x", [-20, *geometry.X, 0, 20])
@pytest.mark.parametrize("y", [-20, *geometry.Y, 0, 20])
def test_limbs_may_be_beside_the_canvas_or_on_its_border(x, y):
    limbs = brushes.Limbs()
    limbs.add((x, y), (x + 1, y), 0.3, 0.2)
    limbs.add((x, y), (x - 0.5, y + 9), 0.1, 0.1)
    part, height, distance = limbs.shaped()
    assert min(height.shape) >= 2 and height.shape == distance.shape == brushes.plane(part)[0].shape
    assert not height[distance > 0].any()


def test_a_layer_changes_only_what_it_covers_and_takes_the_photos_light_and_colours():
    photo = np.full((SIDE, SIDE, 3), 120, np.uint8)
    photo[:, :64] = 60  # lit from the right
    points = placed()
    face = compositing.describe(photo, points)
    x, y = geometry.grid()
    canvas = np.zeros((*geometry.CANVAS, 4), np.float32)
    canvas[..., :3] = (0.2, 0.5, 0.8)
    canvas[..., 3] = (np.abs(x) < 1.2) & (y > 0.5) & (y < 1.7)
    result = compositing.compose(face, [compositing.Layer(canvas)], np.random.default_rng(0))
    assert (result[:30] == photo[:30]).all()
    at_left, at_right = result[80, 45].astype(int), result[80, 83].astype(int)
    assert (at_right > at_left).all()  # light
    assert at_right.max() - at_right.min() <= 2  # a grey photo stays grey


def test_landmarks_of_a_drawn_face_are_in_place_and_none_are_where_no_face_or_several_are():
    image = drawn("without_mask", 0)
    found = face_mesh.landmarks(image)
    assert found is not None and found.score > face_mesh.MIN_SCORE
    eyes = found.points[[33, 263]].mean(axis=0)
    assert eyes[1] < found.points[NOSE][1] < found.points[CHIN][1] and found.points[33][0] < found.points[263][0]
    assert face_mesh.landmarks(np.full((SIDE, SIDE, 3), 90, np.uint8)) is None
    assert face_mesh.landmarks(np.concatenate([image, drawn("without_mask", 2)], axis=1)) is None


def test_the_data_files_are_those_that_the_modules_name(monkeypatch, tmp_path):
    assert hashlib.sha256(face_mesh.MODEL.read_bytes()).hexdigest() == face_mesh.SHA256
    assert hashlib.sha256(geometry.CANONICAL_FILE.read_bytes()).hexdigest() == geometry.SHA256
    monkeypatch.setattr(face_mesh, "MODEL", tmp_path / "face_mesh.tflite")
    face_mesh.network.cache_clear()
    with pytest.raises(UserError, match=r"face_mesh\.tflite is missing or damaged: run `git checkout"):
        face_mesh.network()


# ---- the training pool ----


def workspace(folder: Path, images: list[np.ndarray]) -> None:
    path = folder / packing.IMAGES_PATH
    path.parent.mkdir(parents=True)
    np.save(path, np.stack(images))


def test_the_pool_has_both_classes_and_only_drawings_of_its_family(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []

    def spied(drawing):
        def drawn_with(face, rng, family, *rest):
            asked.append(family)
            return drawing(face, rng, family, *rest)

        return drawn_with

    for name in ("worn", "under_nose", "on_chin", "recoloured"):
        monkeypatch.setattr(pool.masks, name, spied(getattr(pool.masks, name)))
    labels = ["without_mask"] * 6 + ["with_mask"] * 3
    blank = np.full((SIDE, SIDE, 3), 90, np.uint8)
    workspace(tmp_path, [drawn(label, i) for i, label in enumerate(labels)] + [blank])
    monkeypatch.setattr(pool, "ordered_map", map)
    rows = pd.DataFrame({"row": range(10), "label": [*labels, "without_mask"], "split": ["train"] * 5 + ["val"] * 5})
    table = pool.write(tmp_path / "pool.npy", rows, seed=3, incorrect=True)
    written = np.load(tmp_path / "pool.npy")
    assert written.shape == (len(table), SIDE, SIDE, 3) and written.dtype == np.uint8

    bare = table[table["source_row"] < 6]
    assert len(bare) >= 8 and bare.groupby("source_row").size().eq(2).all()
    assert (bare["label"].value_counts() == len(bare) // 2).all()
    assert (bare["kind"].str.startswith("mask_") == (bare["label"] == "with_mask")).all()
    assert table.loc[table["source_row"].between(6, 8), "kind"].isin(["recoloured"]).all()
    assert not (table["source_row"] == 9).any()  # no face, so nothing is drawn on it
    assert ((table["source_row"] < 5) == (table["split"] == "train")).all()
    assert set(asked) == {"training"}
    known = {*objects.OBJECTS["training"], "under_nose", "on_chin"}
    assert set(bare.loc[bare["label"] == "without_mask", "kind"]) <= known

    # An image's changes do not depend on the others.
    again = pool.write(tmp_path / "again.npy", rows[3:5], seed=3, incorrect=True)
    same = table["source_row"].isin([3, 4])
    assert (np.load(tmp_path / "again.npy") == written[same]).all() and again["kind"].tolist() == table["kind"][
        same
    ].tolist()


def test_incorrectly_worn_masks_are_left_out_on_request():
    names = {pool.choose_negative(np.random.default_rng(i), incorrect=False)[0] for i in range(200)}
    assert names == set(objects.OBJECTS["training"])
    names = {pool.choose_negative(np.random.default_rng(i), incorrect=True)[0] for i in range(200)}
    assert {"under_nose", "on_chin"} <= names


def test_a_cut_pool_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"manifest\.csv is missing: run `dvc repro counterfactuals`"):
        packing.open_counterfactuals()
    packing.COUNTERFACTUALS_PATH.parent.mkdir(parents=True)
    packing.COUNTERFACTUALS_PATH.with_name("manifest.csv").write_text(
        "kind,label,split,source_row\nhand,without_mask,val,3\n"
    )
    np.save(packing.COUNTERFACTUALS_PATH, np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match=r"describes 1 images, but .* has 2.*run `dvc repro counterfactuals`"):
        packing.open_counterfactuals()
