"""The drawn hard cases on disk, and the bins of what is measured of faces as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.dataset import packing

IMAGES_PATH = Path("data/hard_cases/images.npy")
MANIFEST_PATH = Path("data/hard_cases/manifest.csv")
FACES_PATH = Path("data/hard_cases/faces.csv")
COLUMNS = ["row", "case", "group", "label", "source_row", "path", "split"]
ORIGINAL = "original"  # the case of the unchanged photo
STAGE = "draw_hard_cases"

# What is measured of a face, see pipeline/hard_cases/subsets.py: the limits between bins, and the bins' names from
# small to large values. The limits are the terciles of the training images, rounded, except those of the size:
# `python -m tools.hard_cases` prints them.
BINS: dict[str, tuple[tuple[float, float], tuple[str, str, str]]] = {
    "skin": ((33.0, 58.0), ("dark", "medium", "light")),
    "size": ((48.0, 96.0), ("under_48_px", "48_to_95_px", "96_px_and_larger")),
    "sharpness": ((0.29, 0.49), ("blurred", "medium", "sharp")),
    "turn": ((0.08, 0.31), ("frontal", "slightly_turned", "turned")),
    "bent": ((0.36, 0.41), ("up", "level", "down")),
    "covered": ((0.08, 0.19), ("free", "partly_covered", "covered")),
    "lower_covered": ((0.05, 0.15), ("free", "partly_covered", "covered")),
}
UNKNOWN = "unknown"
NOT_MEASURED = ""
BY_CLASS = {"lower_covered": "without_mask"}  # of one class alone
FACE_COLUMNS = ["path", "split", "label", *BINS]


def open_images() -> np.ndarray:
    """(n, size, size, 3) uint8, memory-mapped, read-only. Raw pixels 0…255, RGB."""
    return packing.open_images(IMAGES_PATH, STAGE)


def read_manifest() -> pd.DataFrame:
    """One row per image, with COLUMNS, case after case; no rows if no face could be drawn on."""
    dtype = {"row": np.int64, "source_row": np.int64, "case": str, "group": str, "path": str, "split": str}
    table = packing.read_table(MANIFEST_PATH, COLUMNS, STAGE, dtype, may_be_empty=True)
    packing.check_labels(table, MANIFEST_PATH, STAGE)
    packing.check_length(MANIFEST_PATH, len(table), STAGE)
    return table


def read_faces() -> pd.DataFrame:
    """What was measured of every test and unseen face, with FACE_COLUMNS; NaN where it is unknown."""
    dtype = {"path": str, "split": str, "label": str, **dict.fromkeys(BINS, float)}
    return packing.read_table(FACES_PATH, FACE_COLUMNS, STAGE, dtype, keep_default_na=True)


def bin_of(name: str, values: pd.Series, labels: pd.Series) -> np.ndarray:
    """(n,) names of the bins of one descriptor's values (n,); NOT_MEASURED for faces of a class that it is not of."""
    limits, names = BINS[name]
    numbers = np.digitize(values, limits)  # NaN is above all limits
    found = np.where(values.isna(), UNKNOWN, np.array(names)[numbers.clip(0, len(names) - 1)])
    return np.where(labels == BY_CLASS.get(name, labels), found, NOT_MEASURED)
