"""What the report is made from. A file that is not there names the stage to run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError

MODELS = {"cnn": "CNN", "mobilenet": "MobileNetV2"}
RANDOM_SPLIT = Path("docs/results/random_split")

# Which stage writes what; tests/test_report.py compares with dvc.yaml. A folder is needed, its content may vary.
WRITTEN_BY = {
    "metrics/data.json": "download",
    "metrics/split.json": "split",
    "metrics/pretrained.json": "pretrained",
    "data/split/images.npy": "split",
    "data/split/manifest.csv": "split",
    "data/predictions.csv": "evaluate",
    "data/audit/label_issues.csv": "audit",
    "metrics/audit.json": "audit",
    "plots/audit.png": "audit",
    "metrics/unseen_faces.json": "unseen_faces",
    "data/unseen/predictions.csv": "unseen_eval",
    "plots/unseen_errors.png": "unseen_eval",
    "plots/xai": "xai",
    **{f"plots/history_{model}.csv": f"train_{model}" for model in MODELS},
    **{
        f"plots/{kind}_{model}.csv": "evaluate"
        for kind in ("roc", "pr", "reliability", "confusion")
        for model in MODELS
    },
    **{f"plots/unseen_{kind}_{model}.csv": "unseen_eval" for kind in ("roc", "pr") for model in MODELS},
    **{f"metrics/{model}.json": "evaluate" for model in MODELS},
    **{f"metrics/unseen_{model}.json": "unseen_eval" for model in MODELS},
    **{f"metrics/xai_{model}.json": "xai" for model in MODELS},
    **{f"metrics/end_to_end_{model}.json": "end_to_end" for model in MODELS},
    **{f"metrics/replay_{model}.json": "replay" for model in MODELS},
}


def demand(paths: list[str]) -> None:
    """UserError for the first of the paths that is not there, with the stage that writes it."""
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"{path} is missing: run `dvc repro {WRITTEN_BY[path]}`")


def read_json(path: str | Path) -> dict:
    """The figures in a file; UserError when it is damaged."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(path, error) from None
    if not isinstance(value, dict):
        raise damaged(path, "it holds no keys")
    return value


def read_csv(path: str | Path, columns: list[str]) -> pd.DataFrame:
    """The table in a file; UserError when it lacks one of the columns or is no table."""
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise damaged(path, error) from None
    for column in columns:
        if column not in table.columns:
            raise damaged(path, f"it has no column {column}")
    return table


def histories() -> dict[str, pd.DataFrame]:
    """Each model's epochs, from plots/history_MODEL.csv."""
    columns = ["epoch", "loss", "val_loss", "val_accuracy"]
    return {model: read_csv(f"plots/history_{model}.csv", columns) for model in MODELS}


def damaged(path: str | Path, why: object) -> UserError:
    stage = WRITTEN_BY.get(str(path))
    remedy = f"run `dvc repro --force --single-item {stage}`" if stage else f"restore it with `git checkout {path}`"
    return UserError(f"{path} is damaged ({why}): {remedy}")
