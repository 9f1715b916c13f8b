"""Illustrated heads: skin, features, hair, hats, glasses, masks and what may be mistaken for one.

Everything is drawn in head coordinates: the origin lies just below the eyes, one unit is half the face's width,
x grows to the right of the picture and y downwards (eyes -0.12, nose tip 0.35, mouth 0.68, chin 1.28, crown -1.4).
Points lie on an ellipsoid, so that a turn of the head moves the nose further than the cheeks.
Flat colours go on a canvas of twice the picture's size; `pipeline.data.synthetic` shades them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Rng = np.random.Generator

# Materials, by which the picture is shaded later. From SHIRT on they belong to the body and not to the head.
EMPTY, SKIN, HAIR, MASK, HAT, PLAIN, HAND, SHIRT, SCARF = range(9)
PATTERNS = ("stripes", "dots", "checks")
NEUTRAL = 128  # the value of a tint that changes nothing

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
    """Where a head is and how it is turned: canvas pixels and radians."""

    x: float
    y: float
    scale: float  # canvas pixels per unit
    roll: float
    yaw: float
    pitch: float

    def project(self, points: ArrayLike, lift: float = 0.0, depth: float | None = None) -> np.ndarray:
        """(n, 2) head coordinates to (n, 2) canvas pixels; `lift` above the ellipsoid or at a `depth` of its own."""
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
    """What is drawn so far, at twice the picture's size: colours, materials, and soft tints at half its size."""

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
        """Fill a polygon; with `shadow` it darkens the skin around it, as what lies on the skin does."""
        at = (pose or self.pose).project(points, lift, depth)
        flat = at.ravel().tolist()
        self._colour.polygon(flat, fill=colour)
        self._material.polygon(flat, fill=material)
        if shadow:
            self._tint.polygon((at / 4 + (0, 0.02 * self.pose.scale)).ravel().tolist(), fill=(84, 76, 74))

    def line(self, points: ArrayLike, colour: Colour, width: float, material: int | None = None, lift: float = 0.0,
             depth: float | None = None, pose: Pose | None = None) -> None:  # fmt: skip
        """Draw a line `width` units thick; without a material it is drawn into what is there."""
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
    """What the parts of a head share."""

    skin: Colour
    hair: Colour
    style: str  # of the hair
    width: float  # of the jaw, about 1
    shadow_side: int  # -1 or 1: the side of the nose that is away from the light


def pick(rng: Rng, options: Sequence):
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or lighter."""
    r, g, b = (min(255, max(0, round(part * factor))) for part in colour)
    return r, g, b


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in the one."""
    r, g, b = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
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
    """The right half of an outline, top to bottom, to the whole of it."""
    half = np.asarray(half, float)
    other = half[::-1] * (-1, 1)
    return np.concatenate([half, other[other[:, 0] < 0]])  # points on the axis only once, or a smooth curve kinks there


def mirrored(points: ArrayLike, side: int) -> np.ndarray:
    """Points given for the right side of the picture, on the left one where side is -1."""
    return np.asarray(points, float) * (side, 1)


def moved(points: ArrayLike, dx: float, dy: float) -> np.ndarray:
    return np.asarray(points, float) + np.array((dx, dy))


CIRCLE = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """(20, 2) points."""
    return CIRCLE * (rx, ry) + (x, y)


def draw_ear(canvas: Canvas, person: Person, side: int) -> None:
    outline = [(0.9, -0.28), (1.06, -0.3), (1.13, -0.12), (1.09, 0.12), (1.0, 0.3), (0.92, 0.28)]
    canvas.fill(smooth(mirrored(outline, side)), shaded(person.skin, 0.92), SKIN, depth=-0.12)
    inner = [(0.98, -0.18), (1.05, -0.18), (1.07, -0.05), (1.02, 0.08), (0.99, 0.17)]
    canvas.line(curve(mirrored(inner, side)), shaded(person.skin, 0.7), 0.035, depth=-0.12)


