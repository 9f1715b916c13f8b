"""Masks drawn on a face: worn, under the nose, on the chin; and real masks in other fabrics.

Fabrics (fabrics.py) and outlines differ between the families "training" and "measuring".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
from scipy.spatial import ConvexHull

from pipeline.drawing import geometry
from pipeline.drawing.compositing import LUMA, Face, Layer
from pipeline.drawing.fabrics import FABRICS, Texture, noise, step
from pipeline.drawing.face_mesh import OUTLINE

FAMILIES = ("training", "measuring")
KINDS = ("surgical", "white", "dark", "patterned", "skin_coloured")
REGION = (slice(144, 400), slice(72, 312))  # of a canvas: all that a mask may cover; y -0.75…3.25, x -1.875…1.875
EDGE = 0.03  # width of an edge in face coordinates; about a pixel of a small face


class Outline(NamedTuple):
    """A mask's outline and folds; u is |x|, t runs from 0 at the upper to 1 at the lower edge."""

    rise: Callable[[np.ndarray], np.ndarray]  # of u: how the upper edge goes from `nose` (0) to `cheek` (1)
    sag: Callable[[np.ndarray], np.ndarray]  # of u: how the lower edge goes from `chin` (0) to `jaw` (1)
    sides: Callable[[np.ndarray], np.ndarray]  # of t: half the width, relative
    folds: tuple[str, ...]
    width: tuple[float, float]  # range of half the width
    flare: float = 0.06  # how far it sticks out of the face's outline


class Edges(NamedTuple):
    """Ranges of heights of a mask's edges, in face coordinates."""

    nose: tuple[float, float]  # upper edge in the middle
    cheek: tuple[float, float]  # upper edge at the sides, below `nose`
    chin: tuple[float, float]  # lower edge in the middle
    jaw: tuple[float, float]  # lower edge at the sides, above `chin`
    folds: tuple[str, ...] = ()


WORN = {"high": Edges((0.0, 0.18), (0.35, 0.5), (2.05, 2.25), (0.1, 0.35)),
        "middle": Edges((0.2, 0.35), (0.2, 0.45), (2.05, 2.25), (0.1, 0.4)),
        "low": Edges((0.38, 0.5), (0.1, 0.3), (2.1, 2.3), (0.1, 0.4))}  # fmt: skip
UNDER_NOSE = Edges((0.95, 1.02), (-0.12, 0.05), (2.1, 2.35), (0.1, 0.4))
ON_CHIN = Edges((1.53, 1.68), (-0.5, -0.2), (2.3, 2.6), (0.5, 0.8), ("bunched",))


def bump(width: float):
    return lambda u: 1 - np.exp(-((u / width) ** 2))


def power(exponent: float):
    return lambda u: (u / 1.25) ** exponent


OUTLINES: dict[str, dict[str, Outline]] = {
    "training": {
        "pleated": Outline(power(2), power(2.5), lambda t: 1 - 0.12 * t**2, ("pleats", "binding", "wire"), (1.15, 1.4)),
        "moulded": Outline(bump(0.5), power(3), lambda t: 1 - 0.1 * (2 * t - 1) ** 2, ("wrinkles",), (1.25, 1.5)),
        "horizontal_fold": Outline(
            bump(0.7),
            power(1.6),
            lambda t: 1 - 0.35 * np.abs(2 * t - 1) ** 1.5,
            ("panels", "wire", "stamp"),
            (1.25, 1.5),
        ),
    },
    "measuring": {
        "bowed": Outline(
            power(1.4), power(1.5), lambda t: 0.86 + 0.14 * (2 * t - 1) ** 2, ("open_pleats", "hem"), (1.15, 1.4), 0.1
        ),
        "beak": Outline(power(1), power(1.1), lambda t: 1 - 0.3 * (2 * t - 1) ** 2, ("seam", "hem"), (1.3, 1.55), 0.12),
        "pitta": Outline(
            lambda u: np.sin((u / 0.8).clip(0, 1.8) * np.pi / 2),
            power(2),
            lambda t: 1 - 0.2 * t,
            ("soft_seam",),
            (1.4, 1.6),
        ),
        "gathered": Outline(power(3), power(2.2), lambda t: 0.92 + 0 * t, ("gathers", "hem"), (1.2, 1.4), 0.08),
    },
}
BY_KIND = {
    "training": {
        "surgical": ("pleated",), "white": ("moulded", "horizontal_fold"), "dark": ("moulded", "pleated"),
        "patterned": ("moulded", "pleated"), "skin_coloured": ("moulded", "pleated", "horizontal_fold"),
    },
    "measuring": {
        "surgical": ("bowed",), "white": ("beak", "gathered"), "dark": ("pitta", "beak", "gathered"),
        "patterned": ("gathered", "bowed", "pitta"), "skin_coloured": ("pitta", "bowed", "gathered"),
    },
}  # fmt: skip


