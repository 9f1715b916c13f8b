"""Simulate a webcam on a still image: choose whose face it shows, and move its view over the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from face_mask.cropping import Box

NEAR, FAR = 0.42, 0.28  # height of the face as a fraction of the view's, at the end and at the start
SWAY = 0.06  # amplitude as a fraction of the view's height; one period horizontally and two vertically


def alternate(labels: Sequence[str], classes: Sequence[str], max_count: int, seed: int) -> list[int]:
    """Indices of up to `max_count` of n `labels`, drawn at random, with the `classes` in turn.

    Classes without any label are skipped; each of the others occurs as often as the rarest of them allows.
    """
    generator = np.random.default_rng(seed)
    values = np.asarray(labels, dtype=object)
    shuffled = [generator.permutation(np.flatnonzero(values == label)) for label in classes if label in labels]
    if not shuffled:
        return []
    rounds = min(math.ceil(max_count / len(shuffled)), *(len(indices) for indices in shuffled))
    return [int(indices[i]) for i in range(rounds) for indices in shuffled][:max_count]


def view(face: Box, progress: float, image_size: tuple[int, int], frame_size: tuple[int, int]) -> Box:
    """The part of an image that the frame shows when `progress`, 0…1, of the time has passed, in pixels of the image.

    Sizes are width and height. The view approaches the face and sways. It keeps the frame's aspect ratio and stays in
    the image, so a face that fills its image is shown from as far as that allows.
    """
    width, height = image_size
    aspect_ratio = frame_size[0] / frame_size[1]
    left, top, right, bottom = face
    face_height = FAR * (NEAR / FAR) ** progress  # as a fraction of the view's
    view_height = min((bottom - top) / face_height, height, width / aspect_ratio)
    view_width = view_height * aspect_ratio
    x = (left + right) / 2 + SWAY * view_height * math.sin(2 * math.pi * progress)
    y = (top + bottom) / 2 + SWAY * view_height * math.sin(4 * math.pi * progress)
    x = min(max(x - view_width / 2, 0.0), width - view_width)
    y = min(max(y - view_height / 2, 0.0), height - view_height)
    return x, y, x + view_width, y + view_height


def render(image: Image.Image, view: Box, frame_size: tuple[int, int]) -> np.ndarray:
    """The frame (height, width, 3) uint8 RGB that shows a view, resampled so that it moves by fractions of a pixel."""
    return np.asarray(image.resize(frame_size, Image.Resampling.BICUBIC, box=view, reducing_gap=2.0))


def to_frame(box: Box, view: Box, frame_size: tuple[int, int]) -> Box:
    """Convert a box from pixels of the image to pixels of the frame that shows `view`, clipped to the frame."""
    scale = frame_size[0] / (view[2] - view[0])
    scaled = (np.array(box) - (view[0], view[1]) * 2) * scale
    left, top, right, bottom = scaled.clip(0, [*frame_size, *frame_size]).tolist()
    return left, top, right, bottom