def draw_face(canvas: Canvas, person: Person, bare_ears: bool) -> None:
    """Head without features: the far ear lies behind the cheek, the near one before it."""
    far = 1 if canvas.pose.yaw > 0 else -1
    j = person.width
    if bare_ears:
        draw_ear(canvas, person, far)
    half = [(0, -1.4), (0.55, -1.27), (0.9, -0.82), (1.0, -0.25), (0.97, 0.25), (0.87 * j, 0.7), (0.62 * j, 1.04),
            (0.27 * j, 1.24), (0, 1.28)]  # fmt: skip
    canvas.fill(smooth(both_sides(half)), person.skin, SKIN)
    if bare_ears:
        draw_ear(canvas, person, -far)
    for side in (-1, 1):  # hollow temples and cheeks, and the blood in the cheeks
        canvas.tint(mirrored([(0.8, -0.8), (1.05, -0.5), (1.05, 0.5), (0.85, -0.2)], side), (112, 106, 104))
        canvas.tint(mirrored([(0.5, 1.2), (1.0, 0.5), (0.85, 0.3), (0.62, 0.72)], side), (114, 107, 104))
        canvas.tint(ellipse(side * 0.58, 0.3, 0.2, 0.16), (138, 121, 119))
    canvas.tint(ellipse(-0.15 * person.shadow_side, -0.72, 0.4, 0.17), (138, 137, 136))
    canvas.tint(ellipse(0, 1.12, 0.2, 0.1), (136, 134, 132))


def draw_eyes(canvas: Canvas, rng: Rng, person: Person) -> None:
    white, iris = (
        jittered(rng, (238, 234, 230), 6),
        jittered(rng, pick(rng, IRISES if sum(person.skin) > 520 else IRISES[:3]), 8),
    )
    height, cant = rng.uniform(0.055, 0.12), rng.uniform(-0.03, 0.05)
    gaze, size, lash = rng.uniform(-0.06, 0.06), rng.uniform(0.17, 0.21), mixed(person.hair, (20, 14, 12), 0.7)
    t = np.linspace(-1, 1, 13)
    for side in (-1, 1):
        cx, cy = side * 0.42, -0.12
        x = cx + size * t
        upper = cy - height * np.sqrt(1.0001 - t * t) - cant * t * side
        lower = cy + 0.7 * height * (1 - t * t) - cant * t * side
        canvas.tint(ellipse(cx - side * 0.02, cy - 0.1, 0.28, 0.2), (106, 97, 94))
        canvas.tint(ellipse(cx, cy + 0.16, 0.2, 0.05), (116, 109, 109))
        canvas.fill(np.stack([np.r_[x, x[::-1]], np.r_[upper, lower[::-1]]], axis=1), white, PLAIN)
        for radius, colour in ((0.1, shaded(iris, 0.6)), (0.085, iris), (0.043, (14, 10, 10))):
            disc = ellipse(cx + gaze, cy - 0.02, radius, radius)
            disc[:, 1] = np.clip(disc[:, 1], np.interp(disc[:, 0], x, upper), np.interp(disc[:, 0], x, lower))
            canvas.fill(disc, colour, PLAIN)
        if height > 0.065:
            canvas.fill(ellipse(cx + gaze - 0.035 * person.shadow_side, cy - 0.05, 0.02, 0.02), (252, 252, 252), PLAIN)
        top = np.stack([x, upper], axis=1)
        canvas.line(top, lash, 0.04, PLAIN)
        canvas.line([top[-1 if side > 0 else 0], (cx + side * (size + 0.06), cy - cant - 0.03)], lash, 0.03)
        canvas.line(top - (0, 0.06), shaded(person.skin, 0.7), 0.018)
        canvas.line(np.stack([x[1:-1], lower[1:-1]], axis=1), shaded(person.skin, 0.62), 0.018)


def draw_brows(canvas: Canvas, rng: Rng, person: Person) -> None:
    lift, arch, thick = rng.uniform(-0.05, 0.06), rng.uniform(0.0, 0.09), rng.uniform(0.035, 0.085)
    slant, colour = rng.normal(0, 0.03), mixed(person.hair, (40, 28, 22), 0.35)
    t = np.linspace(0, 1, 9)
    for side in (-1, 1):
        x = side * (0.17 + 0.55 * t)
        middle = -0.36 - lift - arch * np.sin(np.pi * t**1.3) + (slant + 0.05) * t
        half = thick * (1 - t) ** 0.5 * (0.75 + 0.25 * t) + 0.008
        canvas.fill(np.stack([np.r_[x, x[::-1]], np.r_[middle - half, (middle + half * 0.7)[::-1]]], 1), colour, PLAIN)


