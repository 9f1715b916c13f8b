"""Metrics with confidence intervals of several models on one set, and McNemar's tests between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from face_mask.schema import LABELS, WITH_MASK, WITHOUT_MASK
from pipeline.dataset import packing
from pipeline.scoring.mcnemar import mcnemar
from pipeline.scoring.metrics import is_correct, is_with_mask, proportion


def scores(labels: pd.Series, y_prob: np.ndarray, threshold: float, confidence: float) -> dict[str, float | int | None]:
    """Metrics of one model. `labels` and P(with_mask) `y_prob` (n,) of n images.

    Images of neither class, with an incorrectly worn mask, count only in n_incorrect (how many there are) and
    incorrect_called_mask (how many of them are predicted as with_mask).
    """
    in_class = labels.isin(LABELS).to_numpy()
    y_true, y = packing.to_classes(labels[in_class]), y_prob[in_class]
    correct = is_correct(y_true, y, threshold)
    return {
        "n": len(y_true),
        **proportion("accuracy", correct, confidence),
        **proportion(f"recall_{WITH_MASK}", correct[y_true == 1], confidence),
        **proportion(f"recall_{WITHOUT_MASK}", correct[y_true == 0], confidence),
        "false_positives": int((~correct[y_true == 0]).sum()),
        "false_negatives": int((~correct[y_true == 1]).sum()),
        "n_incorrect": int((~in_class).sum()),
        "incorrect_called_mask": int(is_with_mask(y_prob[~in_class], threshold).sum()),
    }


def compare(
    labels: pd.Series, probabilities: Mapping[str, np.ndarray], thresholds: Mapping[str, float], confidence: float
) -> dict[str, dict]:
    """Metrics of each model, the evaluated one first; those of the others have McNemar's test against it."""
    in_class = labels.isin(LABELS).to_numpy()
    y_true = packing.to_classes(labels[in_class])
    correct = {name: is_correct(y_true, y[in_class], thresholds[name]) for name, y in probabilities.items()}
    first = next(iter(probabilities))
    result = {name: scores(labels, y, thresholds[name], confidence) for name, y in probabilities.items()}
    for name in probabilities:
        if name != first:
            test = mcnemar(correct[first], correct[name])
            result[name] |= {
                "only_evaluated_correct": test["only_this_correct"],
                "only_this_correct": test["only_other_correct"],
                "mcnemar_p": test["mcnemar_p"],
            }
    return result


def percent(metrics: Mapping, name: str) -> str:
    if metrics[name] is None:
        return "–"
    return f"{metrics[name]:.1%} ({100 * metrics[f'{name}_low']:.1f}–{100 * metrics[f'{name}_high']:.1f})"


def table(compared: Mapping[str, Mapping]) -> list[str]:
    """The lines of a table with a row per model."""
    header = ["model", "accuracy", f"recall {WITH_MASK}", f"recall {WITHOUT_MASK}", "false pos.", "false neg.",
              "McNemar p"]  # fmt: skip
    rows = [
        [
            name,
            *(percent(metrics, key) for key in ("accuracy", f"recall_{WITH_MASK}", f"recall_{WITHOUT_MASK}")),
            str(metrics["false_positives"]),
            str(metrics["false_negatives"]),
            f"{metrics['mcnemar_p']:.2g}" if "mcnemar_p" in metrics else "",
        ]
        for name, metrics in compared.items()
    ]
    if any(metrics["n_incorrect"] for metrics in compared.values()):
        header.append("incorrectly worn as with_mask")
        for row, metrics in zip(rows, compared.values(), strict=True):
            row.append(f"{metrics['incorrect_called_mask']} of {metrics['n_incorrect']}")
    return aligned([header, *rows])


def case_table(by_case: Mapping[str, Mapping[str, Mapping]]) -> list[str]:
    """The lines of a table with a row per case: each model's accuracy, and McNemar's p of each but the first."""
    first, *others = next(iter(by_case.values()))
    header = ["case", "n", first, *(column for name in others for column in (name, "p"))]
    rows = []
    for case, compared in by_case.items():
        cells = [(percent(compared[name], "accuracy"), f"{compared[name]['mcnemar_p']:.2g}") for name in others]
        mine = compared[first]
        rows.append([case, str(mine["n"]), percent(mine, "accuracy"), *(cell for pair in cells for cell in pair)])
    return aligned([header, *rows])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad cells so that columns align, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    ]
