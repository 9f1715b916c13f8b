"""The metrics of one model in metrics/xai_*.json: means over images, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

RESAMPLES = 2000  # of the bootstrap
FOCUS = ("face_gain", "lower_face_gain")
AREAS = ("insertion_auc", "deletion_auc", "insertion_auc_random", "deletion_auc_random")
RANKS = "randomization_spearman"


def model_metrics(table: pd.DataFrame, other: pd.DataFrame, confidence: float, seed: int) -> dict:
    """Compute the metrics of a model from its rows of xai.csv, `table`; `other` has the other model's rows.

    Both tables must have the same images in the same order. Gains are means over the n_face images with a known face,
    rank correlations over the n_randomization images that were tested. `versus` is this model minus the other, paired
    by image. A mean of no images is None.
    """
    if list(table["path"]) != list(other["path"]):
        raise ValueError("the two models' rows are not of the same images")
    error = table["completeness_error"]
    parts = {name: table[table["set"] == name] for name in ("test", "unseen")}
    short = (*FOCUS, *AREAS[:2])
    return {
        "n": len(table),
        "n_face": int(table["face_gain"].notna().sum()),
        "n_randomization": int(table[RANKS].notna().sum()),
        "completeness_error_max": float(error.max()),
        "completeness_error_median": float(error.median()),
        "steps_median": float(table["steps"].median()),
        "steps_max": int(table["steps"].max()),
        **intervals(table, (*FOCUS, *AREAS, RANKS), confidence, seed),
        **{
            name: {"n": len(part), "n_face": int(part["face_gain"].notna().sum())}
            | intervals(part, short, confidence, seed)
            for name, part in parts.items()
        },
        "versus": intervals(table[[*short]] - other[[*short]], short, confidence, seed),
    }


def in_words(metrics: dict) -> str:
    """Summarize the most important metrics in one line."""
    gains = " and ".join("unknown" if metrics[name] is None else f"{metrics[name]:.2f}" for name in FOCUS)
    return (
        f"on {metrics['n']} images: completeness error at most {metrics['completeness_error_max']:.2%}, gain on face"
        f" and lower half {gains} ({metrics['n_face']} faces), insertion AUC {metrics['insertion_auc']:.3f} (random"
        f" {metrics['insertion_auc_random']:.3f}), deletion AUC {metrics['deletion_auc']:.3f} (random"
        f" {metrics['deletion_auc_random']:.3f}), rank correlation with random weights {metrics[RANKS]:.2f}"
    )


def mean_interval(values: np.ndarray, confidence: float, seed: int) -> tuple[float, float, float] | None:
    """Mean of the values that are not NaN, with its percentile bootstrap interval (Efron 1979); None without values.

    Images are drawn with replacement, so the interval reflects the choice of images.
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return None
    drawn = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[drawn].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(known.mean()), float(low), float(high)


def intervals(table: pd.DataFrame, columns: Iterable[str], confidence: float, seed: int) -> dict[str, float | None]:
    """Compute NAME, NAME_low and NAME_high of each column's mean, as in the metrics files."""
    metrics: dict[str, float | None] = {}
    for name in columns:
        values = mean_interval(table[name].to_numpy(), confidence, seed) or (None, None, None)
        metrics |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return metrics
