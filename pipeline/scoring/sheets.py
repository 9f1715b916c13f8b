"""Contact sheets: images in a grid, each with a caption, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from face_mask import files

INK, PAPER, WARNING = (31, 35, 40), (255, 255, 255), (179, 0, 27)
TEXT = 13  # pixels
GAP = 10
HEADING = 18  # pixels


def draw(
    images: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]],
    *,
    columns: int = 8,
    side: int = 144,
    heading: str = "",
) -> Image.Image:
    """Draw (h, w, 3) uint8 images, `columns` in a row, each scaled to `side` pixels square above its caption's lines.

    The last line of a caption is red. The `heading` is at the top. Without images the sheet says that there are none.
    """
    font = ImageFont.load_default(TEXT)
    top_edge = GAP + (HEADING + GAP if heading else 0)
    lines = max((len(caption) for caption in captions), default=1)
    cell_width, cell_height = side + GAP, side + GAP + lines * (TEXT + 4)
    rows = -(-len(images) // columns) or 1
    width = min(columns, max(len(images), 3)) * cell_width + GAP
    sheet = Image.new("RGB", (width, top_edge + rows * cell_height), PAPER)
    pen = ImageDraw.Draw(sheet)
    if not images:
        pen.text((GAP, top_edge), "No images to show.", INK, font)
    if heading:
        pen.text((GAP, GAP), heading, INK, ImageFont.load_default(HEADING))
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = GAP + i % columns * cell_width, top_edge + i // columns * cell_height
        sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), (left, top))
        for k, words in enumerate(caption):
            colour = WARNING if k == len(caption) - 1 else INK
            pen.text((left, top + side + 2 + k * (TEXT + 4)), shortened(words, font, side), colour, font)
    return sheet


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Stack sheets vertically."""
    whole = Image.new("RGB", (max(one.width for one in sheets), sum(one.height for one in sheets)), PAPER)
    top = 0
    for one in sheets:
        whole.paste(one, (0, top))
        top += one.height
    return whole


def shortened(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Truncate `words` at the front to `width` pixels, with an ellipsis: the end of a path is the specific part."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength("…" + words) > width:
        words = words[1:]
    return "…" + words


def write(sheet: Image.Image, path: str | Path) -> None:
    """Write the sheet as PNG without metadata: the same bytes for the same images."""
    with files.replacing(path) as aside:
        sheet.save(aside, optimize=True)
