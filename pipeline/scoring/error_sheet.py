"""The most confident errors of both models on one contact sheet."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from face_mask.schema import LABELS
from pipeline.scoring import sheets

SHOWN = 12  # of each model
WORDS = {"with_mask": "mask", "without_mask": "no mask"}


def worst(table: pd.DataFrame, model: str, threshold: float) -> pd.DataFrame:
    """The rows of the faces that a model misclassifies, the most confident first, then by path.

    `table`: path, label, row, face_size, and P(with_mask) in a column named after the model. The result also has
    `predicted_mask` (bool) and `confidence` in the predicted class.
    """
    predicted_mask = table[model] >= threshold
    wrong = table["label"].isin(LABELS) & (predicted_mask != (table["label"] == "with_mask"))
    confidence = table[model].where(predicted_mask, 1 - table[model])
    return table.assign(predicted_mask=predicted_mask, confidence=confidence)[wrong].sort_values(
        ["confidence", "path"], ascending=[False, True]
    )


def draw(table: pd.DataFrame, images: np.ndarray, titles: dict[str, str], threshold: float) -> Image.Image:
    """Draw a block for each model in `titles` (model → displayed name): a heading and its worst errors with captions.

    A caption gives the label, the face's size in the source image, and the predicted class with its confidence.
    """
    n = int(table["label"].isin(LABELS).sum())
    blocks = []
    for model, title in titles.items():
        errors = worst(table, model, threshold)
        shown = errors.head(SHOWN)
        which = f"; the {SHOWN} most confident" if len(errors) > SHOWN else ""
        captions = [
            (
                f"label: {WORDS[one.label]}" + ("" if np.isnan(one.face_size) else f", {one.face_size:.0f} px"),
                f"predicted: {WORDS[LABELS[int(one.predicted_mask)]]} {percent(one.confidence)}",
            )
            for one in shown.itertuples()
        ]
        heading = f"{title}: {len(errors)} errors on {n:,} faces{which}"
        blocks.append(sheets.draw([images[row] for row in shown["row"]], captions, columns=6, heading=heading))
    return sheets.stacked(blocks)


def percent(probability: float) -> str:
    """Format with one decimal, and never as 100 % unless the probability is 1."""
    return f"{min(100 * probability, 99.9):.1f} %" if probability < 1 else "100 %"
