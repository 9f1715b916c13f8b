"""Skin and features: ears, face, eyes, brows, nose, mouth, beard, glasses."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.canvas import (
    CIRCLE,
    HAIR,
    IRISES,
    PLAIN,
    SKIN,
    Canvas,
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


def draw_ear(canvas: Canvas, person: Person, side: int) -> None:
    outline = [(0.9, -0.28), (1.06, -0.3), (1.13, -0.12), (1.09, 0.12), (1.0, 0.3), (0.92, 0.28)]
    canvas.fill(smooth(mirrored(outline, side)), shaded(person.skin, 0.92), SKIN, depth=-0.12)
    inner = [(0.98, -0.18), (1.05, -0.18), (1.07, -0.05), (1.02, 0.08), (0.99, 0.17)]
    canvas.line(curve(mirrored(inner, side)), shaded(person.skin, 0.7), 0.035, depth=-0.12)


def draw_face(canvas: Canvas, person: Person, ears_visible: bool) -> None:
    """Draw the head without features: the far ear is behind the cheek, the near one in front of it."""
    far = 1 if canvas.pose.yaw > 0 else -1
    j = person.width
    if ears_visible:
        draw_ear(canvas, person, far)
    half = [(0, -1.4), (0.55, -1.27), (0.9, -0.82), (1.0, -0.25), (0.97, 0.25), (0.87 * j, 0.7), (0.62 * j, 1.04),
            (0.27 * j, 1.24), (0, 1.28)]  # fmt: skip
    canvas.fill(smooth(both_sides(half)), person.skin, SKIN)
    if ears_visible:
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
