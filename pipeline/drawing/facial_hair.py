"""Beards."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from pipeline.drawing import geometry
from pipeline.drawing.brushes import Part, blank, edge, fall, lay, light, noise, plane, region, smooth, tinted
from pipeline.drawing.compositing import LUMA, Face, Layer

# Colours of hair in a well lit scene; "own" is that of the eyebrows.
HAIR = {
    "black": (0.1, 0.09, 0.09),
    "brown": (0.25, 0.17, 0.12),
    "grey": (0.47, 0.46, 0.45),
    "white": (0.74, 0.73, 0.71),
    "red": (0.4, 0.21, 0.12),
}
COLOURS = {"training": ("own", "own", "black", "brown"), "measuring": ("own", "black", "grey", "white", "red")}
STYLES = {"training": ("stubble", "boxed", "goatee"), "measuring": ("full", "long", "curly")}
BROWS = (63, 105, 66, 107, 52, 65, 53, 293, 334, 296, 336, 282, 295, 283)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)


def strands(rng: np.random.Generator, across: np.ndarray, along: np.ndarray, per_unit: float, length: float):
    """Hair as noise, of standard deviation 1: thin `across`, smooth over `length` `along`; both coordinates (h, w)."""
    tile = rng.normal(0, 1, (256, 64)).astype(np.float32)
    at = np.stack([across * per_unit + 128, along * (1 / length) + 32 + 3 * np.sin(across * 9)])
    return 1.6 * ndimage.map_coordinates(tile, at, order=1, mode="grid-wrap", prefilter=False)


def lips(face: Face, part: Part) -> np.ndarray:
    """How near a place is to the photo's lips: 1 on them, 0 beside them."""
    at = geometry.to_canvas(geometry.face_coordinates(face.points, face.points[list(LIPS)]))
    at = at - [part[1].start, part[0].start]
    image = Image.new("F", (part[1].stop - part[1].start, part[0].stop - part[0].start))
    ImageDraw.Draw(image).polygon([tuple(point) for point in at.tolist()], fill=1)
    return smooth(ndimage.gaussian_filter(np.asarray(image), 0.05 * geometry.SCALE, truncate=2), 0.1, 0.5)


def hair_colour(face: Face, rng: np.random.Generator, family: str) -> np.ndarray:
    name = str(rng.choice(COLOURS[family]))
    if name != "own":
        return np.array(HAIR[name], np.float32) * rng.uniform(0.85, 1.2)
    side = len(face.pixels)
    at = face.points[list(BROWS)].astype(int).clip(0, side - 1)
    colours = face.pixels[at[:, 1], at[:, 0]] / face.exposure
    dark = colours[np.argsort(colours @ LUMA, kind="stable")[: len(BROWS) // 3]].mean(axis=0)
    level = min(float(dark @ LUMA), 0.3)  # the landmarks may miss the eyebrows
    dark = dark * level / max(float(dark @ LUMA), 0.01)
    tone = 0.4 * dark + 0.6 * level * np.array([1.25, 0.93, 0.72])  # eyebrows of small faces look grey
    return tone.clip(0.05, 0.5) * rng.uniform(0.75, 1.0)


def area(x: np.ndarray, y: np.ndarray, cheek: float, fade: float, style: str) -> np.ndarray:
    """Density of a beard 0…1 at face coordinates, lips included. `cheek` lowers its upper border."""
    a = np.abs(x)
    border = 1.2 + cheek - 0.85 * smooth(a, 0.7, 1.5)  # from beside the corners of the mouth up to the ears
    cheeks = smooth(y - border, -fade, fade) * smooth(a, 0.35, 0.75)
    cheeks = cheeks * smooth(y, 0.25, 1.2) * (1 - 0.7 * smooth(a, 1.2, 1.5))
    moustache = smooth(y - 0.2 * a, 0.84, 1.0) * smooth(-a, -0.8, -0.55) * smooth(-y, -1.45, -1.25)
    chin = smooth(y + 0.1 * a, 1.36, 1.56) * smooth(-a, -1.1, -0.7)
    if style != "goatee":
        return 1 - (1 - cheeks) * (1 - 0.9 * moustache) * (1 - chin)
    width = 0.62 + 0.1 * cheek - 0.12 * smooth(y, 1.5, 2.1)
    sides = smooth(-np.abs(a - width), -0.22, -0.02) * smooth(y, 0.95, 1.2)
    return (1 - (1 - 0.9 * moustache) * (1 - 0.85 * sides) * (1 - chin)) * smooth(-a, -width - 0.25, -width)


def beard(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A beard that leaves the lips free: stubble, boxed or goatee in training; full, long or curly in measuring."""
    style = str(rng.choice(STYLES[family]))
    tone = hair_colour(face, rng, family)
    of = light(face)
    length = {"full": rng.uniform(0.1, 0.3), "long": rng.uniform(0.6, 1.4), "curly": rng.uniform(0.1, 0.5)}.get(
        style, 0
    )
    part = region(-1.8, 1.8, 0.0, 2.4 + length)
    x, y = plane(part)
    wobble = 0.06 * noise(rng, 0.2, 1, part)
    density = area(x, y + wobble, rng.uniform(-0.12, 0.15), rng.uniform(0.15, 0.3), style)
    far = y + rng.uniform(0.6, 1.4)  # from where the hair fans out
    across, along = np.arctan2(x, far) * (1 + far.mean()), np.hypot(x, far)
    if style == "curly":
        across, along = across + 0.06 * noise(rng, 0.09, 1, part), along + 0.1 * noise(rng, 0.09, 1, part)
    hair = strands(rng, across, along, 22 if style == "stubble" else 16, 0.1 if style == "stubble" else 0.4)
    end = np.hypot(x / 1.5, (y - 0.6) / (1.5 + length)) - 1  # on the jaw, or below it
    end = end + (0.04 * hair * smooth(y, 1.6, 2.4) + wobble) * (1 if length else 0.3)
    density = density * np.where(y > 0.6, edge(end, 0.2 + 0.15 * length), 1)
    if style == "stubble":
        alpha = density * (rng.uniform(0.25, 0.5) + 0.12 * hair).clip(0.05, 0.75)
    else:
        alpha = (density * (1.3 + 0.5 * hair * (1 - density))).clip(0, rng.uniform(0.82, 0.97))
    alpha = alpha * (1 - lips(face, part))
    volume = 1 - 0.25 * smooth(np.abs(x), 0.9, 1.5) - (0.12 if length else 0.3 * smooth(y, 1.6, 2.3))
    spread = 0.1 if tone.mean() > 0.35 else 0.22
    shade = volume * (1 + spread * hair + 0.1 * noise(rng, 0.35, 1.5, part)).clip(0.35, 2)
    canvas = blank()
    if length:
        shade = shade * fall(of, part)
    lay(canvas[part], tinted(tone, shade), alpha)
    layers = [Layer(canvas.clip(0, 1), shadow=0.0 if length else 0.1, lit=not length)]
    if length:
        below = blank()
        lay(below[part], tinted(tone, shade), alpha * smooth(y, 1.5, 1.8) * smooth(-np.abs(x), -1.35, -1.1))
        layers.insert(0, Layer(below.clip(0, 1), on_face=False, shadow=0.2, lit=False))
    return layers
