"""Memory-mapped arrays with one row per image, and the manifest that describes each row.

An array is a .npy file, or, with data.shard_images, a folder of that name with the files 00000.npy, 00001.npy, … (the
shards), each of which has the next rows.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
import pandas as pd

from face_mask.errors import UserError
from face_mask.schema import LABELS, MODELS, SPLITS

IMAGES_PATH = Path("data/split/images.npy")
FEATURES_PATH = Path("data/split/features.npy")
DECODED_PATH = Path("data/split/decoded.csv")
MANIFEST_PATH = Path("data/split/manifest.csv")
PREDICTIONS_PATH = Path("data/predictions.csv")
SUSPECTS_PATH = Path("data/audit/label_issues.csv")
COUNTERFACTUALS_PATH = Path("data/counterfactuals/images.npy")
SHARD = "{:05d}.npy"
# Hashes that consist of digits would be read as numbers.
TEXT: dict[str, type] = {"perceptual_hash": str, "mirrored_hash": str, "content_hash": str}


def write_header(file: BinaryIO, rows: int, size: int) -> None:
    """Write the header of a .npy file of `rows` images; their pixels are appended later, so none is held in memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def write_array(path: Path, parts: Iterable[np.ndarray], n: int | None, shard_images: int = 0, axis: int = 0) -> None:
    """Write an array of `n` rows along `axis`, given in parts along it in order, which are all that is held in memory.

    With `shard_images`, `path` becomes a folder of .npy files with that many rows each; the last may have fewer. Along
    axis 0, `n` may be None: then the array has all rows of the parts.
    """
    size, done, first = shard_images or n or 2**62, 0, 0
    if shard_images:
        path.mkdir()
    for part in parts:
        while part.shape[axis] or not first:  # an array without rows has a file too
            shard, row = divmod(done, size)
            now, part = np.split(part, [min(size - row, part.shape[axis])], axis)
            added, row_shape = now.shape[axis], now.shape[axis + 1 :]
            rows = row + added if n is None else min(size, n - shard * size)
            # Not into a memory map: where the disk is full, writing to one kills the process.
            with (path / SHARD.format(shard) if shard_images else path).open("r+b" if row else "wb") as file:
                if row == 0 or n is None:  # in a header, NumPy leaves room for any number of rows
                    shape = (*now.shape[:axis], rows, *row_shape)
                    header = {"descr": np.lib.format.dtype_to_descr(now.dtype), "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    first = file.tell()
                row_bytes = math.prod(row_shape) * now.itemsize
                for i, block in enumerate(now.reshape(math.prod(now.shape[:axis]), added, *row_shape)):
                    file.seek(first + (i * rows + row) * row_bytes)
                    file.write(block.tobytes())
            done += added


class Shards:
    """Memory-mapped parts of an array (n, …) along its first axis, whose rows can be read as if it were one array."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts, self.dtype = parts, parts[0].dtype
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self.ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Read a row, or the rows of a slice or of an array of integers or booleans."""
        index = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        if index.dtype == bool and index.shape == (len(self),):
            index = np.flatnonzero(index)
        if index.ndim > 1 or (index.size and index.dtype.kind not in "iu"):
            raise IndexError(f"rows of shards are read by integers, slices and arrays, not by {rows!r}")
        if index.size and not -len(self) <= index.min() <= index.max() < len(self):
            raise IndexError(f"rows {index.min()} to {index.max()} are not all among {len(self)} rows")
        index = np.where(index < 0, index + len(self), index).astype(np.int64)
        shard = np.searchsorted(self.ends, index, side="right")
        if index.ndim == 0:
            return self.parts[int(shard)][int(index - self.ends[shard])]
        result = np.empty((len(index), *self.shape[1:]), self.dtype)
        for k in np.unique(shard):
            result[shard == k] = self.parts[k][index[shard == k] - self.ends[k]]  # the same row, counted from the end
        return result

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)


def open_images(path: str | Path = IMAGES_PATH, stage: str = "decode") -> np.ndarray:
    """(n, size, size, 3) uint8, memory-mapped, read-only, as `stage` wrote it. Raw pixels 0…255, RGB."""
    return open_array(path, stage)


def open_features() -> np.ndarray:
    """(n, 1280) float32, memory-mapped, read-only: pretrained MobileNetV2 features of each row of the images."""
    return open_view_features()[0]


def open_view_features() -> np.ndarray:
    """(6, n, 1280) float32, memory-mapped, read-only: the same for each of views.VIEWS; the first is the image.

    A list of six arrays if they are in shards. Raises UserError if they are missing, damaged, or not those of the
    images array, whose length the tables have.
    """
    parts = open_parts(FEATURES_PATH, "features", axis=1)
    length = sum(part.shape[1] for part in parts)
    if IMAGES_PATH.exists() and (n := len(open_images())) != length:
        raise UserError(f"{FEATURES_PATH} is of {length} images, but {IMAGES_PATH} has {n}: run `dvc repro features`")
    if len(parts) == 1:
        return parts[0]
    return cast(np.ndarray, [Shards([part[view] for part in parts]) for view in range(len(parts[0]))])


