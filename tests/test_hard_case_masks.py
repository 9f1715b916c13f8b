"""Drawn masks: where they lie on a face, that they repeat, and that training and measuring share none of them."""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from pipeline.drawing import compositing, fabrics, geometry, masks

SIDE = 128
NOSE, NOSTRILS, LIPS, CORNERS, LOWER_LIP, CHIN = (1, 4), (98, 327, 2), (13, 14), (61, 291), (17,), (175, 199)
LOWER_LIDS = (145, 374)
UPRIGHT, TURNED = (0.0, 24.0, (64, 50)), (35.0, 13.0, (78, 40))  # degrees, pixels per unit, origin


def face(place=UPRIGHT) -> compositing.Face:
    """A plain face in front of a green background."""
    degrees, scale, origin = place
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = scale * geometry.CANONICAL @ turn + origin
    area = geometry.face_area(points, SIDE)[..., None]
    noise = np.random.default_rng(0).normal(0, 3, (SIDE, SIDE, 1))
    image = area * [200, 150, 125] + (1 - area) * [60, 110, 70] + noise
    return compositing.describe(image.clip(0, 255).astype(np.uint8), points)


def coverage(layers: list[compositing.Layer], at: compositing.Face, landmarks: tuple[int, ...]) -> np.ndarray:
    """How opaque the layers are at these landmarks."""
    pixels = at.points[list(landmarks)].astype(int)
    alphas = [geometry.warp(layer.canvas, at.points, SIDE)[pixels[:, 1], pixels[:, 0], 3] for layer in layers]
    return np.max(alphas, axis=0)


@pytest.mark.parametrize("place", [UPRIGHT, TURNED], ids=["upright", "turned"])
@pytest.mark.parametrize("family", masks.FAMILIES)
def test_masks_lie_where_they_are_worn(family, place):
    """Mask and ear loops on the landmarks of a face, also of a small one that is turned."""
    one = face(place)
    rng = np.random.default_rng(1)
    drawings: list[tuple[Callable, tuple[int, ...], tuple[int, ...]]] = [
        *(
            (partial(masks.worn, kind=kind), NOSE + NOSTRILS + LIPS + CORNERS + CHIN, LOWER_LIDS)
            for kind in masks.KINDS
        ),
        *[(masks.under_nose, LIPS + CORNERS + LOWER_LIP + CHIN, NOSE + NOSTRILS)] * 5,
        *[(masks.on_chin, CHIN, NOSE + NOSTRILS + LIPS + CORNERS + LOWER_LIP)] * 5,
    ]
    for draw, covered, free in drawings:
        layers = draw(one, rng, family)
        assert coverage(layers, one, covered).min() > 0.7
        assert coverage(layers, one, free).max() < 0.4


@pytest.mark.parametrize("family", masks.FAMILIES)
def test_masks_repeat_with_their_seed(family):
    one = face()
    first, again, other = (
        compositing.compose(one, masks.worn(one, rng, family, "patterned"), rng)
        for rng in map(np.random.default_rng, (3, 3, 4))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("family", "kind"), list(itertools.product(masks.FAMILIES, masks.KINDS)))
def test_every_fabric_gives_colours(family, kind):
    x, y = masks.region()
    for texture in fabrics.FABRICS[family][kind].values():
        colour = texture(x, y, np.random.default_rng(5), np.array([0.7, 0.5, 0.4], np.float32))
        assert colour.shape == (*x.shape, 3)
        assert np.isfinite(colour).all()
        assert colour.min() > -0.2
        assert colour.max() < 1.3


def test_families_share_no_fabric_outline_or_fold():
    """What the models are trained with is not what they are measured with."""

    def fabric(texture) -> str:
        return texture.keywords["weave"].__name__ if isinstance(texture, partial) else texture.__name__

    used = {family: {name for kind in masks.KINDS for name in masks.BY_KIND[family][kind]} for family in masks.FAMILIES}
    assert used == {family: set(outlines) for family, outlines in masks.OUTLINES.items()}
    u, t = np.linspace(0, 1.25, 9), np.linspace(0, 1, 9)

    def parts(family: str) -> dict[str, set]:
        outlines = masks.OUTLINES[family]
        textures = [item for kind in fabrics.FABRICS[family].values() for item in kind.items()]
        curves = [np.concatenate([o.rise(u), o.sag(u), o.sides(t)]).round(3) for o in outlines.values()]
        return {
            "fabrics": {name for name, _ in textures},
            "textures": {fabric(texture) for _, texture in textures},
            "outlines": set(outlines),
            "curves": {tuple(curve) for curve in curves},
            "folds": {fold for outline in outlines.values() for fold in outline.folds},
        }

    training, measuring = map(parts, masks.FAMILIES)
    for what in training:
        assert training[what].isdisjoint(measuring[what]), what


def test_a_mask_gets_another_fabric():
    """Only the mask changes; its folds stay."""
    bare = face()
    rng = np.random.default_rng(2)
    masked = compositing.describe(
        compositing.compose(bare, masks.worn(bare, rng, "training", "dark"), rng), bare.points
    )
    result = masks.recoloured(masked, rng, "measuring")
    assert result is not None
    change = np.abs(result / 255 - masked.pixels).max(axis=-1)
    x, y = bare.points[[13, 14, 4]].astype(int).T
    assert change[y, x].min() > 0.1
    x, y = bare.points[[10, 33, 263, 159]].astype(int).T
    assert change[y, x].max() < 0.01
    assert change[:, :8].max() < 0.01 and change[:20].max() < 0.01


def test_a_face_without_a_mask_has_none_to_recolour():
    assert masks.recoloured(face(), np.random.default_rng(0), "training") is None
