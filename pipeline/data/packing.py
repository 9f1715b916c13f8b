"""Memory-mapped arrays with a row a picture, and the manifest that says what each row is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from pipeline.errors import UserError

LABELS = ("without_mask", "with_mask")  # a label's class is its place here; class 1 is the positive one

IMAGES_PATH = Path("data/split/images.npy")
FEATURES_PATH = Path("data/split/features.npy")
MANIFEST_PATH = Path("data/split/manifest.csv")


def write_header(file: BinaryIO, rows: int, size: int) -> None:
    """Start a .npy file of `rows` pictures; their bytes are appended as they come, so none is held in memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def open_images(path: str | Path = IMAGES_PATH, stage: str = "split") -> np.ndarray:
    """(n, size, size, 3) uint8, memory-mapped, read-only, as `stage` wrote it. Raw pixels 0…255, RGB."""
    return open_array(path, stage)


def open_features() -> np.ndarray:
    """(n, 1280) float32, memory-mapped, read-only: what the pretrained MobileNetV2 makes of each row of the images."""
    return open_array(FEATURES_PATH, "features")


def open_array(path: str | Path, stage: str) -> np.ndarray:
    """The array that `stage` wrote, memory-mapped, read-only; UserError where it is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro {stage}`") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc repro --force {stage}`") from None


def read_manifest(path: str | Path = MANIFEST_PATH) -> pd.DataFrame:
    """One row a picture: path, label, split, group, row, content_hash, perceptual_hash, width, height, format.

    `split` is train, val, test, or why the picture is left out. `row` is its place in the images array, -1 if it was
    never decoded. `label` is a name of LABELS.
    """
    try:
        return pd.read_csv(path, dtype={"perceptual_hash": str, "content_hash": str}, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro split`") from None


def rows_of(manifest: pd.DataFrame, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the images array (n,) int64 and classes (n,) int64 of one split, in the manifest's order."""
    chosen = manifest[manifest["split"] == split]
    return chosen["row"].to_numpy(np.int64), to_classes(chosen["label"])


def to_classes(labels: Iterable[str]) -> np.ndarray:
    """Label names to (n,) int64 classes; ValueError for a name that is none."""
    return np.array([LABELS.index(label) for label in labels], np.int64)
