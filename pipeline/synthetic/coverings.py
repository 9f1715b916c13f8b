"""Coverings of a face: a mask (worn correctly, lowered or dangling), a hand, a scarf."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.synthetic.canvas import (
    CLOTHS,
    HAND,
    MASK,
    PATTERNS,
    PLAIN,
    RESPIRATOR,
    SCARF,
    SURGICAL,
    Canvas,
    Colour,
    Pattern,
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
