"""Stage `evaluate`: both trained models on train, validation and test pictures.

    python -m pipeline.evaluate

Reads data/split/ and models/; writes predictions.csv (every picture, both probabilities), from which everything else
is computed: metrics/cnn.json, metrics/mobilenet.json and the curves under plots/.
Parameters: evaluate.*.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import atomic, errors, params, tracking
from pipeline.data import packing
from pipeline.models import saving
from pipeline.models.predicting import MODELS, predict
from pipeline.scoring import calibration, comparison, curves, intervals, metrics

SPLITS = ("train", "val", "test")
PREDICTIONS = Path("data/predictions.csv")


def predictions_table(manifest: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """path, label, split, and P(with_mask) by each model, of every picture that is in a split."""
    used = manifest[manifest["split"].isin(SPLITS)]
    table = used[["path", "label", "split"]].reset_index(drop=True)
    for name in MODELS:
        # Six digits: what is left of a probability after them is rounding, which differs from machine to machine.
        table[name] = predict(saving.load(name), images, used["row"].to_numpy()).round(6)
    return table


def model_metrics(
    table: pd.DataFrame, name: str, threshold: float, confidence: float, bins: int, resamples: int
) -> dict:
    """metrics/NAME.json from the predictions: train, val, overfit_gap, test, and versus (the other model)."""
    of = {split: table[table["split"] == split] for split in SPLITS}
    y_true = {split: packing.to_classes(rows["label"]) for split, rows in of.items()}
    train, val = (metrics.accuracy(y_true[s], of[s][name].to_numpy(), threshold) for s in ("train", "val"))
    test = metrics.classification_metrics(
        y_true["test"], of["test"][name].to_numpy(), threshold=threshold, confidence=confidence, bins=bins
    )
    figures = partial(
        intervals.no_plain_shares, y_true=y_true["test"], y_prob=of["test"][name].to_numpy(), threshold=threshold
    )
    test |= intervals.bootstrap(y_true["test"], figures, resamples=resamples, confidence=confidence)
    (other,) = set(MODELS) - {name}
    right = [metrics.called_right(y_true["test"], of["test"][one].to_numpy(), threshold) for one in (name, other)]
    return metrics.rounded(
        {
            "train": {"accuracy": train},
            "val": {"accuracy": val},
            "overfit_gap": train - test["accuracy"],
            "test": test,
            "versus": comparison.mcnemar(*right),
        }
    )


def curve_tables(
    y_true: np.ndarray, y_prob: np.ndarray, name: str, threshold: float, bins: int
) -> dict[str, pd.DataFrame]:
    """The model's test curves by the names of their files; what `curves.write` takes."""
    return {
        f"roc_{name}": curves.roc(y_true, y_prob),
        f"pr_{name}": curves.precision_recall(y_true, y_prob),
        f"confusion_{name}": curves.confusion(y_true, y_prob, threshold),
        f"reliability_{name}": calibration.reliability(y_true, y_prob, bins),
    }


def main() -> None:
    started = time.time()
    p = params.load().evaluate
    tracking.check()
    table = predictions_table(packing.read_manifest(), packing.open_images())
    atomic.write_text(PREDICTIONS, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))

    test = table[table["split"] == "test"]
    y_true = packing.to_classes(test["label"])
    results, plots = {}, {}
    for name in MODELS:
        results[name] = model_metrics(table, name, p.threshold, p.confidence, p.calibration_bins, p.resamples)
        plots[name] = curves.write(curve_tables(y_true, test[name].to_numpy(), name, p.threshold, p.calibration_bins))
        atomic.write_json(Path("metrics") / f"{name}.json", results[name])

    for name in MODELS:
        tracking.log_model_metrics(
            name,
            digest=tracking.weights_digest(saving.weights_path(name)),
            metrics=tracking.flatten(results[name]),
            artifacts=[Path("metrics") / f"{name}.json", *plots[name]],
        )
    tracking.log_stage(
        "evaluate",
        params=tracking.flatten({"evaluate": p.model_dump()}),
        metrics={"mcnemar_p": results["cnn"]["versus"]["mcnemar_p"]},
        artifacts=[PREDICTIONS],
        started=started,
    )
    for name in MODELS:
        t = results[name]["test"]
        print(
            f"evaluate: {name} test accuracy {t['accuracy']:.2%} ({t['accuracy_low']:.2%} to {t['accuracy_high']:.2%})"
            f" on {t['n']} pictures, {t['false_positives']} bare faces called masked,"
            f" {t['false_negatives']} masked faces called bare"
        )
    versus = results["mobilenet"]["versus"]
    print(
        f"evaluate: only mobilenet is right on {versus['only_this_right']}, only cnn on {versus['only_other_right']},"
        f" McNemar p = {versus['mcnemar_p']:.2g}; {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
