"""The worst errors of both models on one picture: what is wrong is seen sooner than counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.data.packing import LABELS
from pipeline.scoring import sheets

SHOWN = 12  # of each model
WORDS = {"with_mask": "masked", "without_mask": "bare"}


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
    judged = int(table["label"].isin(LABELS).sum())
    blocks = []
    for model, title in titles.items():
        errors = worst(table, model, threshold)
        shown = errors.head(SHOWN)
        which = f", the {SHOWN} surest first" if len(errors) > SHOWN else ", the surest first" if len(shown) > 1 else ""
        captions = [
            (
                f"is {WORDS[one.label]}" + ("" if np.isnan(one.face_size) else f", {one.face_size:.0f} px"),
                f"called {WORDS[LABELS[int(one.called_masked)]]} {percent(one.sure)}",
            )
            for one in shown.itertuples()
        ]
        heading = f"{title}: {len(errors)} errors on {judged} faces{which}"
        blocks.append(sheets.draw([images[row] for row in shown["row"]], captions, columns=6, heading=heading))
    return sheets.stacked(blocks)


def percent(share: float) -> str:
    """With one digit, and never 100 % for what is less."""
    return f"{min(100 * share, 99.9):.1f} %" if share < 1 else "100 %"
