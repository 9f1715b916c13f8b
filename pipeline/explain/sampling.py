"""Selection of the images to explain: half test and half unseen, half with and half without a mask, drawn by seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from face_mask.schema import LABELS, MODELS
from pipeline.dataset import packing, unseen

# set: its images, its manifest, its predictions, the stage that writes the predictions
SOURCES = {
    "test": (packing.IMAGES_PATH, packing.MANIFEST_PATH, packing.PREDICTIONS_PATH, "predict"),
    "unseen": (unseen.IMAGES_PATH, unseen.MANIFEST_PATH, Path("data/unseen/predictions.csv"), "unseen_eval"),
}
PANEL_IMAGES = 4  # of each set, class and outcome


def read_set(name: str, threshold: float) -> pd.DataFrame:
    """Read all images of a set that are labelled with_mask or without_mask.

    The columns are path, set, label, cnn and mobilenet (P(with_mask)), row, the box of the face (NaN if it is not
    annotated), and `correct`: whether both models classify the image correctly.
    """
    _, manifest_path, predictions_path, stage = SOURCES[name]
    predictions = packing.read_predictions(predictions_path, ["path", "label"], stage)
    manifest = (packing if name == "test" else unseen).read_manifest(manifest_path)
    manifest = manifest[(manifest["split"] == name) & manifest["label"].isin(LABELS)]
    manifest = manifest.reindex(columns=["path", "row", *unseen.BOX]).assign(set=name)
    if lacking := set(manifest["path"]) - set(predictions["path"]):
        raise packing.damaged(predictions_path, f"it has no row for {min(lacking)}", stage)
    table = manifest.merge(predictions[["path", "label", *MODELS]], on="path", validate="one_to_one")
    table[unseen.BOX] = table[unseen.BOX].apply(pd.to_numeric, errors="coerce")
    with_mask = table["label"] == LABELS[1]
    table["correct"] = ((table["cnn"] >= threshold) == with_mask) & ((table["mobilenet"] >= threshold) == with_mask)
    return table.sort_values("path", ignore_index=True)


def choose(available: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Choose the images to explain and add two columns.

    `sampled`: whether the image is one of the `count` that the metrics are computed from, a quarter from each set and
    class, or all if there are fewer. `panel`: the name of the panel that shows it, or empty. Correctly classified
    images are shown from the sample; those that at least one model misclassifies come from the whole set, since they
    are few.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for name in SOURCES:
        for label in LABELS:
            part = available[(available["set"] == name) & (available["label"] == label)].copy()
            order = rng.permutation(len(part))
            part["sampled"] = order < count // 4
            part["panel"] = ""
            for outcome, candidates in (
                ("correct", part[part["sampled"] & part["correct"]]),
                ("incorrect", part[~part["correct"]]),
            ):
                shown = candidates.index[rng.permutation(len(candidates))[:PANEL_IMAGES]]
                part.loc[shown, "panel"] = f"{name}_{label}_{outcome}"
            parts.append(part)
    chosen = pd.concat(parts)
    return chosen[chosen["sampled"] | (chosen["panel"] != "")].reset_index(drop=True)
