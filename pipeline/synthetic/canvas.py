"""The canvas on which people are drawn, the palette, and the curves of outlines.

Everything is drawn in head coordinates: the origin is just below the eyes, one unit is half the face's width,
x grows to the right of the image and y downwards (eyes -0.12, nose tip 0.35, mouth 0.68, chin 1.28, crown -1.4).
Points are on an ellipsoid, so that a turn of the head moves the nose further than the cheeks.
Flat colours go on a canvas of twice the image's size; `light.shade` shades them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Rng = np.random.Generator

# Materials, which determine the shading. From SHIRT on they belong to the body, before it to the head.
EMPTY, SKIN, HAIR, MASK, HAT, PLAIN, HAND, SHIRT, SCARF = range(9)
PATTERNS = ("stripes", "dots", "checks")
NEUTRAL = 128  # a tint of this value changes nothing

SKINS: tuple[Colour, ...] = (
    (244, 210, 186), (238, 198, 168), (228, 184, 150), (212, 162, 124),
    (190, 138, 98), (158, 108, 74), (122, 80, 56), (88, 58, 42),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (28, 24, 24), (44, 32, 28), (66, 44, 32), (96, 62, 40), (128, 70, 40),
    (176, 132, 78), (214, 178, 116), (150, 148, 146), (214, 212, 208), (34, 26, 24), (54, 38, 30), (90, 60, 40),
)  # fmt: skip
DYED: Colour = (120, 50, 90)
IRISES: tuple[Colour, ...] = ((70, 44, 28), (92, 60, 34), (60, 40, 30), (86, 112, 72), (84, 124, 160), (110, 120, 124))
CLOTHS: tuple[Colour, ...] = (
    (236, 236, 234), (40, 40, 44), (34, 48, 84), (120, 162, 206), (168, 44, 48), (60, 110, 84), (214, 170, 70),
    (120, 84, 140), (226, 150, 160), (128, 128, 130), (150, 110, 80), (90, 150, 160), (222, 200, 172), (196, 104, 60),
)  # fmt: skip
SURGICAL: tuple[Colour, ...] = (
    (158, 196, 226), (158, 196, 226), (160, 208, 196), (236, 238, 240), (238, 194, 206), (38, 38, 42), (196, 184, 222),
)  # fmt: skip
RESPIRATOR: tuple[Colour, ...] = ((238, 238, 236), (238, 238, 236), (44, 44, 48), (176, 180, 184), (206, 216, 222))


@dataclass(frozen=True)
class Pose:
    """The position of a head in canvas pixels and its rotation in radians."""

    x: float
    y: float
    scale: float  # canvas pixels per unit
    roll: float
    yaw: float
    pitch: float

    def project(self, points: ArrayLike, lift: float = 0.0, depth: float | None = None) -> np.ndarray:
        """Convert (n, 2) head coordinates to (n, 2) canvas pixels, `lift` above the ellipsoid or at a given `depth`."""
        x, y = np.asarray(points, float).T
        z = depth if depth is not None else np.sqrt(np.maximum(1 - x * x - (y / 1.4) ** 2, 0)) + lift
        turned = x * np.cos(self.yaw) + z * np.sin(self.yaw)
        tilted = y * np.cos(self.pitch) + z * np.sin(self.pitch)
        c, s = np.cos(self.roll) * self.scale, np.sin(self.roll) * self.scale
        return np.stack([self.x + c * turned - s * tilted, self.y + s * turned + c * tilted], axis=1)


@dataclass(frozen=True)
class Pattern:
    """A printed, woven or knitted pattern of one material."""

    kind: str  # one of PATTERNS
    colour: Colour
    frequency: float  # periods per unit
    angle: float


@dataclass
class Canvas:
    """What is drawn so far, at twice the image's size: colours, materials, and soft tints at half its size."""

    colours: Image.Image  # RGB; starts as the background
    pose: Pose
    materials: Image.Image = field(init=False)  # L, one of the numbers above
    tints: Image.Image = field(init=False)  # RGB at a quarter of the canvas, blurred later; factors on the skin
    folds: Image.Image = field(init=False)  # L, the same for masks and scarves
    patterns: dict[int, Pattern] = field(default_factory=dict)

    def __post_init__(self) -> None:
        side = self.colours.width
        self.materials = Image.new("L", (side, side), EMPTY)
        self.tints = Image.new("RGB", (side // 4, side // 4), (NEUTRAL, NEUTRAL, NEUTRAL))
        self.folds = Image.new("L", (side // 4, side // 4), NEUTRAL)
        self._colour, self._material = ImageDraw.Draw(self.colours), ImageDraw.Draw(self.materials)
        self._tint, self._fold = ImageDraw.Draw(self.tints), ImageDraw.Draw(self.folds)

    def fill(self, points: ArrayLike, colour: Colour, material: int, lift: float = 0.0,
             depth: float | None = None, pose: Pose | None = None, shadow: bool = False) -> None:  # fmt: skip
        """Fill a polygon; with `shadow` it darkens the skin around it, like an object on the skin."""
        at = (pose or self.pose).project(points, lift, depth)
        flat = at.ravel().tolist()
        self._colour.polygon(flat, fill=colour)
        self._material.polygon(flat, fill=material)
        if shadow:
            self._tint.polygon((at / 4 + (0, 0.02 * self.pose.scale)).ravel().tolist(), fill=(84, 76, 74))

    def line(self, points: ArrayLike, colour: Colour, width: float, material: int | None = None, lift: float = 0.0,
             depth: float | None = None, pose: Pose | None = None) -> None:  # fmt: skip
        """Draw a line `width` units thick; without a material it keeps that of what it covers."""
        flat = (pose or self.pose).project(points, lift, depth).ravel().tolist()
        pixels = max(1, round(width * self.pose.scale))
        self._colour.line(flat, fill=colour, width=pixels, joint="curve" if pixels > 4 else None)
        if material is not None:
            self._material.line(flat, fill=material, width=pixels)

    def tint(self, points: ArrayLike, colour: Colour, lift: float = 0.0) -> None:
        """Multiply the skin inside a polygon by colour / NEUTRAL, softly."""
        self._tint.polygon((self.pose.project(points, lift) / 4).ravel().tolist(), fill=colour)

    def fold(self, points: ArrayLike, grey: int, width: float, lift: float = 0.0, pose: Pose | None = None) -> None:
        """Multiply fabric along a line by grey / NEUTRAL, softly."""
        flat = ((pose or self.pose).project(points, lift) / 4).ravel().tolist()
        self._fold.line(flat, fill=grey, width=max(1, round(width * self.pose.scale / 4)))


@dataclass(frozen=True)
class Person:
    """The attributes that the parts of a head have in common."""

    skin: Colour
    hair: Colour
    style: str  # of the hair
    width: float  # of the jaw, about 1
    shadow_side: int  # -1 or 1: the side of the nose that is away from the light


def pick(rng: Rng, options: Sequence):
    """Choose one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or lighter."""
    r, g, b = (min(255, max(0, round(part * factor))) for part in colour)
    return r, g, b


def mixed(one: Colour, other: Colour, weight: float) -> Colour:
    """Mix two colours; `weight` (0…1) is that of `other`."""
    r, g, b = (round(a + (b - a) * weight) for a, b in zip(one, other, strict=True))
    return r, g, b


def jittered(rng: Rng, colour: Colour, spread: float = 14) -> Colour:
    """A colour near the given one."""
    r, g, b = np.clip(np.asarray(colour) + rng.normal(0, spread * 0.6) + rng.normal(0, spread * 0.5, 3), 0, 255)
    return int(r), int(g), int(b)


def smooth(points: ArrayLike, closed: bool = True, steps: int = 5) -> np.ndarray:
    """A Catmull-Rom curve through (n, 2) points, with `steps` points for each."""
    p = np.asarray(points, float)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.arange(steps)[:, None, None] / steps
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    spline = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    spline = spline.transpose(1, 0, 2).reshape(-1, 2)
    return spline if closed else np.concatenate([spline, p[-1:]])


def curve(points: ArrayLike) -> np.ndarray:
    """A smooth open curve through the points."""
    return smooth(points, closed=False)


def both_sides(half: ArrayLike) -> np.ndarray:
    """Complete the right half of an outline, top to bottom, by its mirror image."""
    half = np.asarray(half, float)
    other = half[::-1] * (-1, 1)
    return np.concatenate([half, other[other[:, 0] < 0]])  # points on the axis only once, or a smooth curve kinks there


def mirrored(points: ArrayLike, side: int) -> np.ndarray:
    """Mirror points of the image's right side to the left side if `side` is -1."""
    return np.asarray(points, float) * (side, 1)


def moved(points: ArrayLike, dx: float, dy: float) -> np.ndarray:
    return np.asarray(points, float) + np.array((dx, dy))


CIRCLE = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """(20, 2) points."""
    return CIRCLE * (rx, ry) + (x, y)
