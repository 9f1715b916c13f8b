"""Which faces are used for hard cases, every case drawn on them, and the manifest of the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from face_mask.schema import LABELS
from pipeline.core.parallel import ordered_map
from pipeline.dataset import hard_cases, packing, splitting
from pipeline.drawing import compositing, face_mesh, geometry
from pipeline.hard_cases import subsets
from pipeline.hard_cases.cases import CASES


class Source(NamedTuple):
    """A photo in a packed array: what the worker processes get."""

    images: Path
    row: int
    label: str = ""
    seed: int = 0
    scale: float = 1.0  # pixels of the photo per pixel of the image


class Description(NamedTuple):
    usable: bool  # whether it can be drawn on
    values: dict[str, float]  # of hard_cases.BINS


def describe(source: Source) -> Description:
    image = np.asarray(packing.open_images(source.images)[source.row])
    found = face_mesh.landmarks(image)
    usable = found is not None and geometry.can_be_drawn_on(found)
    return Description(usable, subsets.measure(image, found, source.scale))


def describe_all(table: pd.DataFrame, images: Path) -> pd.DataFrame:
    """path, label, split, row of each image, whether it is `usable` to draw on, and hard_cases.BINS.

    Faces of the unseen set have the size of their box in `face_size`; of other images the table has width and height.
    """
    side = packing.open_images(images).shape[1]
    scale = np.sqrt(table["width"] * table["height"]) / side if "width" in table else np.ones(len(table))
    sources = [Source(images, int(row), scale=float(one)) for row, one in zip(table["row"], scale, strict=True)]
    found = list(ordered_map(describe, sources))
    result = table[["path", "label", "split", "row"]].reset_index(drop=True)
    values = pd.DataFrame([one.values for one in found], columns=list(hard_cases.BINS), dtype=float)
    if "face_size" in table:
        values["size"] = table["face_size"].to_numpy()
    return result.assign(usable=[one.usable for one in found]).join(values)


def choose(table: pd.DataFrame, numbers: Mapping[str, int], seed: int) -> pd.DataFrame:
    """At most `numbers[split]` usable faces of each class and split, drawn by seed, in the order of the table."""
    usable = table[table["usable"] & table["split"].isin(list(numbers)) & table["label"].isin(LABELS)]
    # Not of the path alone: by those keys the stage `split` chose the test set, so they would prefer images without
    # duplicates.
    names = [f"hard case: {path}" for path in usable["path"]]
    keys = pd.Series(splitting.random_keys(names, seed), index=usable.index)
    rank = keys.groupby([usable["split"], usable["label"]]).rank(method="first")
    most = np.array([numbers[split] for split in usable["split"]], float)
    return usable[rank.to_numpy() <= most].reset_index(drop=True)


def draw_cases(source: Source) -> list[tuple[int, np.ndarray]]:
    """Number in CASES, or -1 for the original, and image (s, s, 3) uint8 of every case that can be drawn on a face."""
    image = np.asarray(packing.open_images(source.images)[source.row])
    found = face_mesh.landmarks(image)
    if found is None:
        return []
    face = compositing.describe(image, found.points)
    drawn = [(-1, image)]
    for number, case in enumerate(CASES):
        if case.source == source.label:
            rng = np.random.default_rng([source.seed, number, source.row])
            changed = case.change(image, face, rng)
            drawn += [] if changed is None else [(number, changed)]
    return drawn


def draw_all(chosen: pd.DataFrame, path: Path, size: int, seed: int) -> pd.DataFrame:
    """Write the packed images of all cases to `path`, face after face; return their manifest in the order of CASES."""
    sources = [Source(packing.IMAGES_PATH, one.row, one.label, seed) for one in chosen.itertuples()]
    rows: list[tuple] = []
    with path.open("w+b") as file:
        packing.write_header(file, len(sources) * (1 + len(CASES)), size)
        for one, drawn in zip(chosen.itertuples(), ordered_map(draw_cases, sources), strict=True):
            for number, image in drawn:
                name, group, label = (
                    (hard_cases.ORIGINAL, hard_cases.ORIGINAL, one.label)
                    if number < 0
                    else (CASES[number].name, CASES[number].group, CASES[number].label)
                )
                rows.append((len(rows), name, group, label, one.row, one.path, one.split))
                file.write(np.ascontiguousarray(image).tobytes())
        file.seek(0)
        packing.write_header(file, len(rows), size)  # as long as the first: NumPy leaves room for the rows to grow
    table = pd.DataFrame(rows, columns=hard_cases.COLUMNS)
    place = {(case.name, case.label): number for number, case in enumerate(CASES)}
    order = [place.get(key, -1) for key in zip(table["case"], table["label"], strict=True)]
    return table.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
