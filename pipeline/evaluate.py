"""Stage `evaluate`: metrics and curves of both models on the test images.

    python -m pipeline.evaluate

Reads data/predictions.csv and models/history_*.csv; writes metrics/cnn.json, metrics/mobilenet.json, and, with both
models in each file, plots/roc.csv, pr.csv, reliability.csv, confusion.csv and training.csv. Parameters: evaluate.* and
conformal.error. The key `conformal` of the metrics is about prediction sets: see pipeline/scoring/conformal.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from face_mask import errors, files
from face_mask.schema import MODELS, SPLITS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.scoring import calibration, conformal, curves, intervals, mcnemar, metrics


def model_metrics(
    table: pd.DataFrame, name: str, threshold: float, confidence: float, bins: int, resamples: int, error: float
) -> dict:
    """Compute metrics/NAME.json: train, val, overfit_gap, test, conformal (test), and versus (the other model)."""
    parts = {split: table[table["split"] == split] for split in SPLITS}
    y_true = {split: packing.to_classes(rows["label"]) for split, rows in parts.items()}
    train, val = (metrics.accuracy(y_true[s], parts[s][name].to_numpy(), threshold) for s in ("train", "val"))
    y_prob = parts["test"][name].to_numpy()
    test = metrics.classification_metrics(y_true["test"], y_prob, threshold=threshold, confidence=confidence, bins=bins)
    resampled = partial(intervals.bootstrap_metrics, y_true=y_true["test"], y_prob=y_prob, threshold=threshold)
    test |= intervals.bootstrap(y_true["test"], resampled, resamples=resamples, confidence=confidence)
    calibration = conformal.calibrate(y_true["val"], parts["val"][name].to_numpy(), error)
    sets = conformal.conformal_metrics(y_true["test"], y_prob, calibration, threshold=threshold, confidence=confidence)
    (other,) = set(MODELS) - {name}
    correct = [
        metrics.is_correct(y_true["test"], parts["test"][model].to_numpy(), threshold) for model in (name, other)
    ]
    return metrics.rounded(
        {
            "train": {"accuracy": train},
            "val": {"accuracy": val},
            "overfit_gap": train - test["accuracy"],
            "test": test,
            "conformal": sets,
            "versus": mcnemar.mcnemar(*correct),
        }
    )


def curve_tables(test: pd.DataFrame, threshold: float, bins: int) -> dict[str, pd.DataFrame]:
    """Compute the tables under plots/ by name, each with the rows of both models."""
    y_true = packing.to_classes(test["label"])
    y_prob = {name: test[name].to_numpy() for name in MODELS}
    return {
        "roc": curves.of_both(lambda name: curves.roc(y_true, y_prob[name])),
        "pr": curves.of_both(lambda name: curves.precision_recall(y_true, y_prob[name])),
        "reliability": curves.of_both(lambda name: calibration.reliability(y_true, y_prob[name], bins)),
        "confusion": curves.of_both(lambda name: curves.confusion(y_true, y_prob[name], threshold)),
        "training": curves.of_both(packing.read_history),
    }


def main() -> None:
    with tracking.stage("evaluate") as run:
        p, error = params.load().evaluate, params.load().conformal.error
        table = packing.read_predictions(packing.PREDICTIONS_PATH, ["path", "label", "split"], "predict")
        results = {
            name: model_metrics(table, name, p.threshold, p.confidence, p.calibration_bins, p.resamples, error)
            for name in MODELS
        }
        tables = curve_tables(table[table["split"] == "test"], p.threshold, p.calibration_bins)
        for name in MODELS:
            path = Path("metrics") / f"{name}.json"
            files.write_json(path, results[name])
            run.log_model(name, results[name], artifacts=[path])
        plots = curves.write(tables)

        versus = results["mobilenet"]["versus"]
        run.log({"mcnemar_p": versus["mcnemar_p"]}, artifacts=plots)
        for name, result in results.items():
            test = result["test"]
            run.report(
                f"{TITLES[name]} test accuracy {test['accuracy']:.2%} ({test['accuracy_low']:.2%} to"
                f" {test['accuracy_high']:.2%}) on {test['n']} images, {test['false_positives']} false positives,"
                f" {test['false_negatives']} false negatives"
            )
        for name, result in results.items():
            run.report(f"{TITLES[name]} {conformal.summary(result['conformal'])}")
        run.report(
            f"{versus['only_this_correct']} images classified correctly by MobileNetV2 alone,"
            f" {versus['only_other_correct']} by the CNN alone, McNemar p = {versus['mcnemar_p']:.2g}"
        )


if __name__ == "__main__":
    errors.run(main)
