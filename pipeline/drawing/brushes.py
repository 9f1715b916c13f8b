"""Tools to draw with on a canvas of face coordinates: soft edges, noise, rounded shapes and their light."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from pipeline.drawing import geometry
from pipeline.drawing.compositing import Face

Part = tuple[slice, slice]  # rows and columns of a canvas; drawing on a part only is faster
WHOLE = (slice(0, geometry.CANVAS[0]), slice(0, geometry.CANVAS[1]))


@lru_cache
def grid() -> tuple[np.ndarray, np.ndarray]:
    x, y = (axis.astype(np.float32) for axis in geometry.grid())
    x.flags.writeable = y.flags.writeable = False
    return x, y


def plane(part: Part = WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """Face coordinates x and y, float32, of the pixels in part of a canvas; not to be written to."""
    x, y = grid()
    return x[part], y[part]


def region(left: float, right: float, top: float, bottom: float) -> Part:
    """The part of a canvas between these face coordinates, at least two rows and columns of it.

    Coordinates outside the canvas count as those of its border.
    """
    corners = geometry.to_canvas(np.array([[left, top], [right, bottom]])).round().astype(int)
    (x0, y0), (x1, y1) = corners.clip(0, geometry.CANVAS[::-1]).tolist()
    y0, x0 = min(y0, geometry.CANVAS[0] - 2), min(x0, geometry.CANVAS[1] - 2)
    return slice(y0, max(y1, y0 + 2)), slice(x0, max(x1, x0 + 2))


def blank() -> np.ndarray:
    """A transparent canvas."""
    return np.zeros((*geometry.CANVAS, 4), np.float32)


def edge(distance: np.ndarray, soft: float = 0.04) -> np.ndarray:
    """Opacity 0…1 of a shape from the signed distance to its border, negative inside."""
    return (0.5 - distance / soft).clip(0, 1)


def smooth(values: np.ndarray, low, high) -> np.ndarray:
    """Smoothstep: 0 below `low`, 1 above `high`; these are numbers or arrays."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, size: float, stretch: float = 1, part: Part = WHOLE) -> np.ndarray:
    """Smooth noise of standard deviation about 1, with spots `size` wide and stretch × size high."""
    h, w = (one.stop - one.start for one in part)
    step = max(1.0, size * geometry.SCALE)
    shape = (max(2, round(h / (step * stretch))), max(2, round(w / step)))
    coarse = Image.fromarray(rng.normal(0, 1.3, shape).astype(np.float32))
    return np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC))


