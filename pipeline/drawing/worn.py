"""Glasses, hats and pacifiers."""

from __future__ import annotations

import numpy as np

from pipeline.drawing.brushes import (
    blank,
    box,
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
    turned,
)
from pipeline.drawing.compositing import Face, Layer
from pipeline.drawing.wraps import dyed


def sunglasses(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """Dark or mirrored glasses; what is below the eyes stays free."""
    canvas = blank()
    part = region(-1.8, 1.8, -1, 1)
    x, y = plane(part)
    a = np.abs(x)
    half, tall, drop = rng.uniform(0.56, 0.66), rng.uniform(0.33, 0.45), rng.uniform(0.02, 0.1)
    centre, rounding = half + rng.uniform(0.1, 0.16), rng.uniform(0.18, 0.36)
    v = y - drop + rng.uniform(-0.1, 0.04) * (a - centre)
    lens = box(a - centre, v, half - 0.14 * v, tall, min(rounding, tall))
    frame = (rng.uniform(0.02, 0.3) * np.array([1, rng.uniform(0.6, 1), rng.uniform(0.3, 1)])).clip(0.02, 0.5)
    rim = rng.uniform(0.03, 0.09)
    bridge = np.maximum(a - centre, np.abs(y - drop + 0.16 + 0.12 * x * x) - 0.045)
    temple = np.maximum(np.abs(v + tall - 0.14) - 0.05, np.maximum(centre - a, a - 1.5))
    lay(canvas[part], frame, edge(np.minimum.reduce([lens - rim, bridge, temple]), 0.04))
    if rng.random() < 0.65:
        tint = rng.uniform(0.02, 0.16) * np.array([rng.uniform(0.8, 1.6), 1, rng.uniform(0.7, 1.2)])
        colour = tinted(tint, 1 + 1.2 * smooth(v, 0.0, tall * 1.4) + 0.2 * noise(rng, 0.5, 1, part))
        opacity = rng.uniform(0.88, 0.98)
    else:
        sky, ground = (
            rng.uniform(0.4, 0.8) * rng.uniform(0.75, 1.15, 3),
            rng.uniform(0.1, 0.3) * rng.uniform(0.7, 1.3, 3),
        )
        level = smooth(v + 0.05 * noise(rng, 0.2, 1, part), *((-0.12, 0.1) if rng.random() < 0.4 else (-0.4, 0.4)))[
            ..., None
        ]
        colour, opacity = sky * (1 - level) + ground * level, 1.0
    lay(canvas[part], colour, opacity * edge(lens, 0.04))
    streak = np.abs((a - centre) + 0.7 * v - rng.uniform(-0.2, 0.3)) - rng.uniform(0.02, 0.08)
    lay(canvas[part], (0.9, 0.92, 0.95), rng.uniform(0.0, 0.2) * edge(streak, 0.08) * edge(lens + 0.06, 0.06))
    return [Layer(canvas.clip(0, 1), on_face=False, shadow=0.35, lit=False)]


def hat_brim(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A cap or a hat whose brim shades the eyes; nose and mouth stay free."""
    of = light(face)
    dark = blank()
    part = region(-2, 2, -1.2, 1.2)
    x, y = plane(part)
    reach = rng.uniform(0.25, 0.7)
    lay(dark[part], (0.02, 0.02, 0.03), rng.uniform(0.35, 0.6) * smooth(-y, -reach - 0.12 * x * x, -reach + 0.5))
    canvas = blank()
    part = region(-3, 3, -3, 0.4)
    x, y = plane(part)
    colour = dyed(rng, family)
    cap = bool(rng.random() < 0.6)
    low = rng.uniform(-0.75, -0.5)
    if cap:
        half, bow, thick = rng.uniform(1.3, 1.5), -0.14, rng.uniform(0.3, 0.42)
    else:
        half, bow, thick = rng.uniform(2.2, 2.7), 0.05, rng.uniform(0.2, 0.35)
    lower = low - bow * x * x + (0.0 if cap else -0.15)
    if cap:
        crown = np.hypot(x / 1.75, (y + 0.6) / rng.uniform(1.7, 2.1)) - 1
    else:
        crown = box(x, y + 1.5 - 0.12 * x * x, 1.5 - 0.15 * smooth(-y, 1.0, 2.4), rng.uniform(0.9, 1.15), 0.4)
    crown = np.maximum(crown, y - (lower - 0.5 * thick))
    surface = 0.7 * np.sqrt((1 - (x / 1.8) ** 2).clip(0)) + 0.003 * noise(rng, 0.06, 1, part)
    shade = relief(surface, of, 0.8) * fall(of, part)
    seam = 1 - 0.25 * np.exp(-((np.minimum(np.abs(x), np.abs(np.abs(x) - 0.9)) / 0.03) ** 2)) if cap else 1
    lay(canvas[part], tinted(colour, shade * seam), edge(crown, 0.06))
    if not cap:
        lay(
            canvas[part],
            tinted(dyed(rng, family) * 0.6, shade),
            edge(np.maximum(crown, lower - thick - 0.35 - y), 0.06),
        )
    taper = (1 - (x / half) ** 2).clip(0) ** 0.35
    brim = np.maximum(np.abs(y - lower + thick / 2) - thick / 2 * taper, np.abs(x) - half)
    down = ((y - lower) / thick + 1).clip(0, 1)
    lay(canvas[part], tinted(colour * 0.9, (1.05 - 0.5 * down) * fall(of, part)), edge(brim, 0.05))
    return [
        Layer(dark, shadow=0.0, lit=False),
        Layer(canvas.clip(0, 1), on_face=False, shadow=0.5, lit=False),
    ]


def pacifier(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A baby's pacifier in the mouth."""
    of, canvas = light(face), blank()
    part = region(-1.3, 1.3, 0.5, 2.6)
    u, v = turned(rng.uniform(-0.12, 0.12), (rng.uniform(-0.05, 0.05), rng.uniform(1.2, 1.28)), part)
    colour = np.array(
        rng.choice([(0.5, 0.75, 0.9), (0.93, 0.62, 0.7), (0.6, 0.82, 0.62), (0.95, 0.92, 0.85), (0.9, 0.8, 0.4)])
    )
    half, tall = rng.uniform(0.72, 0.9), rng.uniform(0.46, 0.56)
    angle = np.arctan2(v / tall, u / half)
    shield = np.hypot(u / half, v / tall) - (0.92 + 0.1 * np.cos(2 * angle) - 0.05 * np.cos(4 * angle))
    shield = shield * tall
    dome = 0.3 * np.sqrt((1 - (u / half) ** 2 * 0.8 - (v / tall) ** 2 * 0.5).clip(0))
    rim = 0.04 * np.exp(-((shield / 0.06) ** 2))
    lay(canvas[part], tinted(colour, relief(dome + rim, of)), edge(shield))
    for side in (-1, 1):
        hole = np.hypot((u - side * 0.6 * half) / 0.11, v / 0.15) - 1
        lay(canvas[part], face.skin / face.exposure * 0.55, edge(hole, 0.3))
    second = (colour * rng.uniform(0.6, 0.9) + rng.uniform(0, 0.15)).clip(0, 1)
    knob = np.hypot(u, v) - rng.uniform(0.22, 0.28)
    lay(canvas[part], tinted(second, relief(0.3 * np.sqrt((1 - (u * u + v * v) / 0.09).clip(0)), of)), edge(knob))
    if rng.random() < 0.6:
        ring = np.abs(np.hypot(u / 0.36, (v - 0.34) / 0.4) - 1) - 0.16
        lay(canvas[part], tinted(second, 1.1 - 0.4 * smooth(v, 0.1, 0.8)), edge(ring, 0.1))
    glint = np.hypot((u + 0.35 * half) / 0.16, (v + 0.5 * tall) / 0.06) - 1
    lay(canvas[part], (1.0, 1.0, 1.0), 0.45 * edge(glint, 0.8))
    return [Layer(canvas.clip(0, 1), on_face=False, shadow=0.5)]
