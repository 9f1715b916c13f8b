"""Hands before a face, in the colour of its skin."""

from __future__ import annotations

import numpy as np

from pipeline.drawing.brushes import (
    Light,
    Limbs,
    blank,
    edge,
    fall,
    lay,
    light,
    noise,
    plane,
    region,
    rounded,
    tinted,
)
from pipeline.drawing.compositing import Face, Layer

FINGER = 0.175  # half the width of a finger, in face units
ACROSS = (-0.52, -0.17, 0.18, 0.51)  # of the knuckles, from the index to the little finger
LENGTHS = (1.42, 1.62, 1.5, 1.15)


class Pose:
    """A hand's own coordinates: u along the fingers, v across them, from the middle of the knuckles."""

    def __init__(self, at: tuple[float, float], angle: float, mirrored: bool, size: float) -> None:
        c, s = np.cos(angle) * size, np.sin(angle) * size
        self.at, self.size = np.array(at), size
        self.axes = np.array([[c, s], [s, -c] if mirrored else [-s, c]])
        self.limbs = Limbs()
        self.nails: list[tuple[np.ndarray, np.ndarray]] = []

    def place(self, u: float, v: float) -> np.ndarray:
        return self.at + np.array([u, v]) @ self.axes

    def part(self, start, end, start_radius: float, end_radius: float, lift: float = 0.0) -> None:
        self.limbs.add(
            self.place(*start), self.place(*end), start_radius * self.size, end_radius * self.size, lift * self.size
        )

    def finger(self, start, middle, end, radius: float, lift: float = 0.0, nail: bool = True) -> None:
        self.part(start, middle, radius * 1.08, radius * 1.02, lift)
        self.part(middle, end, radius * 1.02, radius * 0.85, lift)
        if nail:
            direction = np.subtract(end, middle) / np.linalg.norm(np.subtract(end, middle))
            self.nails.append((self.place(*end), direction @ self.axes / self.size))

    def back(self, wrist: float = -1.75) -> None:
        """The back of the hand, the wrist and the arm."""
        for v in ACROSS:
            self.part((0, v), (wrist, v * 0.6), 0.27, 0.34, -0.03)
        self.part((wrist, 0), (wrist - 4, 0), 0.52, 0.66, -0.05)


def flat(pose: Pose, rng: np.random.Generator, spread: float) -> None:
    """Straight fingers side by side, and the thumb."""
    pose.back()
    bend = rng.uniform(-0.1, 0.1)
    for v, length in zip(ACROSS, LENGTHS, strict=True):
        side = v * (1 + spread)
        pose.finger((0, v), (length * 0.5, (v + side) / 2), (length - 0.15, side + bend), FINGER, 0.1 - 0.05 * abs(v))
    pose.part((-1.35, -0.35), (-0.75, -0.85), 0.33, 0.24)
    pose.finger((-0.75, -0.85), (-0.3, -0.98), (0.1, -0.98 - spread), 0.19, 0.02)


def fist(pose: Pose, rng: np.random.Generator) -> None:
    """Bent fingers, the knuckles to the viewer, and the thumb across them."""
    pose.back(-1.4)
    for v in ACROSS:
        pose.part((-0.3, v * 1.05), (0.1, v * 1.1), 0.25, 0.24, 0.12)
        pose.part((0.1, v * 1.1), (0.72, v * 1.05), 0.21, 0.2, 0.16)
    low = rng.uniform(0.25, 0.6)
    pose.part((-1.0, -0.55), (-0.1, -0.85), 0.32, 0.24, 0.1)
    pose.finger((-0.1, -0.85), (low, -0.6), (low + 0.1, -0.02), 0.2, 0.28)


def sleeve(canvas: np.ndarray, pose: Pose, rng: np.random.Generator, family: str, of: Light) -> None:
    """A sleeve over the arm."""
    start = rng.uniform(-3.0, -2.3)
    cloth = Limbs()
    cloth.add(pose.place(start, 0), pose.place(start - 4, 0), 0.72 * pose.size, 0.95 * pose.size)
    part, height, distance = cloth.shaped()
    x, y = plane(part)
    u = ((x - pose.at[0]) * pose.axes[0, 0] + (y - pose.at[1]) * pose.axes[0, 1]) / pose.size**2
    shade = rounded(height, of) * (1 + 0.12 * noise(rng, 0.25, 1, part))
    if family == "measuring":
        shade *= 1 - 0.35 * (np.sin(u * rng.uniform(12, 22)) > 0.3)
    colour = rng.uniform(0.08, 0.8) * rng.uniform(0.6, 1.1, 3)
    lay(canvas[part], tinted(colour, shade), edge(distance) * edge(u - start, 0.06))