def turned(angle: float, centre: tuple[float, float], part: Part = WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixels in a system turned clockwise by `angle` (radians) around `centre`."""
    x, y = plane(part)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    return c * dx + s * dy, -s * dx + c * dy


def box(u: np.ndarray, v: np.ndarray, half_width, half_height: float, radius: float) -> np.ndarray:
    """Signed distance to a rectangle with rounded corners around (0, 0)."""
    a = np.abs(u) - (half_width - radius)
    b = np.abs(v) - (half_height - radius)
    return np.hypot(a.clip(0), b.clip(0)) + np.maximum(a, b).clip(None, 0) - radius


def lay(canvas: np.ndarray, colour: np.ndarray | tuple[float, ...], alpha: np.ndarray) -> None:
    """Paint a colour, (3,) or (h, w, 3), over what is on a canvas or a part of it, in place."""
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not len(rows):
        return
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    colour = np.asarray(colour, np.float32)
    colour = colour[part] if colour.ndim == 3 else colour
    canvas, top = canvas[part], alpha[part][..., None].astype(np.float32)
    below = canvas[..., 3:] * (1 - top)
    total = top + below
    canvas[..., :3] += (colour - canvas[..., :3]) * (top / np.maximum(total, 1e-4))
    canvas[..., 3:] = total


class Light(NamedTuple):
    """Where a photo's light comes from, in face coordinates."""

    x: float
    y: float  # negative: from above


def light(face: Face) -> Light:
    """The direction of a photo's light, from how the face's brightness changes from one side to the other."""
    side = len(face.light)
    at = face.points.astype(int).clip(0, side - 1)
    design = np.column_stack([np.ones(len(at)), geometry.CANONICAL])
    slope = np.linalg.lstsq(design, face.light[at[:, 1], at[:, 0]], rcond=None)[0]
    return Light(float(np.clip(1.6 * slope[1], -0.7, 0.7)), float(np.clip(0.8 * slope[2] - 0.35, -0.7, 0.1)))


def fall(of: Light, part: Part = WHOLE) -> np.ndarray:
    """How bright a flat thing is at each place, about 1: the light's slow change across the scene."""
    x, y = plane(part)
    return (1 + 0.25 * of.x * x + 0.1 * (of.y + 0.35) * y - 0.03 * (y - 1)).clip(0.6, 1.35)


def relief(height: np.ndarray, of: Light, depth: float = 1) -> np.ndarray:
    """Brightness 0.3…1.6 of a surface from its height (towards the viewer, in face units); 1 where it is flat."""
    scaled = height * np.float32(depth * geometry.SCALE)
    down, right = np.zeros_like(scaled), np.zeros_like(scaled)
    down[1:-1], right[:, 1:-1] = (scaled[2:] - scaled[:-2]) / 2, (scaled[:, 2:] - scaled[:, :-2]) / 2
    facing = 1 / np.sqrt(1 + down * down + right * right)
    return (0.35 + 0.65 * (1 - of.x * right - of.y * down) * facing).clip(0.3, 1.6)


def tinted(colour: np.ndarray | tuple[float, ...], shade: np.ndarray, warmth: float = 0.0) -> np.ndarray:
    """(h, w, 3): a colour in light of this brightness (h, w); with warmth, as of skin, shadows are redder."""
    lit = shade.astype(np.float32)[..., None]
    if warmth:  # shade ** (1 + power), to first order
        lit = lit * (1 + (lit - 1) * np.array([-warmth, warmth / 2, warmth], np.float32))
    return np.asarray(colour, np.float32) * lit


class Limbs:
    """Fingers, hands and arms, built from rounded parts."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray, float, float, float]] = []

    def add(self, start, end, start_radius: float, end_radius: float, lift: float = 0.0) -> None:
        """Join a capsule from `start` to `end` (face coordinates), `lift` nearer to the viewer than the face."""
        start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
        self.parts.append((start, end, start_radius, end_radius, lift))

    def shaped(self) -> tuple[Part, np.ndarray, np.ndarray]:
        """The part of a canvas around all capsules; there, their height and the signed distance to their border."""
        starts, ends = (np.array([one[i] for one in self.parts]) for i in (0, 1))
        radius = max(max(one[2:4]) for one in self.parts) + 0.1
        low, high = np.minimum(starts, ends).min(axis=0) - radius, np.maximum(starts, ends).max(axis=0) + radius
        part = region(low[0], high[0], low[1], high[1])
        shape = tuple(one.stop - one.start for one in part)
        height, distance = np.zeros(shape, np.float32), np.full(shape, 9, np.float32)
        for start, end, start_radius, end_radius, lift in self.parts:
            reach = max(start_radius, end_radius) + 0.1
            low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
            here = region(low[0], high[0], low[1], high[1])
            x, y = plane(here)
            inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(here, part, strict=True))
            along = end - start
            t = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(float(along @ along), 1e-6)
            t = t.clip(0, 1)
            squared = (x - start[0] - t * along[0]) ** 2 + (y - start[1] - t * along[1]) ** 2
            radii = start_radius + (end_radius - start_radius) * t
            dome = np.sqrt((radii * radii - squared).clip(0))
            height[inner] = np.maximum(height[inner], dome + lift * (dome > 0))
            distance[inner] = np.minimum(distance[inner], np.sqrt(squared) - radii)
        return part, height, distance


def rounded(height: np.ndarray, of: Light) -> np.ndarray:
    """Brightness of limbs of this height, about 1 on average, darker where they touch."""
    smoothed = ndimage.gaussian_filter(height, 1.2, truncate=2)
    around = ndimage.uniform_filter(height, 15)
    shade = relief(smoothed, of, 0.8) * (1 - 0.9 * (around - smoothed).clip(0, 0.3))
    inside = height > 0
    return shade / max(float(shade[inside].mean()), 0.3) if inside.any() else shade