def open_array(path: str | Path, stage: str) -> np.ndarray:
    """Open the array that `stage` wrote, memory-mapped, read-only. Raises UserError if it is missing or damaged.

    One in shards is not an ndarray, but has what is used of one: see Shards.
    """
    parts = open_parts(path, stage)
    return parts[0] if len(parts) == 1 else cast(np.ndarray, Shards(parts))


def open_parts(path: str | Path, stage: str, axis: int = 0) -> list[np.ndarray]:
    """The array that `stage` wrote, in its parts along `axis`: its shards, or the only one."""
    path = Path(path)
    # By number: from 100,000 on, names have more than five digits.
    shards = sorted(path.iterdir(), key=lambda one: (len(one.name), one.name)) if path.is_dir() else [path]
    expected = [SHARD.format(k) for k in range(max(len(shards), 1))]
    if path.is_dir() and (missing := sorted({*expected} - {shard.name for shard in shards})):
        raise damaged(path, f"it has no {missing[0]}", stage)
    try:
        parts = [np.load(shard, mmap_mode="r") for shard in shards]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro {stage}`") from None
    except (ValueError, EOFError) as error:
        raise damaged(path, error, stage) from None
    lengths = [part.shape[axis] for part in parts if part.ndim > axis]
    alike = {(part.dtype, part.shape[:axis], part.shape[axis + 1 :]) for part in parts}
    if len(alike) > 1 or (len(parts) > 1 and (len({*lengths[:-1]}) > 1 or lengths[-1] > lengths[0])):
        raise damaged(path, "its shards do not fit together", stage)
    return parts


def read_manifest(path: str | Path = MANIFEST_PATH) -> pd.DataFrame:
    """One row per image: path, label, split, group, row, content_hash, perceptual_hash, width, height, format.

    `split` is train, val, test, or the reason why the image is left out. `row` is its index in the images array, -1 if
    it is not used. `label` is one of LABELS.
    """
    table = read_table(path, ["path", "label", "split", "row"], "split", {**TEXT, "split": str, "row": np.int64})
    check_labels(table, path, "split")
    check_length(path, len(table), "split")
    return table


def read_decoded() -> pd.DataFrame:
    """One row per image of the archive, in the order of the images array: see stage `decode`."""
    columns = ["path", "label", "perceptual_hash", "mirrored_hash", "bad"]
    table = read_table(DECODED_PATH, columns, "decode", {**TEXT, "bad": str})
    check_labels(table, DECODED_PATH, "decode")
    check_length(DECODED_PATH, len(table), "decode")
    return table


def open_counterfactuals() -> tuple[np.ndarray, pd.DataFrame]:
    """Changed copies of images, (k, size, size, 3) uint8, memory-mapped, read-only, and their kind, label and split.

    The table has a row for each, with `row`, so that `rows_of` works on it, and `source_row` of the image.
    """
    path, stage = COUNTERFACTUALS_PATH.with_name("manifest.csv"), "counterfactuals"
    table = read_table(path, ["kind", "label", "split", "source_row"], stage, may_be_empty=True)
    check_labels(table, path, stage)
    check_length(path, len(table), stage)
    return open_images(COUNTERFACTUALS_PATH, stage), table.assign(row=np.arange(len(table)))


def check_labels(table: pd.DataFrame, path: str | Path, stage: str) -> None:
    """Raise UserError if the column `label` has any other value than LABELS."""
    unknown = table.loc[~table["label"].isin(LABELS), "label"]
    if len(unknown):
        raise damaged(path, f"line {unknown.index[0] + 2} has the unknown label {str(unknown.iloc[0])[:40]!a}", stage)


def check_length(path: str | Path, rows: int, stage: str) -> None:
    """Raise UserError if the images array beside the table at `path` is not of `rows` images: one of them is cut."""
    beside = Path(path).with_name(IMAGES_PATH.name)
    if beside.exists() and (n := len(open_images(beside, "decode" if stage == "split" else stage))) != rows:
        raise UserError(
            f"{path} describes {rows} images, but {beside} has {n}, so one of them is cut or older: run"
            f" `dvc repro {stage}`"
        )


def hashes_of(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Perceptual hashes and those of the mirror images, (n,) uint64 each."""
    columns = (table[name] for name in ("perceptual_hash", "mirrored_hash"))
    first, second = (np.array([int(value, 16) for value in column], np.uint64) for column in columns)
    return first, second


def rows_of(manifest: pd.DataFrame, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the images array (n,) int64 and classes (n,) int64 of one split, in the manifest's order."""
    chosen = manifest[manifest["split"] == split]
    return chosen["row"].to_numpy(np.int64), to_classes(chosen["label"])


def without_suspects(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest without the training images whose label the stage `audit` suspects."""
    suspects = read_table(SUSPECTS_PATH, ["path"], "audit", may_be_empty=True)
    return manifest[~((manifest["split"] == "train") & manifest["path"].isin(suspects["path"]))]


def to_classes(labels: Iterable[str]) -> np.ndarray:
    """Convert label names to (n,) int64 classes. Raises ValueError for an unknown name."""
    return np.array([LABELS.index(label) for label in labels], np.int64)


def read_history(model: str) -> pd.DataFrame:
    """One row per epoch of a model's training: epoch, loss, accuracy, val_loss, val_accuracy, …"""
    path, stage, columns = Path("models") / f"history_{model}.csv", f"train_{model}", ["epoch", "val_loss"]
    return with_numbers(read_table(path, columns, stage), columns, path, stage)


def read_predictions(path: str | Path, columns: Sequence[str], stage: str) -> pd.DataFrame:
    """The predictions that `stage` wrote: `columns` and P(with_mask) by each model, finite numbers in 0…1.

    Raises UserError as `read_table` does, for any other probability, and if PREDICTIONS_PATH has other images than
    the manifest.
    """
    table = read_table(path, [*columns, *MODELS], stage)
    if Path(path) == PREDICTIONS_PATH and MANIFEST_PATH.exists():
        manifest = read_manifest()
        expected = manifest.loc[manifest["split"].isin(SPLITS), columns].astype(str).values.tolist()
        if table[columns].astype(str).values.tolist() != expected:
            raise damaged(path, f"it has {len(table)} rows, but not those of {MANIFEST_PATH}, {len(expected)}", stage)
    return with_numbers(table, MODELS, path, stage, low=0.0, high=1.0)


def with_numbers(
    table: pd.DataFrame,
    columns: Sequence[str],
    path: str | Path,
    stage: str,
    low: float = -np.finfo(float).max,
    high: float = np.finfo(float).max,
) -> pd.DataFrame:
    """Return the table. Raises UserError if a value of `columns` is not a finite number in low…high."""
    for column in columns:
        valid = pd.to_numeric(table[column], errors="coerce").between(low, high)
        if not valid.all():
            row = int(np.argmin(valid.to_numpy()))
            raise damaged(path, f"line {row + 2}: {table[column].iloc[row]} is not a valid {column}", stage)
    return table


def read_table(
    path: str | Path,
    columns: Sequence[str],
    stage: str,
    dtype: Mapping[str, type] | None = None,
    keep_default_na: bool = False,
    may_be_empty: bool = False,
) -> pd.DataFrame:
    """The CSV that `stage` wrote.

    Raises UserError if it is missing, ends in the middle of a line, has a value of another type than `dtype` says,
    lacks one of `columns`, or has no rows and not `may_be_empty`.
    """
    content = read_bytes(path, stage)
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=dict(dtype or {}), keep_default_na=keep_default_na)
    except (ValueError, OverflowError) as error:  # ValueError: also what pandas derives from it, and invalid UTF-8
        raise damaged(path, error, stage) from None
    if lacking := [column for column in columns if column not in table.columns]:
        raise damaged(path, f"it has no column {lacking[0]}", stage)
    if not content.endswith(b"\n"):
        raise damaged(path, "it ends in the middle of a line", stage)
    if table.empty and not may_be_empty:
        raise damaged(path, "it has no rows", stage)
    return table


def read_json(path: str | Path, numbers: Sequence[str], stage: str | None) -> dict[str, Any]:
    """The JSON object that `stage` wrote, or that Git keeps if it is None.

    Raises UserError if it is missing or damaged, or has no number at one of `numbers`, which are keys joined by dots.
    """
    try:
        value = json.loads(read_bytes(path, stage), parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, stage) from None
    if not isinstance(value, dict):
        raise damaged(path, "not a JSON object", stage)
    for key in numbers:
        found: Any = value
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise damaged(path, f"it has no number {key}", stage)
    return value


def no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def read_bytes(path: str | Path, stage: str | None) -> bytes:
    """The content of a file that `stage` wrote. Raises UserError if it is missing."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        remedy = f"run `dvc repro {stage}`" if stage else f"restore it with `git checkout {path}`"
        raise UserError(f"{path} is missing: {remedy}") from None


def damaged(path: str | Path, why: object, stage: str | None) -> UserError:
    """The error for a damaged file: what is wrong with it, and how to restore it."""
    remedy = f"run `dvc repro --force {stage}`" if stage else f"restore it with `git checkout {path}`"
    return UserError(f"{path} is damaged ({why}): {remedy}")
