"""Stage `audit`: images whose label is likely wrong. They are reported, not removed.

    python -m pipeline.audit

Reads data/split/, including the features of the stage `features`; writes data/audit/label_issues.csv (path, label,
suggested, probability of the given label, split, rank), plots/audit.png (the least probable labels) and
metrics/audit.json. To leave an image out, list it in the file that split.exclude names. Parameters: seed, audit.*.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from face_mask import errors, files
from face_mask.schema import LABELS, SPLITS
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.scoring import label_errors, metrics, sheets

ISSUES = Path("data/audit/label_issues.csv")
SHEET = Path("plots/audit.png")
METRICS = Path("metrics/audit.json")


def ranked(used: pd.DataFrame, classes: np.ndarray, y_prob: np.ndarray) -> pd.DataFrame:
    """All images, the least probable label first: path, label, suggested, probability, split, rank, suspected, row.

    `probability` is that of the given label, `suggested` is the other label, `row` the index in the images array.
    """
    table = used[["path", "label", "split", "row"]].assign(
        suggested=[LABELS[1 - one] for one in classes],
        probability=np.where(classes == 1, y_prob, 1 - y_prob).round(6),
        suspected=np.isin(np.arange(len(used)), label_errors.suspects(classes, y_prob)),
    )
    table = table.sort_values(["probability", "path"], ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))


def summary(table: pd.DataFrame) -> dict:
    """Compute metrics/audit.json: numbers of suspected labels, in total, by class and by split."""
    issues, labels = table[table["suspected"]], LABELS[::-1]
    return metrics.rounded(
        {
            "n": len(table),
            "n_suspected": len(issues),
            "suspected_fraction": len(issues) / len(table),
            "n_disagreeing": int((table["probability"] < 0.5).sum()),
            "by_label": {label: int((issues["label"] == label).sum()) for label in labels},
            "by_split": {split: int((issues["split"] == split).sum()) for split in SPLITS},
        }
    )


def draw(table: pd.DataFrame, images: np.ndarray, shown: int) -> None:
    """Draw plots/audit.png: the `shown` least probable labels, with the suspected ones marked."""
    worst = table.head(shown)
    captions = [
        (
            Path(one.path).name,
            f"{one.rank}. in {one.split}{', suspected' if one.suspected else ''}",
            f"{one.label}: {one.probability:.1%}",
        )
        for one in worst.itertuples()
    ]
    sheets.write(sheets.draw([images[row] for row in worst["row"]], captions), SHEET)


def main() -> None:
    with tracking.stage("audit") as run:
        p = params.load()
        images, manifest = packing.open_images(), packing.read_manifest()
        used = manifest[manifest["split"].isin(SPLITS)].reset_index(drop=True)
        classes = packing.to_classes(used["label"])
        fold = label_errors.fold_numbers(classes, used["group"].to_numpy(), p.audit.folds, p.seed)

        features = packing.open_features()[used["row"].to_numpy()]
        y_prob = label_errors.out_of_fold(features, classes, fold, p.audit.inverse_regularization)
        table = ranked(used, classes, y_prob)
        columns = ["path", "label", "suggested", "probability", "split", "rank"]
        files.write_csv(ISSUES, table.loc[table["suspected"], columns], "%.6f")
        draw(table, images, p.audit.shown)
        result = summary(table)
        files.write_json(METRICS, result)

        run.log(result, artifacts=[METRICS, ISSUES, SHEET])
        by_split = ", ".join(f"{n} in {split}" for split, n in result["by_split"].items())
        run.report(
            f"{result['n_suspected']} of {result['n']} labels are likely wrong ({by_split}); the least probable labels"
            f" are shown in {SHEET}"
        )


if __name__ == "__main__":
    errors.run(main)
