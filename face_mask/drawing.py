"""Draw boxes, classes and probabilities of faces on an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from face_mask import decoding
from face_mask.outputs import NO_FACE
from face_mask.schema import LABELS

COLOURS = dict(zip(LABELS, ((200, 40, 30), (20, 130, 60)), strict=True))  # white text is legible on each
SHORT = dict(zip(LABELS, ("no mask", "mask"), strict=True))  # a longer label would cover the next face in a crowd
GREY = (90, 90, 90)


def draw(image: np.ndarray, faces: Sequence[dict]) -> np.ndarray:
    """A copy of an image (h, w, 3) uint8 RGB with box, class and probability of `faces`, as outputs.to_dict returns."""
    copy = Image.fromarray(image)  # RGB takes four bytes per pixel there, so the pixels are copied
    canvas = ImageDraw.Draw(copy)
    height, width = image.shape[:2]
    line_width = max(2, round(max(height, width) / 320))  # videos store colours at half the resolution
    font = ImageFont.load_default(max(9, round(max(height, width) / 60)))
    for face in faces:
        left, top, right, bottom = face["box"]
        colour = COLOURS[face["class"]]
        canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line_width)
        unsure = "" if face["prediction_set"] in (None, face["class"]) else "?"
        text = f"{SHORT[face['class']]}{unsure} {face['probability']:.2f}"
        draw_label(canvas, (left, top), text, colour, font, copy.size)
    if not faces:
        draw_label(canvas, (0, 0), NO_FACE, GREY, font, copy.size)
    return decoding.to_array(copy)


def draw_label(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """Draw white text on a filled rectangle with the lower left corner `corner`, shifted to lie in the image.

    `size` is the image's width and height.
    """
    x0, y0, x1, y1 = canvas.textbbox((0, 0), text, font=font)
    width, height = x1 - x0 + 4, y1 - y0 + 4
    x = max(0, min(corner[0], size[0] - width))
    y = max(0, corner[1] - height)
    canvas.rectangle((x, y, x + width, y + height), fill=colour)
    canvas.text((x + 2 - x0, y + 2 - y0), text, fill="white", font=font)
