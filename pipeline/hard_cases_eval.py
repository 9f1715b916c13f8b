"""Stage `hard_cases_eval`: both trained models on the drawn hard cases, and by subsets of images as they are.

    python -m pipeline.hard_cases_eval

Reads data/hard_cases/, data/predictions.csv, data/unseen/predictions.csv and models/; writes
data/hard_cases/predictions.csv, from which all the rest is computed: metrics/hard_cases_cnn.json,
metrics/hard_cases_mobilenet.json and plots/hard_cases.csv. The key `test` is about test faces; `val`, the same of
validation faces, is what a choice may be based on; `subsets` is about test and unseen faces. Parameters:
evaluate.threshold, evaluate.confidence, evaluate.resamples, conformal.error.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from face_mask import errors, files
from face_mask.schema import LABELS, MODELS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import hard_cases, packing
from pipeline.models import saving
from pipeline.models.predicting import predict
from pipeline.scoring import conformal, curves, hard_case_metrics
from pipeline.scoring.metrics import rounded

PREDICTIONS = Path("data/hard_cases/predictions.csv")
UNSEEN_PREDICTIONS = Path("data/unseen/predictions.csv")


def predictions_table(table: pd.DataFrame) -> pd.DataFrame:
    """The manifest of the drawn images with P(with_mask) by each model; six digits, as in unseen_eval."""
    if table.empty:
        return table.assign(**dict.fromkeys(MODELS, pd.Series(dtype=float)))
    images, rows = hard_cases.open_images(), table["row"].to_numpy()
    return table.assign(**{name: predict(saving.load(name), images, rows).round(6) for name in MODELS})


def measured_faces(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The test faces, and the unseen faces of both classes: the names of their bins, and P(with_mask) of each model."""
    faces = hard_cases.read_faces()
    unseen = packing.read_predictions(UNSEEN_PREDICTIONS, ["path", "label"], "unseen_eval")
    found = {}
    for split, table in (("test", predictions[predictions["split"] == "test"]), ("unseen", unseen)):
        of_split = faces[faces["split"] == split].drop(columns=["label", "split"])
        both = table[table["label"].isin(LABELS)].merge(of_split, on="path", validate="one_to_one")
        if len(both) != table["label"].isin(LABELS).sum():
            raise packing.damaged(hard_cases.FACES_PATH, f"it lacks {split} faces", hard_cases.STAGE)
        found[split] = both.assign(
            **{name: hard_cases.bin_of(name, both[name], both["label"]) for name in hard_cases.BINS}
        )
    return found


def plot_table(results: dict[str, dict]) -> pd.DataFrame:
    """Error rate with its interval of every case and class on test faces, for both models: plots/hard_cases.csv."""
    return curves.of_both(lambda name: hard_case_metrics.error_rates(results[name]["test"]))


def main() -> None:
    with tracking.stage("hard_cases_eval") as run:
        p, error = params.load().evaluate, params.load().conformal.error
        predictions = packing.read_predictions(packing.PREDICTIONS_PATH, ["path", "label", "split"], "predict")
        faces = measured_faces(predictions)
        table = predictions_table(hard_cases.read_manifest())
        files.write_csv(PREDICTIONS, table, "%.6f")

        val = predictions[predictions["split"] == "val"]
        names = {key: [*named, hard_cases.UNKNOWN] for key, (_, named) in hard_cases.BINS.items()}
        results: dict[str, dict] = {}
        for name in MODELS:
            calibration = conformal.calibrate(packing.to_classes(val["label"]), val[name].to_numpy(), error)
            results[name] = {}
            for split in ("test", "val"):
                here = table[table["split"] == split]
                results[name][split] = hard_case_metrics.hard_case_metrics(
                    here, here[name].to_numpy(), calibration, original=hard_cases.ORIGINAL, threshold=p.threshold,
                    confidence=p.confidence, resamples=p.resamples,
                )  # fmt: skip
            results[name]["subsets"] = {
                split: hard_case_metrics.subset_metrics(
                    rows, rows[name].to_numpy(), names, threshold=p.threshold, confidence=p.confidence
                )
                for split, rows in faces.items()
            }
        for name in MODELS:
            results[name] = rounded(results[name])
            path = Path("metrics") / f"hard_cases_{name}.json"
            files.write_json(path, results[name])
            run.log_model(name, {"hard_cases": hard_case_metrics.headlines(results[name])}, artifacts=[path])
            run.report(f"{TITLES[name]} {hard_case_metrics.summary(results[name]['test'])}")
        plots = curves.write({"hard_cases": plot_table(results)})
        run.log(artifacts=[PREDICTIONS, *plots])


if __name__ == "__main__":
    errors.run(main)