def skin(canvas: np.ndarray, pose: Pose, face: Face, rng: np.random.Generator, family: str, of: Light) -> None:
    """Paint a hand in the colour of the face's skin, with its nails."""
    tone = face.skin / face.exposure * rng.uniform(0.88, 1.04)
    part, height, distance = pose.limbs.shaped()
    shade = rounded(height, of) * fall(of, part)
    if family == "training":
        shade = shade * (1 + 0.035 * noise(rng, 0.3, 1, part))
    else:
        shade = shade * (1 + 0.025 * noise(rng, 0.1, 2, part) + 0.03 * noise(rng, 0.5, 1, part))
    lay(canvas[part], tinted(tone, shade, 0.18), edge(distance))
    gloss = rng.uniform(1.02, 1.15)
    r = FINGER * pose.size
    for tip, direction in pose.nails:
        part = region(tip[0] - 2 * r, tip[0] + 2 * r, tip[1] - 2 * r, tip[1] + 2 * r)
        x, y = plane(part)
        dx, dy = x - tip[0], y - tip[1]
        along, across = dx * direction[0] + dy * direction[1], -dx * direction[1] + dy * direction[0]
        inside = np.hypot((along - 0.15 * r) / (0.85 * r), across / (0.6 * r)) - 1
        nail = tone * [1.0, 0.93, 0.91] * gloss
        lay(canvas[part], tinted(nail, 1 - 0.15 * (across / r) ** 2 + 0.05 * along / r), 0.75 * edge(inside, 0.3))


def hand(face: Face, rng: np.random.Generator, family: str) -> list[Layer]:
    """A hand over the mouth: flat in training; a fist or both hands in measuring."""
    of, canvas = light(face), blank()
    size = rng.uniform(0.95, 1.15)
    from_right = bool(rng.random() < 0.5)

    def posed(reach: float, rise: float, right: bool, y: float = 1.2) -> Pose:
        """A hand whose place `reach` along the fingers lies on the mouth, rising to the other side."""
        angle = -rise if not right else np.pi + rise
        direction = np.array([np.cos(angle), np.sin(angle)])
        at = np.array([rng.uniform(-0.12, 0.12), y]) - direction * reach * size
        return Pose((at[0], at[1]), angle, right, size)

    if family == "training":
        poses = [posed(rng.uniform(0.5, 0.95), rng.choice([0.15, 0.6, 1.2]) + rng.uniform(-0.2, 0.2), from_right)]
        flat(poses[0], rng, rng.uniform(0.0, 0.12))
    elif rng.random() < 0.6:
        poses = [posed(rng.uniform(0.15, 0.35), rng.uniform(0.9, 1.6), from_right, 1.25)]
        fist(poses[0], rng)
    else:
        rise = rng.uniform(0.5, 0.9)
        poses = [posed(0.75, rise, False, 1.28), posed(0.85, rise + rng.uniform(-0.15, 0.15), True, 1.2)]
        for pose in poses:
            flat(pose, rng, 0.0)
    for pose in poses:
        skin(canvas, pose, face, rng, family, of)
        if rng.random() < 0.6:
            sleeve(canvas, pose, rng, family, of)
    return [Layer(canvas.clip(0, 1), on_face=False, shadow=0.4, lit=False)]


def grip(canvas: np.ndarray, face: Face, rng: np.random.Generator, family: str, at, angle: float, reach: float) -> None:
    """Fingers that hold a thing: they come from a side at `at`, reach over it, and the hand lies beyond its edge.

    `angle` is the direction of the fingers; the arm goes down from the hand.
    """
    of, size = light(face), rng.uniform(0.9, 1.05)
    right = bool(np.cos(angle) < 0)
    pose = Pose(tuple(at), angle, right, size)
    apart, slant = (1.02, 0.03) if family == "training" else (1.15, rng.uniform(-0.25, -0.1))
    for v, length in zip(np.array(ACROSS) * apart, (0.95, 1.0, 0.95, 0.8), strict=True):
        far = reach * length * (1 if family == "training" else rng.uniform(0.8, 1.05))
        pose.finger((-0.25, v), (far * 0.5, v), (far, v + slant), FINGER, 0.05)
    pose.part((-0.3, -0.3), (-0.45, 0.5), 0.35, 0.4, -0.1)
    low = pose.place(-0.55, 0.6)
    pose.limbs.add(low, low + np.array([0.9 if right else -0.9, 3.5]), 0.5 * size, 0.62 * size, -0.1)
    skin(canvas, pose, face, rng, family, of)
