"""The faces of the foreign set on disk: packed pixels and a manifest, as data/split/ is for the training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data import packing
from pipeline.errors import UserError

ARCHIVE = Path("data/raw/unseen.zip")
PROVENANCE = Path("metrics/unseen_data.json")
IMAGES_PATH = Path("data/unseen/images.npy")
MANIFEST_PATH = Path("data/unseen/manifest.csv")
BOX = ["face_left", "face_top", "face_right", "face_bottom"]
COLUMNS = ["path", "label", "split", "row", "face_size", *BOX]
UNSEEN = "unseen"  # what `split` says of a face that both models are judged on


def open_images() -> np.ndarray:
    """(n, size, size, 3) uint8, memory-mapped, read-only. Raw pixels 0…255, RGB."""
    return packing.open_images(IMAGES_PATH, stage="unseen_faces")


def read_manifest(path: str | Path = MANIFEST_PATH) -> pd.DataFrame:
    """One row a face: COLUMNS.

    `label` is with_mask, without_mask or incorrect. `split` is UNSEEN or why the face is left out. `row` is its place
    in the images array, -1 if it was not cut out. `face_size` is the shorter side of its box in pixels of the source,
    and BOX where that lies in the cut picture, as shares 0…1; all NaN where nothing but a folder or list says whose
    face it is.
    """
    try:
        return pd.read_csv(path, dtype={"path": str, "split": str, **dict.fromkeys(["face_size", *BOX], float)})
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro unseen_faces`") from None
