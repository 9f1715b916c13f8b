"""Stage `audit`: pictures whose label is likely wrong. It reports them; nothing is dropped.

    python -m pipeline.audit

Reads data/split/, with the features of stage `features`; writes data/audit/label_issues.csv (path, label, suggested,
probability of the given label, split, rank), plots/audit.png (the worst of them) and metrics/audit.json. Who agrees
that a picture is wrong lists it in the file that split.exclude names. Parameters: seed, audit.*.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import atomic, errors, params, tracking
from pipeline.data import packing
from pipeline.scoring import label_audit, metrics, sheets

ISSUES = Path("data/audit/label_issues.csv")
SHEET = Path("plots/audit.png")
METRICS = Path("metrics/audit.json")
SPLITS = ("train", "val", "test")


def ranked(used: pd.DataFrame, classes: np.ndarray, y_prob: np.ndarray) -> pd.DataFrame:
    """All pictures, the least probable label first: path, label, suggested, probability, split, rank, suspected, row.

    `probability` is that of the label that the picture has, `suggested` the other one, `row` its place in the images
    array.
    """
    table = used[["path", "label", "split", "row"]].assign(
        suggested=[packing.LABELS[1 - one] for one in classes],
        probability=np.where(classes == 1, y_prob, 1 - y_prob).round(6),
        suspected=np.isin(np.arange(len(used)), label_audit.suspects(classes, y_prob)),
    )
    table = table.sort_values(["probability", "path"], ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))


def summary(table: pd.DataFrame) -> dict:
    """metrics/audit.json: how many labels are suspected, of which class and split."""
    issues, labels = table[table["suspected"]], packing.LABELS[::-1]
    return metrics.rounded(
        {
            "n": len(table),
            "n_suspected": len(issues),
            "share": len(issues) / len(table),
            "n_disagreeing": int((table["probability"] < 0.5).sum()),
            "by_label": {label: int((issues["label"] == label).sum()) for label in labels},
            "by_split": {split: int((issues["split"] == split).sum()) for split in SPLITS},
        }
    )


def draw(table: pd.DataFrame, images: np.ndarray, shown: int) -> None:
    """plots/audit.png: the `shown` least probable labels, the suspected ones said to be so."""
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
    started = time.time()
    p = params.load()
    tracking.check()
    images, manifest = packing.open_images(), packing.read_manifest()
    used = manifest[manifest["split"].isin(SPLITS)].reset_index(drop=True)
    classes = packing.to_classes(used["label"])
    fold = label_audit.fold_numbers(classes, used["group"].to_numpy(), p.audit.folds, p.seed)

    features = packing.open_features()[used["row"].to_numpy()]
    y_prob = label_audit.out_of_fold(features, classes, fold, p.audit.inverse_regularization)
    table = ranked(used, classes, y_prob)
    columns = ["path", "label", "suggested", "probability", "split", "rank"]
    atomic.write_text(
        ISSUES, table.loc[table["suspected"], columns].to_csv(index=False, float_format="%.6f", lineterminator="\n")
    )
    draw(table, images, p.audit.shown)
    result = summary(table)
    atomic.write_json(METRICS, result)

    tracking.log_stage(
        "audit",
        params=tracking.flatten({"seed": p.seed, "audit": p.audit.model_dump()}),
        metrics=tracking.flatten(result),
        artifacts=[METRICS, ISSUES, SHEET],
        started=started,
    )
    by_split = ", ".join(f"{n} in {split}" for split, n in result["by_split"].items())
    print(
        f"audit: {result['n_suspected']} of {result['n']} labels are likely wrong ({by_split}); the worst are in"
        f" {SHEET}; {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
