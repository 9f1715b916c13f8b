"""The input files of the report, and clear errors for those that are missing or damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from face_mask.errors import UserError
from face_mask.schema import LABELS, MODELS, SPLITS, TITLES
from pipeline.core import params
from pipeline.dataset import packing

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
    "plots/hard_cases.png": "draw_hard_cases",
    "plots/hard_cases.csv": "hard_cases_eval",
    **{f"plots/{name}.csv": "evaluate" for name in ("roc", "pr", "reliability", "confusion", "training")},
    **{f"plots/{name}.csv": "unseen_eval" for name in ("unseen_roc", "unseen_pr")},
    **{f"metrics/{model}.json": "evaluate" for model in MODELS},
    **{f"metrics/unseen_{model}.json": "unseen_eval" for model in MODELS},
    **{f"metrics/{kind}_{model}.json": kind for kind in ("xai", "end_to_end") for model in MODELS},
    **{f"metrics/live_{model}.json": "live_eval" for model in MODELS},
    **{f"metrics/hard_cases_{model}.json": "hard_cases_eval" for model in MODELS},
}

# Numbers without which the report cannot be written, by file; keys are joined by dots.
NUMBERS = {
    "metrics/split.json": ("cross_split_duplicates", *(f"{split}.{label}" for split in SPLITS for label in LABELS)),
    "metrics/audit.json": (
        "n", "n_suspected", "suspected_fraction", "n_disagreeing", *(f"by_split.{split}" for split in SPLITS),
        *(f"by_label.{label}" for label in LABELS),
    ),
    **{
        f"metrics/{model}.json": (
            "train.accuracy", "val.accuracy", "overfit_gap",
            *(f"test.{key}" for key in ("accuracy", "accuracy_high", "false_positives", "false_negatives")),
            *(f"versus.{key}" for key in ("only_this_correct", "only_other_correct", "mcnemar_p")),
        )
        for model in MODELS
    },
    **{f"metrics/unseen_{model}.json": ("n",) for model in MODELS},
    **{f"metrics/xai_{model}.json": ("n",) for model in MODELS},
    **{f"metrics/hard_cases_{model}.json": ("test.faces", "val.faces") for model in MODELS},
}  # fmt: skip


def require(paths: list[str]) -> None:
    """Raise UserError for the first missing path, naming the stage that writes it."""
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"{path} is missing: run `dvc repro {WRITTEN_BY[path]}`")


def check_images() -> None:
    """Raise UserError if an image that the report shows is damaged."""
    panels = [path.as_posix() for path in sorted(Path("plots/xai").glob("*.png"))]
    for path in [*panels, *(one for one in WRITTEN_BY if one.endswith(".png"))]:
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError) as error:  # of Pillow's decoder
            raise packing.damaged(path, error, remedy_stage(path) or "--single-item xai") from None


def read_params() -> dict[str, Any]:
    """The parameters as they are written: the checks of pipeline/core/params.py must not shape an output."""
    return params.read()


def read_json(path: str | Path) -> dict:
    """Read a metrics file. Raises UserError if it is damaged or lacks a number that the report needs."""
    return packing.read_json(path, NUMBERS.get(str(path), ()), remedy_stage(path))


def read_csv(
    path: str | Path, columns: Iterable[str], dtype: Mapping[str, type] | None = None, *, may_be_empty: bool = False
) -> pd.DataFrame:
    """Read a table. Raises UserError as `packing.read_table` does."""
    stage = remedy_stage(path)
    assert stage, path
    return packing.read_table(path, list(columns), stage, dtype, keep_default_na=True, may_be_empty=may_be_empty)


def read_predictions() -> pd.DataFrame:
    """The predictions of both models for the training, validation and test images."""
    return packing.read_predictions(packing.PREDICTIONS_PATH, ["path", "label", "split"], "--single-item predict")


def read_issues(n: int) -> pd.DataFrame:
    """Read the `n` suspected labels of the audit. Raises UserError if the table has another number of them."""
    path = "data/audit/label_issues.csv"
    table = read_csv(path, ["path"], may_be_empty=True)
    if len(table) != n:
        raise packing.damaged(path, f"it has {len(table)} labels, but metrics/audit.json {n}", remedy_stage(path))
    return table


def read_plot(
    name: str,
    dtype: Mapping[str, type],
    whole: Callable[[pd.DataFrame], object],
    expected: object = None,
    *,
    may_be_empty: bool = False,
) -> dict[str, pd.DataFrame]:
    """Read plots/NAME.csv, which has columns of these types: its rows by model.

    `whole` must be the same for both models, and `expected` if that is given; otherwise rows are missing and UserError
    is raised.
    """
    path = f"plots/{name}.csv"
    table = read_csv(path, ["model", *dtype], dtype, may_be_empty=may_be_empty)
    parts = {model: table[table["model"] == title].reset_index(drop=True) for model, title in TITLES.items()}
    found = [whole(part) for part in parts.values()]
    if any(one != (found[0] if expected is None else expected) for one in found):
        raise packing.damaged(path, "it does not have all rows of both models", remedy_stage(path))
    return parts


def remedy_stage(path: str | Path) -> str | None:
    """The stage that writes a file, with the option by which it alone is run; None for a file that Git keeps."""
    stage = WRITTEN_BY.get(str(path))
    return f"--single-item {stage}" if stage else None
