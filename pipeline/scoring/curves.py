"""Curves as tables with the rows of both models, which `dvc plots show` draws in one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from face_mask import files
from face_mask.schema import LABELS, TITLES

PLOTS = Path("plots")


def roc(y_true: np.ndarray, y_prob: np.ndarray) -> pd.DataFrame:
    """ROC curve: fpr, tpr, threshold; corner points only. The first threshold, above every probability, is set to 1.

    No rows if a class is missing: the curve is undefined.
    """
    if len(np.unique(y_true)) < 2:
        return pd.DataFrame(columns=["fpr", "tpr", "threshold"])
    fpr, tpr, threshold = roc_curve(y_true, y_prob)
    return pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": np.minimum(threshold, 1.0)})


def precision_recall(y_true: np.ndarray, y_prob: np.ndarray) -> pd.DataFrame:
    """Precision-recall curve: recall, precision, threshold, by increasing recall; redundant points are dropped.

    No rows if a class is missing.
    """
    if len(np.unique(y_true)) < 2:
        return pd.DataFrame(columns=["recall", "precision", "threshold"])
    precision, recall, threshold = precision_recall_curve(y_true, y_prob, drop_intermediate=True)
    table = pd.DataFrame({"recall": recall, "precision": precision, "threshold": np.append(threshold, 1.0)})
    return table.iloc[::-1].reset_index(drop=True)


def confusion(y_true: np.ndarray, y_prob: np.ndarray, threshold: float = 0.5) -> pd.DataFrame:
    """actual, predicted: label names, one row per image, sorted; the format that DVC's confusion template expects."""
    names = np.array(LABELS)
    table = pd.DataFrame({"actual": names[y_true], "predicted": names[(y_prob >= threshold).astype(int)]})
    return table.sort_values(["actual", "predicted"], ignore_index=True)


def of_both(make: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the tables that `make` returns for each model, with the model's title in the column `model`."""
    return pd.concat([make(name).assign(model=title) for name, title in TITLES.items()], ignore_index=True)


def write(tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write each of `tables`, by name, as plots/NAME.csv and return their paths."""
    paths = [PLOTS / f"{name}.csv" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        files.write_csv(path, table)
    return paths
