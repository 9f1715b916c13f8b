"""How much test accuracy do suspected labels cost? The same model on the test set with and without them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from pipeline.data import packing
from pipeline.scoring.metrics import called_right, wilson


def cost(
    predictions: pd.DataFrame, suspected: Collection[str], models: Iterable[str], threshold: float, confidence: float
) -> dict[str, dict[str, float | int]]:
    """For each model: n, accuracy and its interval on all test pictures, and the same (`clean_…`) without suspects.

    `predictions` as in data/predictions.csv; `suspected` are paths. Also suspected_wrong: how many of the suspects the
    model gets "wrong". Leaving suspects out flatters a model when it is the model, not the label, that errs: the true
    figure lies between the two.
    """
    test = predictions[predictions["split"] == "test"]
    y_true, clean = packing.to_classes(test["label"]), ~test["path"].isin(set(suspected)).to_numpy()
    found: dict[str, dict[str, float | int]] = {}
    for model in models:
        right = called_right(y_true, test[model].to_numpy(), threshold)
        found[model] = {"suspected": int((~clean).sum()), "suspected_wrong": int((~right & ~clean).sum())}
        for prefix, kept in (("", right), ("clean_", right[clean])):
            low, high = wilson(int(kept.sum()), len(kept), confidence) if len(kept) else (0.0, 1.0)
            found[model] |= {
                f"{prefix}n": len(kept),
                f"{prefix}accuracy": float(kept.mean()) if len(kept) else 0.0,
                f"{prefix}accuracy_low": low,
                f"{prefix}accuracy_high": high,
            }
    return found
