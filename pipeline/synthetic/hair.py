"""Hair, headscarves and hats."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.canvas import (
    CLOTHS,
    HAIR,
    HAT,
    SCARF,
    Canvas,
    Colour,
    Person,
    Rng,
    both_sides,
    curve,
    ellipse,
    jittered,
    mirrored,
    mixed,
    moved,
    pick,
    shaded,
    smooth,
)


def draw_back_hair(canvas: Canvas, rng: Rng, person: Person) -> None:
    """Draw the hair behind the head."""
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
    """Draw the hair on top of the head, down to the hairline, and the strands beside the face."""
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
    """Draw a hijab, which covers all but the face."""
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
    """Draw a hat; `kind` is "beanie", "cap" or "brim"."""
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
