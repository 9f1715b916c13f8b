"""Cloth around the neck or the head that is no mask: scarves, collars, headscarves."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.drawing.brushes import (
    blank,
    edge,
    fall,
    lay,
    light,
    noise,
    plane,
    region,
    relief,
    smooth,
    tinted,
)
from pipeline.drawing.compositing import Face, Layer

WEAVES = {"training": ("knit", "plaid", "fleece"), "measuring": ("wool", "stripes", "cable")}
DYES = {
    "training": (
        (0.62, 0.13, 0.14),
        (0.16, 0.22, 0.42),
        (0.55, 0.53, 0.5),
        (0.8, 0.76, 0.68),
        (0.2, 0.33, 0.24),
        (0.12, 0.12, 0.13),
    ),
    "measuring": (
        (0.45, 0.3, 0.18),
        (0.78, 0.6, 0.24),
        (0.42, 0.2, 0.36),
        (0.3, 0.42, 0.5),
        (0.72, 0.72, 0.74),
        (0.18, 0.17, 0.2),
    ),
}


def dyed(rng: np.random.Generator, family: str) -> np.ndarray:
    return (np.array(rng.choice(DYES[family])) * rng.uniform(0.8, 1.2) + rng.normal(0, 0.03, 3)).clip(0.04, 0.92)


def weave(rng: np.random.Generator, family: str, s: np.ndarray, t: np.ndarray, part) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) and height (h, w) of a scarf's cloth; s goes along it, t across, in face units."""
    name = str(rng.choice(WEAVES[family]))
    colour = np.broadcast_to(dyed(rng, family).astype(np.float32), (*s.shape, 3))
    height = np.zeros_like(s)
    if name == "knit":
        pitch = rng.uniform(0.13, 0.22)
        column = np.abs((s / pitch) % 1 - 0.5) * 2
        height = 0.03 * (np.cos(2 * np.pi * (t / (0.75 * pitch) + 0.5 * column)) - 1.5 * column**4)
    elif name == "cable":
        pitch = rng.uniform(0.45, 0.65)
        place = (s / pitch) % 1
        braid = np.sin(np.pi * place) * (1 + 0.5 * np.cos(2 * np.pi * (t / 0.5 + np.where(place < 0.5, place, -place))))
        height = 0.09 * braid + 0.012 * np.cos(2 * np.pi * t / 0.09)
    elif name == "plaid":
        other, third, size = dyed(rng, family), dyed(rng, family), rng.uniform(0.5, 0.9)
        bands = [smooth(np.sin(2 * np.pi * one / size), 0.0, 0.3) for one in (s, t)]
        lines = [smooth(np.cos(2 * np.pi * one / size + 2.2), 0.9, 0.97) for one in (s, t)]
        mixed = (bands[0] + bands[1])[..., None] / 2
        colour = colour * (1 - mixed) + other.astype(np.float32) * mixed
        colour = colour + (third.astype(np.float32) - colour) * (0.4 * (lines[0] + lines[1]))[..., None]
    elif name == "stripes":
        other, width = dyed(rng, family), rng.uniform(0.2, 0.6)
        band = smooth(np.sin(2 * np.pi * t / width), -0.15, 0.15)[..., None]
        colour = colour * (1 - band) + other.astype(np.float32) * band
    elif name == "fleece":
        height = 0.02 * noise(rng, 0.08, 1, part)
    return colour, height + 0.006 * noise(rng, 0.05, 1, part)


