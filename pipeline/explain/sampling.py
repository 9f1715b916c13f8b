"""Which pictures are explained: as many of the test set as of the unseen one, as many masked as bare, drawn by seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data import packing, unseen
from pipeline.errors import UserError

# set: its images, its manifest, its predictions, the stage that makes them
SOURCES = {
    "test": (packing.IMAGES_PATH, packing.MANIFEST_PATH, Path("data/predictions.csv"), "evaluate"),
    "unseen": (unseen.IMAGES_PATH, unseen.MANIFEST_PATH, Path("data/unseen/predictions.csv"), "unseen_eval"),
}
PANEL_PICTURES = 4  # of each set, class and outcome


def read_pictures(name: str, threshold: float) -> pd.DataFrame:
    """All pictures of a set that are with_mask or without_mask: path, set, label, cnn, mobilenet (P(with_mask)), row,
    the box of the face (NaN where no annotation says), and `right`: whether both models call it what it is."""
    _, manifest_path, predictions_path, stage = SOURCES[name]
    try:
        predictions = pd.read_csv(predictions_path, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{predictions_path} is missing: run `dvc repro {stage}`") from None
    manifest = packing.read_manifest(manifest_path)
    manifest = manifest[(manifest["split"] == name) & manifest["label"].isin(packing.LABELS)]
    manifest = manifest.reindex(columns=["path", "row", *unseen.BOX]).assign(set=name)
    table = manifest.merge(predictions[["path", "label", "cnn", "mobilenet"]], on="path", validate="one_to_one")
    table[unseen.BOX] = table[unseen.BOX].apply(pd.to_numeric, errors="coerce")
    masked = table["label"] == packing.LABELS[1]
    table["right"] = ((table["cnn"] >= threshold) == masked) & ((table["mobilenet"] >= threshold) == masked)
    return table.sort_values("path", ignore_index=True)


def choose(pictures: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """The pictures to explain, with two more columns.

    `sampled`: one of `count` that the figures are computed from, a quarter from each set and class, or all where there
    are fewer. `panel`: the name of the panel it is shown in, else empty. Right ones are shown from the sample; wrong
    ones, those that at least one model calls what they are not, from the whole set, since they are few.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for name in SOURCES:
        for label in packing.LABELS:
            part = pictures[(pictures["set"] == name) & (pictures["label"] == label)].copy()
            order = rng.permutation(len(part))
            part["sampled"] = order < count // 4
            part["panel"] = ""
            for outcome, candidates in (
                ("right", part[part["sampled"] & part["right"]]),
                ("wrong", part[~part["right"]]),
            ):
                shown = candidates.index[rng.permutation(len(candidates))[:PANEL_PICTURES]]
                part.loc[shown, "panel"] = f"{name}_{label}_{outcome}"
            parts.append(part)
    chosen = pd.concat(parts)
    return chosen[chosen["sampled"] | (chosen["panel"] != "")].reset_index(drop=True)
