"""Boxes of faces: in pixels of a picture, and as the square that is cut out for a classifier."""

from __future__ import annotations

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom
LEAST_INSIDE = 0.5  # share of a box that must lie in the picture


def in_pixels(box: Box, relative: bool, width: int, height: int) -> Box | None:
    """The part of a box that lies in a picture of this size, in pixels; None where that is less than half of it.

    A box that is inverted or empty is None too.
    """
    scale = np.array((width, height) * 2 if relative else (1, 1) * 2, float)
    left, top, right, bottom = (np.array(box) * scale).tolist()
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if not (left < right and top < bottom and inside[0] < inside[2] and inside[1] < inside[3]):
        return None
    area = (inside[2] - inside[0]) * (inside[3] - inside[1])
    return inside if area >= LEAST_INSIDE * (right - left) * (bottom - top) else None


def square_around(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square to cut, in whole pixels: the box with `margin` of its longer side around.

    At a border the square is shifted into the picture, and where it is larger than a side of the picture, it ends with
    it and is squashed later, as pictures of any shape are. Training pictures are whole photographs: a third of their
    faces lie off the centre by a tenth of the side or more, and none continues mirrored beyond its edge.
    """
    left, top, right, bottom = box
    side = round(max(right - left, bottom - top) * (1 + 2 * margin))
    cut_width, cut_height = max(1, min(side, width)), max(1, min(side, height))
    x = min(max(round((left + right - cut_width) / 2), 0), width - cut_width)
    y = min(max(round((top + bottom - cut_height) / 2), 0), height - cut_height)
    return x, y, x + cut_width, y + cut_height


def within(box: Box, cut: tuple[int, int, int, int]) -> Box:
    """A box as shares 0…1 of the picture that was cut out."""
    left, top, right, bottom = cut
    shares = (np.array(box) - (left, top, left, top)) / (right - left, bottom - top, right - left, bottom - top)
    x0, y0, x1, y1 = shares.clip(0, 1).tolist()
    return x0, y0, x1, y1


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, k) shares 0…1 that boxes (n, 4) and (k, 4) have in common; a box is left, top, right, bottom."""
    first, second = np.reshape(first, (-1, 1, 4)).astype(float), np.reshape(second, (1, -1, 4)).astype(float)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
