"""Shoulders, shirt and neck."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pipeline.synthetic.canvas import (
    CLOTHS,
    PATTERNS,
    SHIRT,
    SKIN,
    Canvas,
    Pattern,
    Person,
    Pose,
    Rng,
    both_sides,
    ellipse,
    jittered,
    mirrored,
    pick,
    shaded,
    smooth,
)


def draw_body(canvas: Canvas, rng: Rng, person: Person) -> None:
    """Draw neck, shoulders and clothes, which follow the rotation of the head only in part."""
    body = replace(canvas.pose, roll=0.25 * canvas.pose.roll, yaw=0.2 * canvas.pose.yaw, pitch=0.0)
    shirt = jittered(rng, pick(rng, CLOTHS))
    if rng.random() < 0.4:
        colour, angle = jittered(rng, pick(rng, CLOTHS)), pick(rng, (0.0, math.pi / 2, 0.6))
        canvas.patterns[SHIRT] = Pattern(pick(rng, PATTERNS), colour, rng.uniform(1.5, 5), angle)
    wide = rng.uniform(1.9, 2.5)
    torso = [(0, 1.5), (0.55, 1.6), (1.0, 1.86), (wide * 0.74, 2.1), (wide * 0.95, 2.45), (wide * 1.06, 3.2),
             (wide * 1.15, 5), (wide * 1.15, 9), (0, 9)]  # fmt: skip
    canvas.fill(smooth(both_sides(torso)), shirt, SHIRT, depth=0.0, pose=body)
    for side in (-1, 1):  # sleeves
        armpit = mirrored([(wide * 0.72, 2.5), (wide * 0.68, 3.2), (wide * 0.7, 4)], side)
        canvas.line(armpit, shaded(shirt, 0.7), 0.04, depth=0.0, pose=body)
    skin, low = shaded(person.skin, 0.93), rng.uniform(1.85, 2.4)
    vee = rng.random() < 0.4
    opening = [(-0.66, 1.66), (-0.5, 1.9), (0, low)] if vee else [(-0.68, 1.66), (-0.4, 1.85), (0, 1.92)]
    neckline = np.concatenate([opening, np.asarray(opening)[-2::-1] * (-1, 1)])
    neckline = neckline if vee else smooth(neckline, closed=False)
    jaw = canvas.pose.project([(0.6, 0.7), (-0.6, 0.7)], depth=-0.1)
    below = body.project(neckline, depth=0.1)
    identity = Pose(0, 0, 1, 0, 0, 0)
    canvas.fill(np.concatenate([below, jaw]), skin, SKIN, depth=0.0, pose=identity)
    canvas.tint(ellipse(0, 1.32, 0.75, 0.3), (100, 91, 88))  # the chin's shadow
    if vee and rng.random() < 0.6:  # lapels
        for side in (-1, 1):
            lapel = mirrored([(0.6, 1.5), (0.72, 1.68), (0.0, low), (0.42, low + 0.1), (0.95, 1.8)], side)
            canvas.fill(lapel, shaded(shirt, 1.12), SHIRT, depth=0.1, pose=body)
            canvas.line(lapel[2:], shaded(shirt, 0.65), 0.03, depth=0.1, pose=body)
    else:
        canvas.line(neckline, shaded(shirt, 0.72), 0.09, SHIRT, depth=0.1, pose=body)
