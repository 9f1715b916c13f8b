"""The training pool: changed copies of faces, so that models learn what a mask is and what it is not.

From a face without a mask: one with a drawn mask, `with_mask`, and one with an object or a beard before the mouth, or
with a mask under the nose or on the chin, `without_mask`. From some faces with a mask: the same in another colour. All
are drawn with the fabrics, outlines, styles and objects of the family "training"; the hard cases have others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from face_mask.schema import LABELS
from pipeline.core.parallel import ordered_map
from pipeline.dataset import packing
from pipeline.drawing import geometry, masks, objects
from pipeline.drawing.compositing import Face, Layer, compose, describe

FAMILY = "training"
CHUNK = 32  # faces that a worker changes at a time
INCORRECT = 0.4  # fraction of the changed faces without a mask that wear one under the nose or on the chin
RECOLOURED = 0.4  # fraction of the faces with a mask that are recoloured

Drawing = Callable[[Face, np.random.Generator, str], list[Layer]]


class Changed(NamedTuple):
    kind: str
    label: str
    pixels: np.ndarray  # (s, s, 3) uint8


def change(image: np.ndarray, label: str, rng: np.random.Generator, incorrect: bool) -> list[Changed]:
    """Changed copies of an image (s, s, 3) uint8 of class `label`; none if its face cannot be drawn on.

    `incorrect`: whether incorrectly worn masks are among them, as without_mask.
    """
    points = geometry.usable(image)
    if points is None:
        return []
    without, worn = LABELS
    face = describe(image, points)
    if label == worn:
        recoloured = masks.recoloured(face, rng, FAMILY) if rng.random() < RECOLOURED else None
        return [] if recoloured is None else [Changed("recoloured", worn, recoloured)]
    kind = str(rng.choice(masks.KINDS))
    positive = compose(face, masks.worn(face, rng, FAMILY, kind), rng)
    name, drawing = choose_negative(rng, incorrect)
    negative = compose(face, drawing(face, rng, FAMILY), rng)
    return [Changed(f"mask_{kind}", worn, positive), Changed(name, without, negative)]


def choose_negative(rng: np.random.Generator, incorrect: bool) -> tuple[str, Drawing]:
    """Choose what a face without a mask gets: the name and the drawing."""
    if incorrect and rng.random() < INCORRECT:
        return ("under_nose", masks.under_nose) if rng.random() < 0.5 else ("on_chin", masks.on_chin)
    name = str(rng.choice(sorted(objects.OBJECTS[FAMILY])))
    return name, objects.OBJECTS[FAMILY][name]


def change_chunk(rows: list[tuple[int, str]], seed: int, incorrect: bool) -> tuple[np.ndarray, pd.DataFrame]:
    """Changed copies of some images, given by row and class: pixels (k, s, s, 3) uint8, and a table of k rows."""
    images = packing.open_images()
    pixels, entries = [], []
    for row, label in rows:
        # Of each image by itself, so that it does not matter which others are in the training set.
        for changed in change(images[row], label, np.random.default_rng([seed, row]), incorrect):
            pixels.append(changed.pixels)
            entries.append((changed.kind, changed.label, row))
    packed = np.stack(pixels) if pixels else np.empty((0, *images.shape[1:]), np.uint8)
    return packed, pd.DataFrame(entries, columns=["kind", "label", "source_row"])


def write(path: Path, rows: pd.DataFrame, seed: int, incorrect: bool, shard_images: int = 0) -> pd.DataFrame:
    """Write the changed copies of the images `rows` of the manifest into one packed array.

    Returns a row for each copy: kind, label, split and source_row. See packing.write_array for `shard_images`.
    """
    items = list(zip(rows["row"].tolist(), rows["label"].tolist(), strict=True))
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    tables: list[pd.DataFrame] = []
    with tqdm(total=len(items), unit="image", desc="counterfactuals", delay=1) as bar:

        def changed_pixels() -> Iterator[np.ndarray]:
            for pixels, table in ordered_map(partial(change_chunk, seed=seed, incorrect=incorrect), chunks):
                yield pixels
                tables.append(table)
                bar.update(min(CHUNK, len(items) - bar.n))

        packing.write_array(path, changed_pixels(), None, shard_images)
    result = pd.concat(tables, ignore_index=True)
    return result.merge(rows[["row", "split"]].rename(columns={"row": "source_row"}), "left", validate="many_to_one")
