"""The faces of the unseen set on disk: packed pixels and a manifest, as in data/split/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.dataset import packing

ARCHIVE = Path("data/raw/unseen.zip")
PROVENANCE = Path("metrics/unseen_data.json")
IMAGES_PATH = Path("data/unseen/images.npy")
MANIFEST_PATH = Path("data/unseen/manifest.csv")
BOX = ["face_left", "face_top", "face_right", "face_bottom"]
COLUMNS = ["path", "label", "split", "row", "face_size", *BOX]
NEAR_DUPLICATE = "near_duplicate_of_training"  # value of `split` for faces left out for this reason
UNSEEN = "unseen"  # value of `split` for faces that both models are evaluated on


def read_provenance() -> dict[str, Any]:
    """What the stage unseen_download records. Raises UserError if it is missing or damaged."""
    value = packing.read_json(PROVENANCE, ["images"], "unseen_download")
    if lacking := [key for key in ("source", "name", "kind", "sha256", "failed") if key not in value]:
        raise packing.damaged(PROVENANCE, f"it has no {lacking[0]}", "unseen_download")
    return value


def open_images() -> np.ndarray:
    """(n, size, size, 3) uint8, memory-mapped, read-only. Raw pixels 0…255, RGB."""
    return packing.open_images(IMAGES_PATH, stage="unseen_faces")


def read_manifest(path: str | Path = MANIFEST_PATH) -> pd.DataFrame:
    """One row per face, with COLUMNS.

    `label` is with_mask, without_mask or incorrect. `split` is UNSEEN or the reason why the face is left out. `row` is
    its index in the images array, -1 if it was not cropped. `face_size` is the shorter side of its box in pixels of the
    source image, and BOX is that box in the cropped image, relative to its sides (0…1). Both are NaN for images that
    are labelled by folder or list.
    """
    dtype = {"path": str, "split": str, "row": np.int64, **dict.fromkeys(["face_size", *BOX], float)}
    table = packing.read_table(path, COLUMNS, "unseen_faces", dtype, keep_default_na=True)
    packing.check_length(path, int((table["row"] >= 0).sum()), "unseen_faces")
    return table