def draw_nose(canvas: Canvas, rng: Rng, person: Person) -> None:
    w, side, tip = rng.uniform(0.85, 1.3), person.shadow_side, rng.uniform(-0.04, 0.05)
    dark = shaded(person.skin, 0.45)
    canvas.tint(np.array([(0.05, -0.4), (0.15, -0.15), (0.2 * w, 0.36), (0.06, 0.36)]) * (side, 1), (98, 90, 87), 0.1)
    canvas.tint(ellipse(0, 0.5 + tip, 0.19 * w, 0.05), (88, 80, 78), 0.05)
    canvas.tint(ellipse(-0.03 * side, 0.29 + tip, 0.085 * w, 0.1), (154, 151, 149), 0.2)
    canvas.tint(ellipse(-0.03 * side, -0.05, 0.05, 0.2), (144, 142, 140), 0.12)
    for s in (-1, 1):
        canvas.fill(ellipse(s * 0.09 * w, 0.43 + tip, 0.05 * w, 0.028), dark, SKIN, lift=0.12)
        wing = [(0.16 * w, 0.27 + tip), (0.215 * w, 0.36 + tip), (0.18 * w, 0.44 + tip), (0.12 * w, 0.44 + tip)]
        canvas.line(curve(mirrored(wing, s)), shaded(person.skin, 0.62), 0.025, lift=0.1)
    bridge = [(0.1, -0.3), (0.08, -0.05), (0.12 * w, 0.15), (0.16 * w, 0.27 + tip)]
    canvas.line(curve(mirrored(bridge, side)), shaded(person.skin, 0.78), 0.02, lift=0.1)


