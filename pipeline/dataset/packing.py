"""Memory-mapped arrays with one row per image, and the manifest that describes each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from face_mask.errors import UserError
from face_mask.schema import LABELS

IMAGES_PATH = Path("data/split/images.npy")
FEATURES_PATH = Path("data/split/features.npy")
DECODED_PATH = Path("data/split/decoded.csv")
MANIFEST_PATH = Path("data/split/manifest.csv")
# Hashes that consist of digits would be read as numbers.
TEXT: dict[str, type] = {"perceptual_hash": str, "mirrored_hash": str, "content_hash": str}


def write_header(file: BinaryIO, rows: int, size: int) -> None:
    """Write the header of a .npy file of `rows` images; their pixels are appended later, so none is held in memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def open_images(path: str | Path = IMAGES_PATH, stage: str = "decode") -> np.ndarray:
    """(n, size, size, 3) uint8, memory-mapped, read-only, as `stage` wrote it. Raw pixels 0…255, RGB."""
    return open_array(path, stage)


def open_features() -> np.ndarray:
    """(n, 1280) float32, memory-mapped, read-only: pretrained MobileNetV2 features of each row of the images."""
    return open_view_features()[0]


def open_view_features() -> np.ndarray:
    """(6, n, 1280) float32, memory-mapped, read-only: the same for each of views.VIEWS; the first is the image."""
    return open_array(FEATURES_PATH, "features")


def open_array(path: str | Path, stage: str) -> np.ndarray:
    """Open the array that `stage` wrote, memory-mapped, read-only. Raises UserError if it is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro {stage}`") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc repro --force {stage}`") from None


def read_manifest(path: str | Path = MANIFEST_PATH) -> pd.DataFrame:
    """One row per image: path, label, split, group, row, content_hash, perceptual_hash, width, height, format.

    `split` is train, val, test, or the reason why the image is left out. `row` is its index in the images array, -1 if
    it is not used. `label` is one of LABELS.
    """
    return read_table(path, ["path", "split", "row"], "split", TEXT)


def read_decoded() -> pd.DataFrame:
    """One row per image of the archive, in the order of the images array: see stage `decode`."""
    return read_table(DECODED_PATH, ["path", "label", "perceptual_hash", "mirrored_hash", "bad"], "decode", TEXT)


def hashes_of(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Perceptual hashes and those of the mirror images, (n,) uint64 each."""
    columns = (table[name] for name in ("perceptual_hash", "mirrored_hash"))
    first, second = (np.array([int(value, 16) for value in column], np.uint64) for column in columns)
    return first, second


def rows_of(manifest: pd.DataFrame, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the images array (n,) int64 and classes (n,) int64 of one split, in the manifest's order."""
    chosen = manifest[manifest["split"] == split]
    return chosen["row"].to_numpy(np.int64), to_classes(chosen["label"])


def to_classes(labels: Iterable[str]) -> np.ndarray:
    """Convert label names to (n,) int64 classes. Raises ValueError for an unknown name."""
    return np.array([LABELS.index(label) for label in labels], np.int64)


def read_history(model: str) -> pd.DataFrame:
    """One row per epoch of a model's training: epoch, loss, accuracy, val_loss, val_accuracy, …"""
    return read_table(Path("models") / f"history_{model}.csv", ["epoch", "val_loss"], f"train_{model}")


def read_table(
    path: str | Path,
    columns: Sequence[str],
    stage: str,
    dtype: Mapping[str, type] | None = None,
    keep_default_na: bool = False,
) -> pd.DataFrame:
    """The CSV that `stage` wrote. Raises UserError if it is missing, damaged, or lacks one of `columns`."""
    try:
        table = pd.read_csv(path, dtype=dict(dtype or {}), keep_default_na=keep_default_na)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro {stage}`") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc repro --force {stage}`") from None
    if lacking := [column for column in columns if column not in table.columns]:
        raise UserError(f"{path} has no column {lacking[0]}: run `dvc repro --force {stage}`")
    return table
