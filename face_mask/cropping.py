"""Face boxes: in pixels of an image, and as the square that is cropped for a classifier."""

from __future__ import annotations

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom
MIN_INSIDE = 0.5  # fraction of a box that must lie in the image


def in_pixels(box: Box, relative: bool, width: int, height: int) -> Box | None:
    """Clip a box to an image of this size, in pixels; None if less than half of it lies inside, or if it is empty.

    `relative` boxes are given as fractions of width and height.
    """
    scale = np.array((width, height) * 2 if relative else (1, 1) * 2, float)
    left, top, right, bottom = (np.array(box) * scale).tolist()
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if not (left < right and top < bottom and inside[0] < inside[2] and inside[1] < inside[3]):
        return None
    area = (inside[2] - inside[0]) * (inside[3] - inside[1])
    return inside if area >= MIN_INSIDE * (right - left) * (bottom - top) else None


def square_around(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """The square to crop around a box, with `margin` of its longer side around: left, top, right, bottom in pixels.

    At a border the square is shifted into the image; where it is larger than a side of the image, it is clipped and
    later resized to a square, as any image is. Shifting suits the models: training images are whole photographs, a
    third of whose faces are off-centre by a tenth of the side or more, and none has a mirrored or padded border.
    """
    left, top, right, bottom = box
    side = round(max(right - left, bottom - top) * (1 + 2 * margin))
    cut_width, cut_height = max(1, min(side, width)), max(1, min(side, height))
    x = min(max(round((left + right - cut_width) / 2), 0), width - cut_width)
    y = min(max(round((top + bottom - cut_height) / 2), 0), height - cut_height)
    return x, y, x + cut_width, y + cut_height


def within(box: Box, crop: tuple[int, int, int, int]) -> Box:
    """A box as fractions 0…1 of a crop."""
    left, top, right, bottom = crop
    relative = (np.array(box) - (left, top, left, top)) / (right - left, bottom - top, right - left, bottom - top)
    x0, y0, x1, y1 = relative.clip(0, 1).tolist()
    return x0, y0, x1, y1


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, k), 0…1, of boxes (n, 4) and (k, 4); a box is left, top, right, bottom."""
    first, second = np.reshape(first, (-1, 1, 4)).astype(float), np.reshape(second, (1, -1, 4)).astype(float)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    intersection = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