def draw_mouth(canvas: Canvas, rng: Rng, person: Person) -> None:
    width, smile = rng.uniform(0.24, 0.37), rng.uniform(-0.03, 0.1)
    opening = max(0.0, rng.uniform(-0.12, 0.13))
    lip = mixed(
        person.skin, pick(rng, ((190, 84, 84), (170, 70, 76), (150, 60, 60), (196, 30, 60))), rng.uniform(0.3, 0.65)
    )
    t = np.linspace(-1, 1, 17)
    x, bow = width * t, np.sqrt(1.0001 - t * t)
    line = 0.68 + smile * (0.4 - t * t)
    top = (
        line - rng.uniform(0.06, 0.1) * (1 - np.abs(t) ** 1.5) + 0.03 * np.exp(-((t / 0.2) ** 2)) - 0.4 * opening * bow
    )
    inner_top, inner_bottom = line - 0.25 * opening * bow, line + 0.75 * opening * bow
    bottom = inner_bottom + rng.uniform(0.08, 0.13) * bow

    def between(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.stack([np.r_[x, x[::-1]], np.r_[above, below[::-1]]], axis=1)

    canvas.tint(ellipse(0, float(bottom[8]) + 0.06, 0.2, 0.045), (98, 91, 89))
    canvas.fill(between(top, inner_top), shaded(lip, 0.86), SKIN, lift=0.05)
    canvas.fill(between(inner_bottom, bottom), lip, SKIN, lift=0.05)
    if opening > 0.02:
        canvas.fill(between(inner_top, inner_bottom), (70, 26, 28), PLAIN, lift=0.05)
        canvas.fill(between(inner_top, np.minimum(inner_top + 0.075, inner_bottom)), (240, 236, 226), PLAIN, lift=0.05)
    else:
        canvas.line(np.stack([x, line], axis=1), shaded(lip, 0.5), 0.022, lift=0.05)
    gloss = (inner_bottom + bottom)[5:12] / 2 - 0.01
    canvas.line(np.stack([x[5:12], gloss], axis=1), mixed(lip, (255, 236, 230), 0.35), 0.022, lift=0.05)
    for side in (-1, 1):  # from the nose to the corners of the mouth
        crease = [(0.25, 0.4), (0.37, 0.52), (width + 0.08, 0.7)]
        canvas.line(curve(mirrored(crease, side)), shaded(person.skin, rng.uniform(0.76, 0.98)), 0.02)


def draw_beard(canvas: Canvas, rng: Rng, person: Person, kind: str) -> None:
    """`kind`: "stubble" (a tint), "moustache" or "full"; drawn before the lips."""
    colour, deep = shaded(person.hair, rng.uniform(0.85, 1.1)), rng.uniform(0.0, 0.5)
    if kind == "stubble":
        half = [(0, 0.5), (0.4, 0.52), (0.62, 0.6), (0.92, 0.15), (0.9, 0.7), (0.6, 1.1), (0, 1.3)]
        canvas.tint(smooth(both_sides(half)), (100, 98, 100))
        return
    if kind == "full":
        j, cheek = person.width, rng.uniform(0.25, 0.55)
        half = [(0, 0.5), (0.3, 0.52), (0.5, cheek + 0.2), (0.82, cheek), (0.93, -0.1), (1.0, 0.0), (0.99, 0.4),
                (0.92 * j, 0.8 + 0.2 * deep), (0.62 * j, 1.16 + 0.7 * deep), (0.25, 1.34 + deep),
                (0, 1.36 + deep)]  # fmt: skip
        outline = smooth(both_sides(half))
        canvas.fill(outline + rng.normal(0, 0.018, outline.shape), colour, HAIR, shadow=True)
        canvas.fill(ellipse(0, 0.84, 0.14, 0.04), mixed(colour, person.skin, 0.35), HAIR)
    for side in (-1, 1):
        lip = [(0.0, 0.5), (0.18, 0.49), (0.36, 0.6), (0.44, 0.78), (0.34, 0.7), (0.15, 0.62), (0.0, 0.61)]
        canvas.fill(smooth(mirrored(lip, side)), shaded(colour, 0.92), HAIR, lift=0.06)


def draw_glasses(canvas: Canvas, rng: Rng) -> None:
    colour = jittered(rng, pick(rng, ((26, 24, 26), (70, 44, 30), (150, 130, 90), (120, 124, 130), (140, 40, 50))), 8)
    w, h, power, thick = (
        rng.uniform(0.29, 0.36),
        rng.uniform(0.19, 0.3),
        rng.uniform(0.45, 1),
        rng.uniform(0.025, 0.065),
    )
    dark = rng.random() < 0.2
    frame = np.sign(CIRCLE) * np.abs(CIRCLE) ** power * (w, h)
    for side in (-1, 1):
        lens = moved(frame, side * 0.43, -0.08)
        if dark:
            canvas.fill(lens, shaded(colour, 0.6), PLAIN, lift=0.1)
        canvas.line(np.concatenate([lens, lens[:2]]), colour, thick, PLAIN, lift=0.1)
        shine = np.array([(-0.5, 0.3), (0.1, -0.6)]) * (w, h) + (side * 0.43, -0.08)
        canvas.line(shine, (206, 214, 220) if dark else (246, 246, 246), 0.02, lift=0.1)
        canvas.line([(side * (0.43 + w), -0.13), (side * 1.02, -0.14)], colour, thick, PLAIN)
    canvas.line(curve([(-0.15, -0.1), (0, -0.14), (0.15, -0.1)]), colour, thick, PLAIN, lift=0.15)


def draw_back_hair(canvas: Canvas, rng: Rng, person: Person) -> None:
    """What hangs or stands behind the head."""
    if person.style in ("long", "bob"):
        length, out = (rng.uniform(1.7, 2.6), 0.0) if person.style == "long" else (rng.uniform(0.8, 1.3), 0.08)
        wave = rng.normal(0, 0.05, 6)
        half = [(0, -1.5), (0.8, -1.4), (1.2 + wave[0], -0.7), (1.25 + wave[1] + out, 0.0), (1.27 + wave[2] + out, 0.6),
                (1.28 + wave[3], 0.6 * length), (1.2 + wave[4], length), (0, length + wave[5])]  # fmt: skip
        canvas.fill(smooth(both_sides(half)), shaded(person.hair, 0.72), HAIR, depth=-0.3)
    elif person.style == "afro":
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radius = rng.uniform(1.4, 1.85) * (1 + 0.03 * rng.normal(size=40))
        curls = np.stack([radius * np.cos(angles), radius * np.sin(angles) - 0.6], axis=1)
        canvas.fill(curls, person.hair, HAIR, depth=-0.3)
    elif person.style == "bun":
        canvas.fill(ellipse(rng.uniform(-0.3, 0.3), -1.72, 0.42, 0.36), shaded(person.hair, 0.85), HAIR, depth=-0.3)


def draw_front_hair(canvas: Canvas, rng: Rng, person: Person) -> None:
    """The hair on top of the head, down to the hairline, and the strands beside the face."""
    if person.style == "bald":
        return
    volume = {"buzz": 0.0, "short": 0.09, "parted": 0.14, "bun": 0.03}.get(person.style, 0.1) + rng.uniform(0, 0.06)
    line, side, parting = rng.uniform(-1.05, -0.8), 1 if rng.random() < 0.5 else -1, rng.uniform(-0.12, 0.3)
    fringe = person.style in ("bob", "long", "short") and rng.random() < 0.4
    if fringe:
        line, parting = rng.uniform(-0.62, -0.5), rng.uniform(-0.1, 0.1)
    low = -0.02 if person.style in ("short", "parted", "buzz") else -0.25
    x = np.array([0.95, 0.9, 0.72, 0.4, 0.1, -0.15, -0.4, -0.72, -0.9, -0.95])
    y = line + parting * x * side + 0.35 * np.abs(x) ** 3
    y[[0, -1]] = low
    if fringe:
        y[1:-1] += rng.normal(0, 0.03, 8)
    v = volume
    half = np.array([(0, -1.46 - 1.3 * v), (0.45, -1.4 - 1.2 * v), (0.82 + v / 2, -1.12 - v), (1.0 + v, -0.62),
                     (1.03 + v, low)])  # fmt: skip
    crown = np.concatenate([half[::-1] * (-1, 1), half[1:]])  # from the left temple over the top to the right one
    colour = mixed(person.hair, person.skin, 0.35) if person.style == "buzz" else person.hair
    if person.style == "afro":
        crown = crown * (1.1, 1.05)
    outline = np.concatenate([smooth(np.stack([x, y], 1), False, 4), smooth(crown, False, 4)])
    canvas.fill(outline, colour, HAIR, shadow=person.style != "buzz")
    if person.style in ("long", "bob"):
        length = rng.uniform(0.9, 2.2) if person.style == "long" else rng.uniform(0.7, 1.2)
        inner = rng.uniform(0.8, 0.95)
        for s in (-1, 1):
            strand = [(0.7, -1.2), (1.06 + v, -0.6), (1.18 + v, 0.1), (1.2 + v, 0.6 * length), (1.12, length),
                      (inner + 0.04, 0.7 * length), (inner, 0.1), (inner - 0.02, -0.5)]  # fmt: skip
            canvas.fill(smooth(mirrored(strand, s)), shaded(colour, 0.92), HAIR, depth=0.15, shadow=True)


def draw_headscarf(canvas: Canvas, rng: Rng, colour: Colour) -> None:
    """A hijab: all but the face."""
    outer = [(0, -1.62), (0.7, -1.45), (1.16, -0.8), (1.22, 0.1), (1.1, 0.9), (1.25, 1.6), (1.7, 2.3), (0, 2.7)]
    low = rng.uniform(1.16, 1.3)
    inner = [(0, -0.98), (0.5, -0.9), (0.82, -0.5), (0.88, 0.1), (0.78, 0.7), (0.5, 1.08), (0, low)]
    cloth, opening = smooth(both_sides(outer)), smooth(both_sides(inner))
    ring = np.concatenate([cloth, cloth[:1], opening[:1], opening[::-1]])  # a seam at the top joins the outlines
    canvas.fill(ring, colour, SCARF, depth=0.1, shadow=True)
    for bend in rng.uniform(-0.5, 0.9, 7):
        x = 0.95 + 0.12 * bend
        canvas.fold([(x, -0.4), (x + 0.05, 0.5), (x - 0.5 - 0.3 * bend, 1.5)], pick(rng, (100, 148)), 0.09)
        canvas.fold([(-x, -0.4), (-x - 0.05, 0.5), (0.3 * bend, 1.7)], pick(rng, (96, 150)), 0.09)


def draw_hat(canvas: Canvas, rng: Rng, kind: str) -> None:
    """`kind`: "beanie", "cap" or "brim"."""
    colour = jittered(rng, pick(rng, CLOTHS))
    edge = rng.uniform(-0.82, -0.66)
    top = {"beanie": -1.72, "cap": -1.62, "brim": -1.85}[kind] - rng.uniform(0, 0.12)
    dome = [(0, top), (0.55, top + 0.1), (0.98, -1.1), (1.1, edge), (0.6, edge - 0.03), (0, edge - 0.05)]
    if kind == "brim":
        wide = rng.uniform(1.6, 2.0)
        canvas.fill(ellipse(0, edge, wide, 0.3), shaded(colour, 0.82), HAT, depth=0.2, shadow=True)
    canvas.fill(smooth(both_sides(dome)), colour, HAT, depth=0.1, shadow=True)
    if kind == "beanie":
        band = moved([(0, -0.32), (0.7, -0.29), (1.1, -0.22), (1.12, 0.06), (0.6, 0.05), (0, 0.04)], 0, edge)
        canvas.fill(smooth(both_sides(band)), shaded(colour, rng.uniform(0.8, 1.15)), HAT, depth=0.15, shadow=True)
        for x in np.sin(1.5 * np.linspace(-1, 1, 15)):  # ribs
            rib = [(1.08 * x, edge - 0.27), (1.1 * x, edge + 0.03)]
            canvas.line(rib, shaded(colour, 0.72), 0.02, depth=0.15)
        if rng.random() < 0.4:
            canvas.fill(ellipse(0, top - 0.1, 0.28, 0.26), shaded(colour, 1.15), HAT, depth=0.0)
    elif kind == "cap":
        for x in (-0.5, 0, 0.5):
            seam = curve([(0, top), (0.9 * x, -1.3), (1.1 * x, edge)])
            canvas.line(seam, shaded(colour, 0.75), 0.02, depth=0.1)
        peak = moved([(0, -0.12), (0.6, -0.1), (0.98, 0), (0.86, 0.16), (0.5, 0.3), (0, 0.36)], 0, edge)
        canvas.fill(smooth(both_sides(peak)), shaded(colour, 0.7), HAT, depth=0.6, shadow=True)
        canvas.line(curve(both_sides(moved(peak, 0, -0.05))[3:8]), shaded(colour, 0.95), 0.02, depth=0.6)
    else:
        ribbon = moved([(0, -0.24), (0.7, -0.2), (1.09, -0.14), (1.1, 0.02), (0.6, 0), (0, -0.03)], 0, edge)
        canvas.fill(both_sides(ribbon), shaded(colour, 0.45), HAT, depth=0.12)


def draw_hand(canvas: Canvas, rng: Rng, skin: Colour, at: tuple[float, float], side: int) -> None:
    """A hand with its fingers laid across the point `at`, the arm coming from below on the given side."""
    size, angle = rng.uniform(0.85, 1.1), rng.uniform(0.15, 0.75) * side
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    dark, flat = shaded(skin, 0.68), 0.5

    def place(points: ArrayLike) -> np.ndarray:  # fingers point to the left from a palm on the right, then mirrored
        return (np.asarray(points, float) * size * (side, 1)) @ turn + at

    arm = place([(0.55, -0.3), (1.1, -0.22), (1.7, 0.1), (3.5, 1.4), (3.0, 2.3), (1.3, 0.75), (0.7, 0.55)])
    canvas.fill(smooth(arm), shaded(skin, 0.97), HAND, shadow=True, depth=flat)
    lengths = (0.62, 0.74, 0.7, 0.52)
    for number in range(4):
        y, tip = -0.34 + 0.225 * number, -lengths[number] + rng.normal(0, 0.03)
        spread = 0.03 * (number - 1.5)
        finger = [(0.7, y - 0.12), (0.1, y - 0.125 + spread), (tip + 0.1, y - 0.105 + 2 * spread),
                  (tip, y + 2 * spread), (tip + 0.1, y + 0.105 + 2 * spread), (0.1, y + 0.12 + spread),
                  (0.7, y + 0.12)]  # fmt: skip
        outline = smooth(place(finger))
        canvas.fill(outline, shaded(skin, 1.02 - 0.02 * number), HAND, shadow=True, depth=flat)
        canvas.line(np.concatenate([outline[3:], outline[:2]]), dark, 0.022, depth=flat)
        nail = place(ellipse(tip + 0.12, y + 2 * spread - 0.01, 0.075, 0.055))
        canvas.fill(nail, mixed(skin, (255, 214, 206), 0.5), HAND, depth=flat)
        for joint in (0.05, 0.1):
            canvas.line(place([(joint, y - 0.05), (joint + 0.01, y + 0.05)]), shaded(skin, 0.84), 0.015, depth=flat)
    thumb = [(1.0, -0.25), (0.6, -0.5), (0.3, -0.66), (0.16, -0.66), (0.16, -0.52), (0.42, -0.34), (0.75, -0.05)]
    canvas.fill(smooth(place(thumb)), shaded(skin, 0.98), HAND, shadow=True, depth=flat)
    canvas.line(curve(place(thumb[:-1])), dark, 0.02, depth=flat)


def mask_colour(rng: Rng, kind: str, skin: Colour) -> Colour:
    """Any colour masks are sold in; one in eight is close to the skin's."""
    if rng.random() < 0.125:
        return jittered(rng, skin, 10)
    return jittered(rng, pick(rng, {"surgical": SURGICAL, "respirator": RESPIRATOR}.get(kind, CLOTHS)), 12)


def mask_pattern(rng: Rng, kind: str) -> Pattern | None:
    """Sometimes a pattern, most often on a bandana, never on a respirator."""
    if rng.random() >= {"surgical": 0.08, "cloth": 0.5, "bandana": 0.7}.get(kind, 0.0):
        return None
    colour = jittered(rng, pick(rng, CLOTHS))
    return Pattern(pick(rng, PATTERNS), colour, rng.uniform(2.5, 7), rng.uniform(0, np.pi))


def mask_outline(kind: str, top: float, width: float) -> np.ndarray:
    """The right half of a mask worn over nose, mouth and chin: from the nose's bridge to below the chin."""
    w = width
    if kind == "surgical":
        half = [(0, top - 0.1), (0.2, top - 0.04), (0.5, top + 0.1), (0.8 * w, top + 0.14), (0.84 * w, top + 0.5),
                (0.74 * w, 0.88), (0.52 * w, 1.16), (0.24, 1.32), (0, 1.36)]  # fmt: skip
    elif kind == "respirator":
        half = [(0, top - 0.12), (0.14, top - 0.08), (0.36, top + 0.16), (0.7 * w, top + 0.34), (0.82 * w, 0.55),
                (0.72 * w, 0.86), (0.46 * w, 1.2), (0.2, 1.38), (0, 1.44)]  # fmt: skip
    elif kind == "cloth":
        half = [(0, top - 0.1), (0.16, top - 0.06), (0.45, top + 0.14), (0.84 * w, top + 0.26), (0.88 * w, top + 0.45),
                (0.8 * w, 0.8), (0.5 * w, 1.2), (0.2, 1.36), (0, 1.4)]  # fmt: skip
    else:
        half = [(0, top - 0.06), (0.3, top), (0.7, top + 0.03), (0.99, top - 0.06), (1.0, top + 0.3), (0.9, 0.85),
                (0.66, 1.35), (0.3, 1.85), (0, 2.1)]  # fmt: skip
    return np.array(half)


def draw_straps(canvas: Canvas, rng: Rng, upper: tuple[float, float], lower: tuple[float, float], kind: str) -> None:
    """Ear loops from the corners of a mask, or the two head bands of a respirator."""
    colour = pick(rng, ((244, 244, 244), (226, 228, 232), (50, 50, 54)))
    bands = kind == "respirator" and rng.random() < 0.5
    for side in (-1, 1):
        above = [upper, (1.0, -0.62)] if bands else [upper, (0.93, -0.08), (1.0, -0.2)]
        below = [lower, (1.0, 0.45)] if bands else [lower, (0.93, 0.4), (1.01, 0.22)]
        for points in (above, below):
            canvas.line(curve(mirrored(points, side)), colour, 0.035, PLAIN)
            canvas.tint(mirrored([*points, (points[-1][0], points[-1][1] + 0.05)], side), (108, 102, 100))


def draw_mask(canvas: Canvas, rng: Rng, kind: str, colour: Colour) -> None:
    """`kind`: "surgical", "cloth", "respirator" (FFP2/N95) or "bandana", over nose, mouth and chin."""
    top, width = rng.uniform(0.0, 0.16), rng.uniform(0.95, 1.06)
    half = mask_outline(kind, top, width)
    if kind != "bandana":
        draw_straps(canvas, rng, tuple(half[3]), tuple(half[-4]), kind)
    lift = 0.14 if kind == "respirator" else 0.06
    outline = smooth(both_sides(half))
    canvas.fill(outline, colour, MASK, lift=lift, shadow=True)
    dark, light = shaded(colour, 0.74), mixed(shaded(colour, 1.08), (255, 255, 255), 0.15)
    canvas.fold([(0.25 * canvas.pose.yaw, top), (0, 0.4)], 148, 0.16, lift)  # the nose below it
    canvas.fold(curve([(-0.45, 1.15), (0, 1.28), (0.45, 1.15)]), 96, 0.22, lift)  # below the chin
    for side in (-1, 1):
        canvas.fold(mirrored([(0.16, top + 0.1), (0.34, 0.5)], side), 108, 0.12, lift)
        for _ in range(3):  # creases that the loops pull
            y = rng.uniform(top + 0.25, 0.95)
            canvas.fold(mirrored([(0.8, y), (0.4, 0.5 * y + 0.35)], side), pick(rng, (98, 106, 146)), 0.06, lift)
    rim = curve(half)
    if kind == "surgical":
        for y in np.linspace(top + 0.36, 0.98, int(rng.integers(3, 5))):
            reach = np.interp(y, half[2:, 1], half[2:, 0])
            pleat = moved(curve([(-0.8, -0.04), (-0.4, 0.02), (0, 0.05), (0.4, 0.02), (0.8, -0.04)]), 0, y)
            pleat[:, 0] = np.clip(pleat[:, 0], -reach, reach)
            canvas.line(pleat, dark, 0.03, lift=lift)
            canvas.line(moved(pleat, 0, 0.035), light, 0.02, lift=lift)
        wire = moved(half[:3], 0, 0.07)
        canvas.line(curve(np.concatenate([wire[::-1], wire[1:] * (-1, 1)])), dark, 0.02, lift=lift)
    elif kind == "respirator":
        draw_respirator_seams(canvas, rng, top, colour, lift)
    elif kind == "cloth":
        canvas.line(curve([(0, top - 0.08), (0.02, 0.4), (0, 0.9), (0, 1.38)]), dark, 0.025, lift=lift)
        for side in (-1, 1):
            canvas.line(moved(rim * (side * 0.95, 1), 0, 0.02), dark, 0.015, lift=lift)  # the hem
    else:
        for x in rng.uniform(-0.7, 0.7, 6):  # folds that fall from the nose
            canvas.fold(curve([(0.5 * x, 0.3), (x, 0.9), (0.6 * x, 1.6)]), pick(rng, (92, 100, 150)), 0.09)
    for side in (-1, 1):
        canvas.line(mirrored(rim, side), dark, 0.02, lift=lift)


def draw_respirator_seams(canvas: Canvas, rng: Rng, top: float, colour: Colour, lift: float) -> None:
    """Either folded flat, with one upright seam, or a cup with two across; some have a valve."""
    dark, folded = shaded(colour, 0.74), rng.random() < 0.6
    if folded:
        canvas.line([(0, top - 0.1), (0, 0.35), (0, 1.4)], dark, 0.03, lift=lift + 0.06)
        canvas.fold([(-0.3 * canvas.pose.yaw - 0.25, top + 0.2), (-0.3, 0.7), (-0.2, 1.2)], 104, 0.4, lift)
    else:
        canvas.line(curve([(-0.6, top + 0.4), (0, top + 0.22), (0.6, top + 0.4)]), dark, 0.025, lift=lift)
        canvas.line(curve([(-0.7, 0.8), (0, 1.02), (0.7, 0.8)]), dark, 0.025, lift=lift)
    if rng.random() < 0.35:
        x, y = 0.35 if folded else rng.uniform(-0.05, 0.05), rng.uniform(0.6, 0.75)
        canvas.fill(ellipse(x, y, 0.17, 0.15), shaded(colour, 0.85), PLAIN, lift=lift)
        canvas.line(ellipse(x, y, 0.12, 0.1), shaded(colour, 0.65), 0.02, lift=lift)


def draw_lowered_mask(canvas: Canvas, rng: Rng, kind: str, colour: Colour) -> None:
    """A mask pulled under the chin: nose and mouth are free."""
    top = rng.uniform(0.92, 1.04)
    half = moved(
        [(0, 0.06), (0.3, 0.03), (0.6, -0.08), (0.84, -0.3), (0.88, 0), (0.7, 0.34), (0.35, 0.5), (0, 0.55)], 0, top
    )
    draw_straps(canvas, rng, (0.82, top - 0.25), (0.84, top), kind)
    canvas.fill(smooth(both_sides(half)), colour, MASK, lift=0.1, shadow=True)
    for drop in np.linspace(0.12, 0.45, 4):
        crease = curve([(-0.7, -0.2), (-0.3, 0), (0, 0.03), (0.3, 0), (0.7, -0.2)]) * (1.1 - 0.6 * drop, 1)
        crease = moved(crease, 0, top + drop)
        canvas.line(crease, shaded(colour, 0.74), 0.025, lift=0.1)
        canvas.fold(moved(crease, 0, 0.06), pick(rng, (100, 146)), 0.06, 0.1)


def draw_dangling_mask(canvas: Canvas, rng: Rng, colour: Colour, side: int) -> None:
    """A mask that hangs by one loop from one ear."""
    swing = rng.uniform(-0.15, 0.15)
    for loop in ([(1.02, -0.15), (0.98 + swing / 2, 0.3)], [(1.06, 0.15), (1.2 + swing / 2, 0.32)]):
        canvas.line(mirrored(loop, side), (240, 240, 240), 0.035, PLAIN, depth=0.1)
    sheet = np.array([(0.95, 0.3), (1.22, 0.3), (1.38, 0.55), (1.36, 1.4), (1.24, 1.62), (0.98, 1.6), (0.9, 1.35),
                      (0.84, 0.6)])  # fmt: skip
    sheet[:, 0] += swing * sheet[:, 1]
    canvas.fill(smooth(mirrored(sheet, side)), colour, MASK, depth=0.1, shadow=True)
    for x in (0.98, 1.08, 1.18, 1.28):
        pleat = mirrored([(x + 0.45 * swing, 0.45), (x + 1.4 * swing, 1.5)], side)
        canvas.line(pleat, shaded(colour, 0.74), 0.025, depth=0.1)


def draw_scarf(canvas: Canvas, rng: Rng, colour: Colour, top: float) -> None:
    """A scarf round the neck, its upper edge at `top` (the chin's tip is at 1.28, the lower lip ends at 0.8)."""
    half = [(0, top), (0.5, top - 0.06), (0.95, top - 0.2), (1.15, top + 0.15), (1.15, 1.75), (0.7, 2.15), (0, 2.3)]
    canvas.fill(smooth(both_sides(half)), colour, SCARF, depth=0.4, shadow=True)
    for y in np.linspace(top + 0.12, 2.1, 6) + rng.normal(0, 0.05, 6):
        roll = curve([(-1.1, y - 0.3), (-0.4, y), (0.3, y + rng.normal(0, 0.08)), (1.1, y - 0.3)])
        canvas.line(roll, shaded(colour, 0.7), 0.025, depth=0.4)
        canvas.fold(moved(roll, 0, 0.07), 150, 0.08)
