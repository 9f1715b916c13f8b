"""The contact sheet with examples of every hard case."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from face_mask.schema import WITH_MASK, WITHOUT_MASK
from pipeline.dataset.hard_cases import ORIGINAL
from pipeline.hard_cases.cases import CASES, GROUPS
from pipeline.scoring import sheets

EXAMPLES = 4  # of each case
COLUMNS, SIDE = 12, 112
SPLIT = "val"  # nobody should look at drawings on test faces while changing them


def draw(table: pd.DataFrame, images: np.ndarray) -> Image.Image:
    """Draw a block for each group of cases, with the originals of the same faces first."""
    table = table[table["split"] == SPLIT]
    blocks = []
    for group in (ORIGINAL, *GROUPS):
        shown = table[table["group"] == group]
        order = {ORIGINAL: 0} | {case.name: number for number, case in enumerate(CASES)}
        shown = shown.assign(order=shown["case"].map(order)).sort_values(
            ["order", "label", "row"], kind="stable", ignore_index=True
        )
        shown = shown.groupby(["order", "label"], sort=False).head(EXAMPLES)
        words = {WITH_MASK: "with mask", WITHOUT_MASK: "without mask"}
        captions = [(one.case.replace("_", " "), words[one.label]) for one in shown.itertuples()]
        heading = group.replace("_", " ")
        pixels = [images[row] for row in shown["row"]]
        blocks.append(sheets.draw(pixels, captions, columns=COLUMNS, side=SIDE, heading=heading))
    return sheets.stacked(blocks)
