"""The effect of suspected label errors on test accuracy: each model on the test set with and without those images."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from pipeline.dataset import packing
from pipeline.scoring.metrics import is_correct, wilson


def cost(
    predictions: pd.DataFrame, suspected: Collection[str], models: Iterable[str], threshold: float, confidence: float
) -> dict[str, dict[str, float | int]]:
    """Compute for each model n and accuracy with its interval on all test images, and `clean_…`, without the suspects.

    `predictions` as in data/predictions.csv; `suspected` are paths. `suspected_incorrect` counts the suspects that the
    model predicts to be of the other class than labelled. Omitting suspects favours a model whenever the label is
    correct after all, so the true accuracy lies between the two values.
    """
    test = predictions[predictions["split"] == "test"]
    y_true, clean = packing.to_classes(test["label"]), ~test["path"].isin(set(suspected)).to_numpy()
    found: dict[str, dict[str, float | int]] = {}
    for model in models:
        correct = is_correct(y_true, test[model].to_numpy(), threshold)
        found[model] = {"suspected": int((~clean).sum()), "suspected_incorrect": int((~correct & ~clean).sum())}
        for prefix, kept in (("", correct), ("clean_", correct[clean])):
            low, high = wilson(int(kept.sum()), len(kept), confidence) if len(kept) else (0.0, 1.0)
            found[model] |= {
                f"{prefix}n": len(kept),
                f"{prefix}accuracy": float(kept.mean()) if len(kept) else 0.0,
                f"{prefix}accuracy_low": low,
                f"{prefix}accuracy_high": high,
            }
    return found