def worn(face: Face, rng: np.random.Generator, family: str, kind: str) -> list[Layer]:
    """A mask of one of KINDS that covers nose, mouth and chin."""
    return [draw(face, rng, family, kind, WORN[str(rng.choice(list(WORN)))])]


def under_nose(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """An incorrectly worn mask of any kind: it covers mouth and chin and leaves the nose free."""
    return [draw(face, rng, family, any_kind(rng), UNDER_NOSE)]


def on_chin(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """An incorrectly worn mask of any kind: it covers the chin and leaves nose and mouth free."""
    return [draw(face, rng, family, any_kind(rng), ON_CHIN)]


def any_kind(rng: np.random.Generator) -> str:
    return str(rng.choice(KINDS, p=(0.35, 0.2, 0.2, 0.2, 0.05)))


def any_texture(rng: np.random.Generator, family: str, kind: str) -> Texture:
    return FABRICS[family][kind][str(rng.choice(list(FABRICS[family][kind])))]


def draw(face: Face, rng: np.random.Generator, family: str, kind: str, edges: Edges) -> Layer:
    """One mask with its ear loops."""
    outline = OUTLINES[family][str(rng.choice(BY_KIND[family][kind]))]
    rise = outline.sag if edges is ON_CHIN else outline.rise  # pulled down, the upper edge follows the jaw
    nose, chin = rng.uniform(*edges.nose), rng.uniform(*edges.chin)
    cheek, jaw = rng.uniform(*edges.cheek), rng.uniform(*edges.jaw)
    nose = max(nose, 0.2 - cheek * float(rise(np.array(0.7))))  # never over an eye
    width = rng.uniform(*outline.width)
    x, y = region()
    tilt, shift = np.clip(rng.normal(0, 0.03, 2), -0.06, 0.06).astype(np.float32)
    x, y = x - shift, y - tilt * x
    u = np.abs(x)
    top = nose + cheek * rise(u)
    bottom = chin - jaw * outline.sag(u)
    t = ((y - top) / (bottom - top).clip(0.2)).clip(0, 1)
    half = width * outline.sides(t)
    alpha = (
        step(y - top, EDGE)
        * step(bottom - y, EDGE)
        * step(half - u, EDGE)
        * silhouette(outline.flare, edges is ON_CHIN)
    )

    colour = any_texture(rng, family, kind)(x, y, rng, face.skin / face.exposure)
    shading = 1 - 0.14 * (u / 1.4) ** 2 - 0.1 * (y - 1.5).clip(0) ** 2
    for fold in ("bulge", "creases", *outline.folds, *edges.folds):
        shading = shading * FOLDS[fold](x, y, t, half, rng)
    # Folds of a dark fabric show by its gloss.
    shading = 1 + (shading - 1) * (1 + 1.2 * (1 - colour.mean()))

    canvas = np.zeros((*geometry.CANVAS, 4), np.float32)
    corners = 0.9 * width * outline.sides(np.array([0.1, 0.9]))
    heights = nose + cheek * rise(corners[0]) + 0.07, chin - jaw * outline.sag(corners[1]) - 0.1
    loops(canvas, rng, geometry.turn(face.points), np.stack([corners, heights], axis=1), colour.mean(axis=(0, 1)))
    part = canvas[REGION]
    part[..., :3] += alpha[..., None] * ((colour * shading[..., None]).clip(0, 1) - part[..., :3])
    part[..., 3] = np.maximum(part[..., 3], alpha)
    return Layer(canvas, False, float(rng.uniform(0.15, 0.4)))


@lru_cache
def region() -> tuple[np.ndarray, np.ndarray]:
    x, y = geometry.grid()
    return x[REGION].astype(np.float32), y[REGION].astype(np.float32)


@lru_cache
def silhouette(flare: float, below: bool) -> np.ndarray:
    """1 where a mask may lie: inside the face's outline and `flare` around it; `below`: also under the chin."""
    image = Image.new("L", geometry.CANVAS[::-1])
    polygon = geometry.CANONICAL[list(OUTLINE)] * [1 + flare / 1.4, 1]
    polygon[:, 1] += flare * (polygon[:, 1] > 1.5)
    if below:
        polygon[:, 1] += 0.6 * ((polygon[:, 1] - 1.0) / 1.05).clip(0)
    ImageDraw.Draw(image).polygon([tuple(p) for p in geometry.to_canvas(polygon).tolist()], fill=255)
    return ndimage.gaussian_filter(np.asarray(image, np.float32)[REGION] / 255, 1)


def loops(canvas, rng, turn: float, corners: np.ndarray, colour: np.ndarray) -> None:
    """Draw the ear loops on the sides that are seen, from the mask's corners (2, 2), upper and lower, to the ears."""
    top, bottom, ear = rng.uniform(0.02, 0.2), rng.uniform(0.4, 0.7), rng.uniform(1.5, 1.62)
    upper, lower, over, under = *corners, np.array([ear, top]), np.array([ear, bottom])
    points = [upper, (upper + over) / 2 - [0, 0.03], over, under, (lower + under) / 2 + [0.08, 0.05], lower]
    image = Image.new("L", (2 * geometry.CANVAS[1], 2 * geometry.CANVAS[0]))
    pen = ImageDraw.Draw(image)
    thick = int(rng.integers(3, 6))
    for side in (-1, 1):
        if side * turn < 0.25:
            line = 2 * geometry.to_canvas(curve(np.array(points)) * [side, 1])
            pen.line([tuple(p) for p in line.tolist()], fill=255, width=thick)
    light = rng.uniform(0.75, 0.92) if rng.random() < 0.5 else float(colour.mean())
    canvas[..., :3] = colour * 0.2 + light * 0.8
    canvas[..., 3] = np.asarray(image.reduce(2), np.float32) * (rng.uniform(0.6, 0.95) / 255)
    if rng.random() < 0.4:  # hidden by hair: only the part on the cheek is seen
        canvas[REGION][..., 3] *= silhouette(0.0, False)


def curve(points: np.ndarray) -> np.ndarray:
    """A smooth line (m, 2) through points (n, 2)."""
    knots = np.concatenate([[0], np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()])
    return PchipInterpolator(knots, points)(np.linspace(0, knots[-1], 24))


# Folds: brightness (h, w) around 1, of x, y, t, half the width.


def pleats(x, y, t, half, rng):
    return steps(t, rng, int(rng.integers(2, 4)), rng.uniform(0.06, 0.15))


def open_pleats(x, y, t, half, rng):
    """Pleats drawn apart in the middle of the mask."""
    apart = 0.06 * np.cos(1.2 * x) * np.sin(2 * np.pi * t)
    return steps(t - apart, rng, int(rng.integers(3, 5)), rng.uniform(0.06, 0.15))


def steps(t, rng, count, depth):
    """Horizontal folds: a dark line, then lighter downwards."""
    at = t * (count + 1) + rng.uniform(-0.15, 0.15)
    phase = at - np.floor(at)
    strength = depth * rng.uniform(0.5, 1, count + 3)[np.floor(at).astype(int) + 1].astype(np.float32)
    line = np.exp(-(((phase - 0.06) / 0.07) ** 2))
    return 1 + ((t > 0.1) & (t < 0.92)) * strength * (0.5 * (phase - 0.5) - line)


def bunched(x, y, t, half, rng):
    """Fabric pushed together: several folds along the edge."""
    wave = np.sin(2 * np.pi * (t * rng.uniform(1.5, 3) + 0.12 * noise(rng, x.shape, (7, 5)) + rng.uniform()))
    return 1 + rng.uniform(0.05, 0.14) * wave


def creases(x, y, t, half, rng):
    """A few soft folds at any angle."""
    result = np.ones_like(x)
    for _ in range(int(rng.integers(1, 5))):
        angle, at = rng.uniform(0, np.pi), rng.uniform(-0.7, 0.7)
        across = (x - at) * np.sin(angle) + (y - rng.uniform(0.5, 1.9)) * np.cos(angle)
        along = (x - at) * np.cos(angle) - (y - 1.2) * np.sin(angle)
        width = rng.uniform(0.03, 0.1)
        depth = rng.uniform(0.02, 0.08)
        result -= depth * across / width * np.exp(0.5 - (across / width) ** 2 - (along / rng.uniform(0.2, 0.6)) ** 2)
    return result


def binding(x, y, t, half, rng):
    return 1 - 0.12 * np.exp(-(((t - 0.06) / 0.015) ** 2)) - 0.12 * np.exp(-(((t - 0.94) / 0.015) ** 2))


def hem(x, y, t, half, rng):
    edge = np.minimum(np.minimum(t, 1 - t) * 1.8, half - np.abs(x))
    return 1 + 0.05 * (edge < 0.1) - 0.1 * np.exp(-(((edge - 0.1) / 0.025) ** 2))


def wire(x, y, t, half, rng):
    return (
        1
        + 0.1 * np.exp(-(((t - 0.045) / 0.025) ** 2)) * (np.abs(x) < 0.5)
        - 0.12 * np.exp(-(((t - 0.085) / 0.02) ** 2)) * (np.abs(x) < 0.5)
    )


def bulge(x, y, t, half, rng):
    """The nose beneath: light from a side."""
    side, ridge, height = rng.uniform(-0.1, 0.1), rng.uniform(0, 0.12), np.exp(-((y - 0.8) ** 2))
    return 1 + side * np.tanh(3 * x) * height + ridge * (np.exp(-((x / 0.3) ** 2)) - 0.5) * height


def wrinkles(x, y, t, half, rng):
    field = noise(rng, x.shape, (int(rng.integers(6, 10)), int(rng.integers(5, 8))))
    return 1 + rng.uniform(0.03, 0.07) * (1 - 2 * np.abs(field).clip(0, 1.2))


def panels(x, y, t, half, rng):
    """An upper, a middle and a lower panel."""
    first, second = rng.uniform(0.28, 0.36), rng.uniform(0.64, 0.74)
    return 1 + 0.05 * ((t > first) & (t < second)) - 0.08 * (t > second) - 0.18 * (
        np.exp(-(((t - first) / 0.015) ** 2)) + np.exp(-(((t - second) / 0.015) ** 2)))  # fmt: skip


def stamp(x, y, t, half, rng):
    """Small grey print."""
    left, base = rng.uniform(0.25, 0.6) * int(rng.choice([-1, 1])), rng.uniform(1.0, 1.3)
    rows = np.sin((y - base) * 2 * np.pi / 0.09) > 0.2
    return 1 - 0.3 * rows * (np.abs(x - left) < 0.2) * (np.abs(y - base - 0.1) < 0.12) * (np.sin(x * 90) > -0.4)


def seam(x, y, t, half, rng):
    """A fold down the middle; one half is darker."""
    side = rng.uniform(-0.12, 0.12)
    return 1 + side * np.tanh(x * 8) - 0.15 * np.exp(-((x / 0.02) ** 2)) + 0.06 * np.exp(-(((x - 0.05) / 0.04) ** 2))


def soft_seam(x, y, t, half, rng):
    side = rng.uniform(-0.1, 0.1)
    return 1 + side * np.tanh(x * 4) - 0.2 * np.exp(-((x / 0.018) ** 2)) + 0.05 * noise(rng, x.shape, (6, 5))


def gathers(x, y, t, half, rng):
    """Folds that start at the loops and fade towards the middle."""
    strength = ((np.abs(x) / half).clip(0, 1)) ** 2
    wave = np.sin((t * rng.uniform(4, 6) + 0.25 * noise(rng, x.shape, (6, 5))) * 2 * np.pi)
    return 1 + rng.uniform(0.08, 0.16) * strength * wave + 0.03 * noise(rng, x.shape, (8, 7))


FOLDS: dict[str, Callable] = {
    fold.__name__: fold
    for fold in (bulge, creases, bunched, pleats, open_pleats, binding, hem, wire, wrinkles, panels, stamp, seam,
                 soft_seam, gathers)
}  # fmt: skip


def recoloured(face: Face, rng: np.random.Generator, family: str) -> np.ndarray | None:
    """The image (s, s, 3) uint8 of a masked face with its mask in another fabric; None if the mask is not located."""
    mask = located(face)
    if mask is None:
        return None
    core = ndimage.binary_erosion(mask, iterations=2)
    bare = ~ndimage.binary_dilation(mask, iterations=3)
    if not core.any():
        return None
    fabric, skin = nearby(face.pixels, core), nearby(face.pixels, bare)
    difference = fabric - skin
    weak = np.linalg.norm(difference, axis=-1)[~core & ~bare] < 0.14
    if weak.mean() > 0.2:  # the same colour goes on outside: hair, clothes, or more of the mask
        return None
    # Pixels at the edge show some of both.
    alpha = ((face.pixels - skin) * difference).sum(axis=-1) / ((difference**2).sum(axis=-1) + 0.01)
    alpha = np.where(core, 1, np.where(bare, 0, alpha.clip(0, 1)))
    alpha = np.maximum(alpha, ndimage.binary_erosion(mask))[..., None]

    old = np.median(face.pixels[core], axis=0)
    x, y = region()
    for _ in range(5):
        colour = any_texture(rng, family, any_kind(rng))(x, y, rng, face.skin / face.exposure)
        if np.abs(colour.mean(axis=(0, 1)) * face.exposure - old).max() > 0.15:
            break
    canvas = np.zeros((*geometry.CANVAS, 4), np.float32)
    canvas[..., :3] = colour.mean(axis=(0, 1))
    canvas[..., 3] = 1
    canvas[REGION][..., :3] = colour
    new = geometry.warp(canvas, face.points, len(face.pixels))[..., :3] * face.exposure
    new = ndimage.gaussian_filter(new, (face.blur, face.blur, 0))
    if float(np.ptp(face.pixels, axis=-1).mean()) < 0.02:
        new = np.repeat((new @ LUMA)[..., None], 3, axis=-1)
    # The old mask's folds, relative to its brightness. The floor: a black mask's noise would be a white one's stains.
    base = float(np.median(face.pixels[core] @ LUMA))
    luminance = np.where(core, face.pixels @ LUMA, fabric @ LUMA)
    shading = 1 + (luminance - base) / max(base, 0.4)
    new = new * shading[..., None].clip(0.3, 1.4)
    result = np.where(alpha > 0, alpha * new + (1 - alpha) * skin, face.pixels)
    return (result.clip(0, 1) * 255).round().astype(np.uint8)


def nearby(pixels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Colours (s, s, 3) of the nearest pixels of the area `where` (s, s), averaged."""
    weight = where.astype(np.float32)
    total = ndimage.gaussian_filter(weight, 1.5)[..., None] + 1e-6
    mean = ndimage.gaussian_filter(pixels * weight[..., None], (1.5, 1.5, 0)) / total
    _, at = ndimage.distance_transform_edt(total[..., 0] < 0.05, return_indices=True)
    return mean[at[0], at[1]]


def located(face: Face) -> np.ndarray | None:
    """Where a real mask lies: (s, s) bool; None if nothing mask-like stands out from the skin.

    Colour models of the fabric (first from around the mouth) and of skin and background, fitted twice, as GrabCut does
    (Rother et al., SIGGRAPH 2004), with the height in the face as prior instead of cuts.
    """
    side = len(face.pixels)
    centres = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) + 0.5
    x, y = geometry.face_coordinates(face.points, centres).T.reshape(2, side, side)
    u = np.abs(x)
    outline = face.points[list(OUTLINE)]
    near, far = (geometry.polygon(outline.mean(axis=0) * (1 - by) + outline * by, side) > 0.5 for by in (1.25, 1.6))
    inside = face.area > 0.5
    eyes = 0.3 * ((u / 0.5).clip(0, 1) - ((u - 1) / 0.3).clip(0, 1))
    allowed = near & (y > eyes - 0.05) & (y < 2.4)
    mask = (u < 0.5) & (y > 0.8) & (y < 1.7) & near
    skin = (u < 0.8) & (y > -0.8) & (y < eyes - 0.1) & inside
    seed, lower = mask, inside & (y > 0.9)
    outside = ~inside & far & (y < 2.8)
    features = face.pixels @ OPPONENT
    candidates = features[allowed]
    thick = max(1, round(0.025 * float(np.linalg.norm(face.points[454] - face.points[234]))))
    prior = (3 * (y - 0.55)).clip(-3, 2) - 6 * ((u - 1.25) / 0.3).clip(0, 1) - 5 * ((y - 2.0) / 0.3).clip(0, 1)
    for _ in range(2):
        if mask.sum() < 40 or skin.sum() < 20:
            return None
        shaded = np.concatenate([features[skin] * light for light in (1, 0.75, 0.55)])  # as below the chin
        if mask is seed:  # those least like skin, since a mask may end above where the chin seems to be
            likeness = density(features[seed], shaded, 6)
            sample = features[seed][likeness <= np.quantile(likeness, 0.7)]
        else:
            sample = features[mask]
        other = density(candidates, features[outside & ~mask], 4) - 8 * inside[allowed]
        against = np.maximum(density(candidates, shaded, 6), other)
        evidence = np.full((side, side), -5.0)
        evidence[allowed] = (density(candidates, sample, 3) - against + prior[allowed]).clip(-5, 5)
        like = ndimage.gaussian_filter(evidence, 0.6) > 0
        labels, count = ndimage.label(ndimage.binary_opening(like, iterations=thick))
        if not count:
            return None
        mask = labels == np.bincount(labels[labels > 0]).argmax()
        mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask)) & allowed
        skin = inside & (y > -0.8) & (y < 1.0) & ~ndimage.binary_dilation(mask)
    mask = ndimage.gaussian_filter(mask.astype(np.float32), thick) > 0.5
    if mask.sum() < 60 or skin.sum() < 20 or not (mask & seed).any():
        return None
    bottom = mask & (y > min(1.7, float(np.quantile(y[mask], 0.8))))  # chin or neck rather than mask?
    tones = np.median(features[skin], axis=0) * np.array([[1], [0.75], [0.55], [0.4]])
    upper, low = np.median(features[mask & seed], axis=0), np.median(features[bottom], axis=0)
    if np.linalg.norm(low - tones, axis=1).min() < np.linalg.norm(low - upper):
        return None
    contrast = np.linalg.norm(np.median(features[mask], axis=0) - np.median(features[skin], axis=0))
    ceiling = allowed & (u < 0.9) & (y < eyes + 0.05)
    neck = allowed & (u < 0.6) & (y > 2.15)
    covered = mask[seed & (y < 1.4)].mean() > 0.9 and mask[lower].mean() > 0.45
    leaked = any(area.any() and mask[area].mean() > 0.6 for area in (ceiling, neck))
    # A mask is nearly convex; with hair or neck it is not.
    solid = mask.sum() / ConvexHull(np.argwhere(mask ^ ndimage.binary_erosion(mask))).volume
    return mask if covered and not leaked and contrast > 0.1 and solid > 0.94 else None


# Lightness with less weight than the two colour differences, since shadows change it.
OPPONENT = (np.stack([0.6 * LUMA, [1.2, -1.2, 0], [-0.6, -0.6, 1.2]], axis=1)).astype(np.float32)


def density(colours: np.ndarray, sample: np.ndarray, count: int) -> np.ndarray:
    """Log density (n,) of colours (n, 3): the nearest of `count` normal distributions fitted to a sample (m, 3)."""
    best = np.full(len(colours), -30.0)
    sample = sample[:: max(1, len(sample) // 500)]
    if len(sample) < count:
        return best
    ordered = sample[np.argsort(sample[:, 0], kind="stable")]
    means = ordered[((np.arange(count) + 0.5) / count * len(ordered)).astype(int)]
    for _ in range(4):  # k-means
        member = ((sample[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
        means = np.stack([sample[member == k].mean(axis=0) if (member == k).any() else means[k] for k in range(count)])
    for index in range(count):
        group = sample[member == index]
        if len(group) < 3:
            continue
        variance = group.var(axis=0) + 0.025**2
        value = -0.5 * (((colours - means[index]) ** 2 / variance).sum(axis=-1) + np.log(variance).sum())
        best = np.maximum(best, value + np.log(len(group) / len(sample)))
    return best
