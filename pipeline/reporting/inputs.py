"""The input files of the report, and clear errors for those that are missing or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from face_mask.errors import UserError
from face_mask.schema import MODELS, TITLES

RANDOM_SPLIT = Path("docs/results/random_split")

# The stage that writes each file; tests/test_report.py compares it with dvc.yaml. A folder may have any content.
WRITTEN_BY = {
    "metrics/data.json": "download",
    "metrics/split.json": "split",
    "metrics/pretrained.json": "pretrained",
    "data/split/images.npy": "decode",
    "data/split/manifest.csv": "split",
    "data/predictions.csv": "predict",
    "data/audit/label_issues.csv": "audit",
    "metrics/audit.json": "audit",
    "plots/audit.png": "audit",
    "metrics/unseen_faces.json": "unseen_faces",
    "plots/unseen_errors.png": "unseen_eval",
    "plots/xai": "xai",
    **{f"plots/{name}.csv": "evaluate" for name in ("roc", "pr", "reliability", "confusion", "training")},
    **{f"plots/{name}.csv": "unseen_eval" for name in ("unseen_roc", "unseen_pr")},
    **{f"metrics/{model}.json": "evaluate" for model in MODELS},
    **{f"metrics/unseen_{model}.json": "unseen_eval" for model in MODELS},
    **{f"metrics/{kind}_{model}.json": kind for kind in ("xai", "end_to_end") for model in MODELS},
    **{f"metrics/live_{model}.json": "live_eval" for model in MODELS},
}


def require(paths: list[str]) -> None:
    """Raise UserError for the first missing path, naming the stage that writes it."""
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"{path} is missing: run `dvc repro {WRITTEN_BY[path]}`")


def read_params() -> dict[str, Any]:
    """Read params.yaml as it is written: the checks of pipeline/core/params.py must not shape an output."""
    return yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))


def read_json(path: str | Path) -> dict:
    """Read a metrics file. Raises UserError if it is damaged."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(path, error) from None
    if not isinstance(value, dict):
        raise damaged(path, "not a JSON object")
    return value


def read_csv(path: str | Path, columns: list[str]) -> pd.DataFrame:
    """Read a table. Raises UserError if the file is not a CSV file or lacks one of the columns."""
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise damaged(path, error) from None
    for column in columns:
        if column not in table.columns:
            raise damaged(path, f"it has no column {column}")
    return table


def histories() -> dict[str, pd.DataFrame]:
    """Training history by model, one row per epoch, from plots/training.csv."""
    table = read_csv("plots/training.csv", ["model", "epoch", "loss", "val_loss", "val_accuracy"])
    return {model: table[table["model"] == title].reset_index(drop=True) for model, title in TITLES.items()}


def damaged(path: str | Path, why: object) -> UserError:
    """Return the error for a damaged file: what is wrong with it and how to restore it."""
    stage = WRITTEN_BY.get(str(path))
    remedy = f"run `dvc repro --force --single-item {stage}`" if stage else f"restore it with `git checkout {path}`"
    return UserError(f"{path} is damaged ({why}): {remedy}")