def scarf(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A scarf around the neck, pulled up over chin and mouth, at times over the nose.

    In training one loop with deep hanging folds; in measuring two turns that cross, and an end that hangs down.
    """
    of, canvas = light(face), blank()
    part = region(-2.7, 2.7, 0, 4.2)
    x, y = plane(part)
    top, bow = rng.uniform(0.45, 0.95), rng.uniform(-0.16, 0.02)
    ragged = 0.03 * noise(rng, 0.5, 1, part)
    border = top + rng.uniform(-0.08, 0.08) * x + bow * np.minimum(np.abs(x), 1.7) ** 2 + ragged
    half = 1.62 + 0.35 * smooth(y, 0.6, 2.0) + ragged
    if family == "training":
        turns = [(border, rng.uniform(3.0, 3.5) + 0.5 * np.cos(0.8 * x) + ragged, half)]
        sag, pitch, depths = rng.uniform(0.5, 1.0), rng.uniform(0.55, 0.95), (0.1, 0.2)
    else:
        cross = top + rng.uniform(0.75, 1.1) + rng.choice([-1, 1]) * rng.uniform(0.18, 0.35) * x - 0.1 * x * x + ragged
        turns = [
            (border, rng.uniform(2.9, 3.4) + 0.25 * np.cos(x), half),
            (cross, cross + rng.uniform(1.0, 1.5), half + 0.12),
        ]
        sag, pitch, depths = rng.uniform(0.15, 0.4), rng.uniform(0.45, 0.8), (0.03, 0.09)
    across = y - border + sag * (x / 1.7) ** 2
    colour, height = weave(rng, family, 1.9 * np.arcsin((x / 2.2).clip(-1, 1)), across, part)
    for upper, lower, width in turns:
        t = y - upper + sag * (x / 1.7) ** 2
        phase = t / pitch + 0.35 * noise(rng, 1.2, 0.6, part) + rng.uniform(0, 1)
        depth = rng.uniform(*depths) * (0.7 + 0.4 * noise(rng, 0.9, 0.7, part)).clip(0, 1.5)
        fold = depth * (1 - np.abs(np.sin(np.pi * phase))) * smooth(y - upper, 0.1, 0.5)
        hems = sum(np.sqrt(1 - (1 - (one / 0.28).clip(0, 1)) ** 2) for one in (y - upper, lower - y))
        round_ = 0.5 * np.sqrt((1 - (x / (width + 0.05)) ** 2).clip(0))
        surface = ndimage.uniform_filter(0.16 * hems + round_ - fold, 5) + height
        shade = relief(surface, of, 0.8) * fall(of, part) * (1 - 0.35 * smooth(fold, 0.03, 0.15))
        inner = np.hypot((0.4 - (width - np.abs(x))).clip(0), (0.4 - np.minimum(y - upper, lower - y)).clip(0)) - 0.4
        shape = np.maximum.reduce([upper - y, y - lower, np.abs(x) - width, inner])
        if upper is not border:
            lay(canvas[part], (0.0, 0.0, 0.0), 0.5 * edge(shape, 0.35) * (canvas[part][..., 3] > 0.5))
        lay(canvas[part], tinted(colour, shade), edge(shape, 0.05))
    if family == "measuring" and rng.random() < 0.6:
        u = x - rng.choice([-1, 1]) * rng.uniform(0.4, 0.9) - 0.1 * (y - 2.5)
        wide = rng.uniform(0.5, 0.7)
        shape = np.maximum(np.abs(u) - wide, np.maximum(2.4 - y, y - rng.uniform(3.6, 4.1)))
        bulge = 0.25 * np.sqrt((1 - (u / wide) ** 2).clip(0)) + height + 0.04 * np.sin(9 * u + noise(rng, 1, 2, part))
        lay(canvas[part], tinted(colour, relief(bulge, of, 0.7) * fall(of, part)), edge(shape, 0.05))
    return [Layer(canvas.clip(0, 1), on_face=False, shadow=0.4, lit=False)]


def collar(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A turtleneck or a jacket's collar, pulled up over the mouth."""
    of, canvas = light(face), blank()
    part = region(-2.8, 2.8, 0, 4)
    x, y = plane(part)
    colour = (rng.uniform(0.06, 0.7) * rng.uniform(0.7, 1.1, 3)).clip(0.04, 0.9)
    shoulders = 0.6 * smooth(y, 2.2, 3.6)
    bottom = 3.3 + 0.5 * np.cos(0.9 * x)  # where it disappears under other clothes
    if rng.random() < 0.5:
        top = rng.uniform(0.65, 0.95)
        half = 1.5 + 0.1 * smooth(y, top, 2.2) + shoulders
        upper = top - 0.12 * (x / 1.5) ** 2 + 0.02 * noise(rng, 0.3, 1, part)
        s = np.arcsin((x / (half + 0.05)).clip(-1, 1))
        creases = (
            0.05 * np.sin((y - 0.3 * x * x) * rng.uniform(5, 8) + 1.5 * noise(rng, 0.9, 0.5, part)) * smooth(y, 1.3, 2)
        )
        height = 0.02 * np.cos(s * rng.uniform(40, 60)) * (1 - smooth(y, 2.6, 3.2)) + creases
    else:
        top = rng.uniform(0.62, 0.82)
        half = 1.62 + 0.2 * smooth(y, top, 2.2) + shoulders
        gap = rng.uniform(-0.15, 0.1)
        upper = top + 0.18 * np.exp(-(((x - gap) / 0.25) ** 2)) - 0.1 * np.abs(x)
        quilt = rng.uniform(0.5, 0.9)
        height = 0.06 * np.abs(np.sin(np.pi * (y - 0.15 * x * x) / quilt)) ** 0.6 + 0.015 * noise(rng, 0.2, 1, part)
        zipper = np.abs(x - gap - 0.03 * np.sin(y))
        height = height - 0.1 * np.exp(-((zipper / 0.07) ** 2))
    rolled = np.sqrt(1 - (1 - ((y - upper) / 0.18).clip(0, 1)) ** 2) * 0.1
    tube = 0.55 * np.sqrt((1 - (x / (half + 0.03)) ** 2).clip(0))
    shade = relief(ndimage.gaussian_filter(height + rolled + tube, 1), of, 0.8) * fall(of, part)
    corner = np.hypot((0.2 - (half - np.abs(x))).clip(0), (0.2 - (y - upper)).clip(0)) - 0.2
    lay(
        canvas[part],
        tinted(colour, shade),
        edge(np.maximum.reduce([upper - y, y - bottom, np.abs(x) - half, corner]), 0.05),
    )
    return [Layer(canvas.clip(0, 1), on_face=False, shadow=0.4, lit=False)]


def veil(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A headscarf or a hood around the face, closed under the chin; the face stays free."""
    of, canvas = light(face), blank()
    part = region(-3, 3, -2.8, 4.4)
    x, y = plane(part)
    colour = dyed(rng, family)
    wobble = 0.03 * noise(rng, 0.6, 1, part)
    opening = np.hypot(x / rng.uniform(1.22, 1.34), (y - 0.45) / np.where(y < 0.45, 1.3, 1.58)) - 1 + wobble
    outer = np.hypot(x / 2.1, (y - 0.1) / 2.6) - 1 + wobble
    body = np.maximum(np.abs(x) - (1.7 + 0.8 * smooth(y, 1.8, 3.6)), y - 3.2 - 0.7 * np.cos(0.7 * x)) + wobble
    outer = np.where(y > 0.4, np.minimum(outer, body), outer)
    flow = np.arctan2(x, -(y - 0.6)) + 0.15 * noise(rng, 1.2, 1, part)
    rings = np.hypot(x, (y - 0.4) * 0.85)
    folds = np.sin(rings * rng.uniform(7, 12) + 1.2 * np.sin(flow * 2) + 1.5 * noise(rng, 1.4, 1, part))
    height = 0.05 * folds + 0.1 * np.sqrt((opening / 0.25).clip(0, 1)) + 0.004 * noise(rng, 0.05, 1, part)
    shade = (
        relief(ndimage.gaussian_filter(height, 2, truncate=2), of, 0.8)
        * fall(of, part)
        * (1 - 0.3 * smooth(outer, -0.3, 0))
    )
    lay(canvas[part], tinted(colour, shade), edge(np.maximum(-opening, outer), 0.05))
    return [Layer(canvas.clip(0, 1), on_face=False, shadow=0.45, lit=False)]
