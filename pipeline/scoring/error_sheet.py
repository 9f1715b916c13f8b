"""The worst errors of both models on one picture: what is wrong is seen sooner than counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from pipeline.data.packing import LABELS

COLUMNS, ROWS = 6, 2  # of tiles, for each model
TILE, CAPTION, GAP, HEADING = 144, 52, 12, 40  # pixels
WORDS = {"with_mask": "masked", "without_mask": "bare"}
BLACK, RED = (0, 0, 0), (170, 0, 0)


def worst(table: pd.DataFrame, model: str, threshold: float) -> pd.DataFrame:
    """The rows of the faces that a model gets wrong, the surest first; of equals, the first path.

    `table`: path, label, row, face_size, and P(with_mask) in a column named like the model.
    """
    called_masked = table[model] >= threshold
    wrong = table["label"].isin(LABELS) & (called_masked != (table["label"] == "with_mask"))
    sure = table[model].where(called_masked, 1 - table[model])
    return table.assign(called_masked=called_masked, sure=sure)[wrong].sort_values(
        ["sure", "path"], ascending=[False, True]
    )


def draw(table: pd.DataFrame, images: np.ndarray, titles: dict[str, str], threshold: float) -> Image.Image:
    """A block for each model in `titles` (model → its name for people): a heading, and its worst errors with captions.

    A caption has what the face is, what it was called and how surely, and the face's size in the source.
    """
    block = HEADING + ROWS * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", (GAP + COLUMNS * (TILE + GAP), len(titles) * block + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(18), ImageFont.load_default(14)
    judged = int(table["label"].isin(LABELS).sum())
    for place, (model, title) in enumerate(titles.items()):
        errors = worst(table, model, threshold)
        top = place * block
        shown = min(len(errors), COLUMNS * ROWS)
        which = f", the {shown} surest first" if len(errors) > shown else ", the surest first" if shown > 1 else ""
        pen.text((GAP, top + GAP), f"{title}: {len(errors)} errors on {judged} faces{which}", BLACK, bold)
        for number, error in enumerate(errors.head(shown).itertuples()):
            x = GAP + number % COLUMNS * (TILE + GAP)
            y = top + HEADING + number // COLUMNS * (TILE + CAPTION + GAP)
            face = Image.fromarray(images[error.row]).resize((TILE, TILE), Image.Resampling.BICUBIC)
            sheet.paste(face, (x, y))
            called = WORDS[LABELS[int(error.called_masked)]]
            size = "" if np.isnan(error.face_size) else f", {error.face_size:.0f} px"
            pen.text((x, y + TILE + 4), f"is {WORDS[error.label]}{size}", BLACK, plain)
            pen.text((x, y + TILE + 24), f"called {called} {percent(error.sure)}", RED, plain)
    return sheet


def percent(share: float) -> str:
    """With one digit, and never 100 % for what is less."""
    return f"{min(100 * share, 99.9):.1f} %" if share < 1 else "100 %"
