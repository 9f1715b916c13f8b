"""Things held before the mouth: drinks, food, a phone, a microphone, paper."""

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
from pipeline.drawing.hands import grip


def held(canvas: np.ndarray) -> list[Layer]:
    return [Layer(canvas.clip(0, 1), on_face=False, shadow=0.4, lit=False)]


def cup(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A drink before the mouth: a mug in training; a paper cup or a glass in measuring."""
    of, canvas = light(face), blank()
    part = region(-2.4, 2.4, 0.2, 4)
    side = rng.choice([-1, 1])
    tilt = rng.uniform(-0.2, 0.2)
    u, v = turned(tilt, (rng.uniform(-0.12, 0.12), rng.uniform(0.85, 1.0)), part)  # from the middle of the rim
    if family == "training":
        half, tall, narrow = rng.uniform(0.82, 0.95), rng.uniform(1.3, 1.8), rng.uniform(0.0, 0.05)
    else:
        half, tall, narrow = rng.uniform(0.8, 0.95), rng.uniform(1.9, 2.3), rng.uniform(0.1, 0.16)
    wide = half - narrow * v
    t = (u / wide).clip(-1, 1)
    bow = np.sqrt(1 - t * t)
    body = np.maximum.reduce([np.abs(u) - wide, -0.1 * bow - v, v - tall - 0.2 * bow])
    round_ = (0.45 + 0.6 * np.sqrt((1 - t * t).clip(0)) + 0.35 * of.x * t) * fall(of, part)
    gloss = np.exp(-(((t + 0.45 * (1 if of.x <= 0 else -1)) / 0.1) ** 2))
    if family == "training":
        colour = np.array(rng.choice([(0.85, 0.84, 0.8), (0.2, 0.32, 0.5), (0.65, 0.2, 0.15), (0.12, 0.12, 0.13)]))
        colour = (colour * rng.uniform(0.85, 1.1)).clip(0, 0.95)
        ring = box(u - side * (wide + 0.18), v - 0.55 * tall, 0.42, 0.36 * tall, 0.3)
        ear = np.abs(ring) - 0.1
        lay(canvas[part], tinted(colour, (0.75 + 0.3 * np.cos(ear * 14)) * fall(of, part)), edge(ear))
        lay(canvas[part], tinted(colour, round_), edge(body))
        if rng.random() < 0.5:
            band = np.abs(v - 0.15 * bow - tall * rng.uniform(0.3, 0.7)) - rng.uniform(0.08, 0.3)
            lay(canvas[part], tinted(rng.uniform(0.1, 0.9, 3), round_), edge(np.maximum(band, body)))
        lay(canvas[part], (1.0, 1.0, 1.0), 0.5 * gloss * edge(body + 0.1, 0.1))
        base = np.hypot(u / (0.8 * wide), (v - tall - 0.02) / 0.16) - 1
        lay(canvas[part], tinted(colour, 0.75 * round_), 0.8 * edge(base, 0.15))
        lip = np.abs(v + 0.1 * bow - 0.04) - 0.035
        lay(canvas[part], tinted(colour, 1.15 * round_), edge(np.maximum(lip, body - 0.03)))
    elif rng.random() < 0.65:
        colour = np.array(rng.choice([(0.9, 0.89, 0.86), (0.62, 0.46, 0.3), (0.15, 0.35, 0.28)]))
        lay(canvas[part], tinted(colour, round_), edge(body))
        sleeve = np.maximum.reduce([body, 0.6 - v + 0.12 * bow, v - 1.5 - 0.14 * bow])
        card = tinted((0.5, 0.36, 0.23), round_ * (1 + 0.06 * np.sin(60 * np.arcsin(t))))
        lay(canvas[part], card if colour[0] > 0.8 else tinted((0.85, 0.83, 0.8), round_), edge(sleeve))
        lid = np.array(rng.choice([(0.93, 0.93, 0.92), (0.1, 0.1, 0.1)]))
        rim = box(u, v + 0.02 - 0.1 * bow, half + 0.06, 0.13, 0.07)
        cap = box(u, v + 0.16 - 0.06 * bow, half - 0.1, 0.16, 0.06)
        lay(canvas[part], tinted(lid, 0.85 * round_ + 0.1), edge(cap))
        lay(canvas[part], tinted(lid, round_ + 0.1 * (v < 0)), edge(rim))
    else:
        drink = np.array(rng.choice([(0.75, 0.42, 0.12), (0.35, 0.16, 0.08), (0.8, 0.85, 0.88), (0.85, 0.75, 0.3)]))
        level = rng.uniform(0.25, 0.7)
        lay(canvas[part], (0.85, 0.9, 0.92), (0.22 + 0.5 * smooth(np.abs(t), 0.8, 1.0)) * edge(body))
        liquid = np.maximum(body + 0.06, level - 0.1 * bow - v)
        lay(canvas[part], tinted(drink, round_ + 0.15 * smooth(v, level, tall)), 0.88 * edge(liquid))
        lay(
            canvas[part],
            tinted(drink, 1.2 * round_),
            0.8 * edge(np.hypot(u / (wide - 0.06), (v - level) / 0.12) - 1, 0.2),
        )
        lay(canvas[part], (0.95, 0.97, 1.0), 0.6 * gloss * edge(body + 0.08, 0.1))
        lip = np.abs(np.hypot(u / wide, v / 0.14) - 1) - 0.06
        lay(canvas[part], (0.92, 0.95, 0.97), 0.6 * edge(lip, 0.15))
    at = np.array([side * (half + 0.25), 0.95 + tall * 0.55])
    grip(canvas, face, rng, family, at, tilt + (np.pi if side > 0 else 0), rng.uniform(0.8, 1.1))
    return held(canvas)


def phone(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A mobile phone before the mouth, its back to the viewer, in a hand."""
    of, canvas = light(face), blank()
    part = region(-2.6, 2.6, -0.2, 4.6)
    side = rng.choice([-1, 1])
    tilt = rng.uniform(-0.35, 0.35)
    centre = (rng.uniform(-0.15, 0.15), rng.uniform(1.85, 2.1))
    u, v = turned(tilt, centre, part)
    half, tall = rng.uniform(0.72, 0.82), rng.uniform(1.4, 1.6)
    body = box(u, v, half, tall, rng.uniform(0.1, 0.2))
    colour = np.array(
        rng.choice([(0.06, 0.06, 0.07), (0.8, 0.8, 0.82), (0.13, 0.2, 0.3), (0.75, 0.6, 0.55), (0.5, 0.1, 0.12)])
    )
    sheen = 0.85 + 0.35 * smooth(u + 0.6 * v + 0.1 * noise(rng, 0.8, 1, part), -1.2, 1.4)
    lay(canvas[part], tinted(colour, 1.5 + 0.5 * (u < 0)) * 0.6 + 0.12, edge(body))
    lay(canvas[part], tinted(colour, sheen * fall(of, part)), edge(body + 0.05))
    corner = -rng.choice([-1, 1]) * (half - 0.34)
    bump = box(u - corner, v + tall - 0.42, 0.25, 0.32, 0.1)
    lay(canvas[part], tinted(colour * 0.8 + 0.03, sheen), edge(bump))
    for du, dv in ((-0.1, -0.15), (-0.1, 0.13), (0.11, 0.0)):
        lens = np.hypot(u - corner - du, v + tall - 0.42 - dv) - 0.1
        lay(canvas[part], (0.03, 0.03, 0.05), edge(lens))
        lay(canvas[part], (0.5, 0.55, 0.65), 0.7 * edge(np.hypot(u - corner - du + 0.03, v + tall - 0.45 - dv) - 0.03))
    at = np.array(centre) + side * (half + 0.2) * np.array([np.cos(tilt), np.sin(tilt)]) + [0, 0.45]
    grip(canvas, face, rng, family, at, tilt + (np.pi if side > 0 else 0), rng.uniform(0.7, 1.0))
    return held(canvas)


def microphone(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A microphone with a ball of wire or foam before the mouth, in a hand."""
    of, canvas = light(face), blank()
    part = region(-2.6, 2.6, 0, 5)
    tilt = rng.uniform(-0.45, 0.45)
    centre = (rng.uniform(-0.1, 0.1), rng.uniform(1.22, 1.35))
    u, v = turned(tilt, centre, part)
    r = rng.uniform(0.56, 0.68)
    half = 0.3 - 0.03 * v
    shaft = np.maximum(np.abs(u) - half, 0.4 - v)
    dark = np.array(rng.choice([(0.07, 0.07, 0.08), (0.25, 0.25, 0.27), (0.5, 0.5, 0.52)]))
    t = (u / half).clip(-1, 1)
    lay(
        canvas[part],
        tinted(dark, 0.5 + 0.8 * np.sqrt(1 - t * t) + 0.6 * np.exp(-(((t + 0.4) / 0.15) ** 2))),
        edge(shaft),
    )
    q = (u * u + v * v) / (r * r)
    dome = np.sqrt((1 - q).clip(0))
    ball = np.hypot(u, v) - r
    shade = (0.4 + 0.7 * dome + 0.4 * (of.x * u + (of.y - 0.2) * v) / r) * fall(of, part)
    if rng.random() < 0.6:
        bend = 1 / (0.45 + 0.55 * dome)
        mesh = np.cos(40 * (u + v) * bend) * np.cos(40 * (u - v) * bend)
        metal = np.array([1, 1, 1.02]) * rng.uniform(0.35, 0.7)
        lay(canvas[part], tinted(metal, shade * (1 + 0.35 * mesh) + 0.5 * (dome > 0.9) * dome**8), edge(ball))
        lay(canvas[part], tinted(metal * 1.1, shade + 0.2), edge(np.maximum(np.abs(v - 0.05) - 0.06, ball - 0.03)))
        lay(canvas[part], tinted(metal, 0.6 + 0.6 * np.sqrt(1 - t * t)), edge(box(u, v - r + 0.02, 0.36, 0.1, 0.05)))
    else:
        foam = np.array(rng.choice([(0.08, 0.08, 0.09), (0.1, 0.15, 0.32), (0.45, 0.12, 0.12), (0.3, 0.3, 0.32)]))
        lay(canvas[part], tinted(foam, shade * (1 + 0.12 * noise(rng, 0.06, 1, part))), edge(ball, 0.07))
    side = 1 if tilt < 0 else -1
    axis = np.array([-np.sin(tilt), np.cos(tilt)])
    at = np.array(centre) + axis * rng.uniform(1.6, 1.9) + [side * 0.5, 0]
    grip(canvas, face, rng, family, at, tilt + (np.pi if side > 0 else 0), 0.8)
    return held(canvas)


def headset(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A headset: a thin arm along the cheek and a ball of foam before a corner of the mouth."""
    of, canvas = light(face), blank()
    part = region(-2, 2, -0.8, 2)
    x, y = plane(part)
    u = x * rng.choice([-1, 1])
    end, low = rng.uniform(0.25, 0.5), rng.uniform(1.3, 1.5)
    dark = rng.uniform(0.03, 0.15) * np.ones(3)
    t = ((u - end) / (1.5 - end)).clip(0, 1)
    arm = np.abs(y - low + (low - 0.35) * t**2.2) * 0.75 - 0.05
    lay(canvas[part], tinted(dark, 1 + 1.5 * edge(arm + 0.04, 0.03)), edge(np.maximum.reduce([arm, end - u, u - 1.55])))
    for centre, size in (((end, low), rng.uniform(0.2, 0.27)), ((1.55, 0.15), rng.uniform(0.4, 0.55))):
        du, dv = u - centre[0], (y - centre[1]) / (1.0 if size < 0.3 else 1.3)
        dome = np.sqrt((1 - (du * du + dv * dv) / size**2).clip(0))
        shade = 0.7 + 1.2 * dome + 0.8 * of.x * du / size - 0.4 * dv / size
        lay(
            canvas[part],
            tinted(dark, shade * (1 + 0.1 * noise(rng, 0.06, 1, part))),
            edge(np.hypot(du, dv) - size, 0.05),
        )
    return held(canvas)


def paper(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A sheet of paper or a book, held up to the nose."""
    of, canvas = light(face), blank()
    part = region(-3, 3, 0, 5)
    tilt = rng.uniform(-0.15, 0.15)
    half, tall = rng.uniform(1.5, 2.4), rng.uniform(1.3, 1.9)
    centre = (rng.uniform(-0.3, 0.3), rng.uniform(0.6, 0.95) + tall)
    u, v = turned(tilt, centre, part)
    body = box(u, v, half, tall, 0.03)
    bend = 1 + 0.12 * np.sin(1.2 * u + rng.uniform(0, 6)) + 0.05 * of.x * u
    if rng.random() < 0.5:
        colour, ink = np.array([0.9, 0.9, 0.88]) * rng.uniform(0.85, 1.05), (0.25, 0.25, 0.28)
        pitch = rng.uniform(0.16, 0.26)
        words = (noise(rng, 0.12, 0.3, part) > -0.6) & (np.abs(u) < half - 0.25) & (np.abs(v) < tall - 0.25)
        text = 0.55 * smooth(np.sin(2 * np.pi * v / pitch), 0.3, 0.7) * words
    else:
        colour, ink = rng.uniform(0.1, 0.8) * rng.uniform(0.5, 1.2, 3), tuple(rng.uniform(0.6, 1, 3))
        text = edge(box(u, v + 0.4 * tall, 0.6 * half, 0.14, 0.02)) + edge(box(u, v - 0.3 * tall, half * 0.4, 0.3, 0.1))
        text = text + 0.6 * (np.abs(u + 0.92 * half) < 0.03)
    lay(canvas[part], tinted(colour, bend * fall(of, part)), edge(body))
    lay(canvas[part], ink, text.clip(0, 0.9) * edge(body + 0.05))
    for side in (-1, 1):
        at = np.array(centre) + side * (half + 0.25) * np.array([np.cos(tilt), np.sin(tilt)]) + [0, tall * 0.4]
        grip(canvas, face, rng, family, at, tilt + (np.pi if side > 0 else 0), rng.uniform(0.6, 0.8))
    return held(canvas)


def tissue(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A paper tissue or a cloth, pressed on nose and mouth by a hand."""
    of, canvas = light(face), blank()
    part = region(-2, 2, 0, 3.6)
    x, y = plane(part)
    dx, dy = x - rng.uniform(-0.1, 0.1), y - rng.uniform(1.25, 1.45)
    angle = np.arctan2(dy, dx)
    phase = rng.uniform(0, 6, 2)
    ragged = 0.12 * np.sin(3 * angle + phase[0]) + 0.06 * np.sin(5 * angle + phase[1])
    border = np.hypot(dx / rng.uniform(0.9, 1.15), dy / rng.uniform(0.85, 1.1)) - 1 - ragged
    creases = noise(rng, 0.45, 1.6, part)
    surface = 0.05 * np.abs(creases) + 0.025 * np.sin(5 * angle + 1.5 * creases) + 0.004 * noise(rng, 0.06, 1, part)
    colour = np.array([0.93, 0.93, 0.92]) if rng.random() < 0.7 else rng.uniform(0.3, 0.9) * rng.uniform(0.8, 1.1, 3)
    shade = relief(surface, of) * fall(of, part) * (1 - 0.1 * smooth(border, -0.4, 0))
    lay(canvas[part], tinted(colour, shade), edge(border, 0.05))
    side = rng.choice([-1, 1])
    at = np.array([side * rng.uniform(0.9, 1.1), rng.uniform(1.7, 1.95)])
    grip(canvas, face, rng, family, at, (np.pi + 0.6 if side > 0 else -0.6), 1.0)
    return held(canvas)


def food(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """An apple or a sandwich before the mouth."""
    of, canvas = light(face), blank()
    part = region(-2.4, 2.4, 0.2, 3.2)
    u, v = turned(rng.uniform(-0.4, 0.4), (rng.uniform(-0.15, 0.15), rng.uniform(1.3, 1.45)), part)
    side = rng.choice([-1, 1])
    if rng.random() < 0.5:
        r = rng.uniform(0.75, 0.88)
        shape = np.hypot(u, v * (1 + 0.05 * u * u)) - r + 0.1 * np.exp(-((u / 0.25) ** 2)) * (v < 0)
        dome = 0.8 * np.sqrt((r * r - u * u - v * v).clip(0))
        first, second = np.array([(0.68, 0.1, 0.1), (0.45, 0.62, 0.15), (0.75, 0.6, 0.2)])[rng.permutation(3)[:2]]
        mix = smooth(noise(rng, 0.5, 2, part) + 0.3 * np.sin(25 * np.arctan2(u, v + 1.5)), -0.8, 1.5)[..., None]
        colour = first.astype(np.float32) * (1 - mix) + second.astype(np.float32) * mix
        lay(canvas[part], tinted(colour, relief(dome, of, 0.7) * fall(of, part)), edge(shape))
        gloss = np.hypot((u + 0.3 * r) / 0.16, (v + 0.4 * r) / 0.12) - 1
        lay(canvas[part], (1.0, 1.0, 1.0), 0.5 * edge(gloss, 1.0))
    else:
        half = rng.uniform(1.0, 1.25)
        wobble = 0.04 * noise(rng, 0.25, 1, part)
        for top, tall, colour, rough in (
            (0.0, 0.66, (0.72, 0.5, 0.26), 0.05),
            (0.02, 0.26, (0.35, 0.5, 0.16), 0.2),
            (0.05, 0.2, rng.choice([(0.65, 0.2, 0.14), (0.9, 0.72, 0.3), (0.35, 0.2, 0.12)]), 0.12),
        ):
            shape = box(u, v - top + wobble * (3 if tall < 0.5 else 1), half, tall, min(tall, 0.5))
            dome = 0.5 * np.sqrt((1 - (u / half) ** 2 * 0.8 - (v / 0.66) ** 2 * 0.9).clip(0))
            shade = relief(dome, of, 0.8) * (1 + rough * noise(rng, 0.12, 0.6, part))
            lay(canvas[part], tinted(colour, shade * fall(of, part)), edge(shape))
    at = np.array([side * 1.15, rng.uniform(1.5, 1.7)])
    grip(canvas, face, rng, family, at, (np.pi if side > 0 else 0.0) - side * 0.2, rng.uniform(0.7, 0.9))
    return held(canvas)
