"""What metrics/xai_*.json say of one model: means over pictures, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

RESAMPLES = 2000  # of the bootstrap
FOCUS = ("face_gain", "lower_face_gain")
AREAS = ("insertion_auc", "deletion_auc", "insertion_auc_random", "deletion_auc_random")
RANKS = "randomization_spearman"


def model_figures(table: pd.DataFrame, other: pd.DataFrame, confidence: float, seed: int) -> dict:
    """The figures of the model whose rows `table` holds; `other` holds the other model's, of the same pictures in the
    same order.

    A gain is of the n_face pictures with a known face, a rank correlation of the n_randomization that were tried.
    `versus` is this model less the other, paired picture by picture. A mean of no pictures is None.
    """
    if list(table["path"]) != list(other["path"]):
        raise ValueError("the two models' rows are not of the same pictures")
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


def in_words(figures: dict) -> str:
    """The figures that matter most, as half a line."""
    ranks = figures[RANKS]
    gains = " and ".join("unknown" if figures[name] is None else f"{figures[name]:.2f}" for name in FOCUS)
    return (
        f"on {figures['n']} pictures: completeness error at most {figures['completeness_error_max']:.2%}, gain of face"
        f" and lower face {gains} ({figures['n_face']} faces), insertion {figures['insertion_auc']:.3f} (random"
        f" {figures['insertion_auc_random']:.3f}), deletion {figures['deletion_auc']:.3f} (random"
        f" {figures['deletion_auc_random']:.3f}), rank correlation with random weights {ranks:.2f}"
    )


def mean_interval(values: np.ndarray, confidence: float, seed: int) -> tuple[float, float, float] | None:
    """Mean of the values that are no NaN, and its bootstrap percentile interval (Efron 1979); None without values.

    Pictures are drawn with replacement, so what varies is which pictures one happens to have.
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return None
    drawn = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[drawn].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(known.mean()), float(low), float(high)


def intervals(table: pd.DataFrame, columns: Iterable[str], confidence: float, seed: int) -> dict[str, float | None]:
    """NAME, NAME_low and NAME_high of the mean of each column, as the metric files hold them."""
    figures: dict[str, float | None] = {}
    for name in columns:
        found = mean_interval(table[name].to_numpy(), confidence, seed) or (None, None, None)
        figures |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
    return figures
