"""Curves as tables, one a model, which `dvc plots show` draws in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from pipeline import atomic
from pipeline.data.packing import LABELS

PLOTS = Path("plots")


def roc(y_true: np.ndarray, y_prob: np.ndarray) -> pd.DataFrame:
    """fpr, tpr, threshold; corner points only. The first threshold, above every probability, is written as 1.

    No rows where a class is missing: there is no such curve.
    """
    if len(np.unique(y_true)) < 2:
        return pd.DataFrame(columns=["fpr", "tpr", "threshold"])
    fpr, tpr, threshold = roc_curve(y_true, y_prob)
    return pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": np.minimum(threshold, 1.0)})


def precision_recall(y_true: np.ndarray, y_prob: np.ndarray) -> pd.DataFrame:
    """recall, precision, threshold, by rising recall; without the points that change neither.

    No rows where a class is missing.
    """
    if len(np.unique(y_true)) < 2:
        return pd.DataFrame(columns=["recall", "precision", "threshold"])
    precision, recall, threshold = precision_recall_curve(y_true, y_prob, drop_intermediate=True)
    table = pd.DataFrame({"recall": recall, "precision": precision, "threshold": np.append(threshold, 1.0)})
    return table.iloc[::-1].reset_index(drop=True)


def confusion(y_true: np.ndarray, y_prob: np.ndarray, threshold: float = 0.5) -> pd.DataFrame:
    """actual, predicted: one row a picture, by label name, sorted, as DVC's confusion template takes it."""
    names = np.array(LABELS)
    table = pd.DataFrame({"actual": names[y_true], "predicted": names[(y_prob >= threshold).astype(int)]})
    return table.sort_values(["actual", "predicted"], ignore_index=True)


def write(tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Each table as plots/NAME.csv; returns their paths. `tables` by name."""
    paths = [PLOTS / f"{name}.csv" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        atomic.write_text(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return paths
