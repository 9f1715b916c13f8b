"""Stage `unseen_eval`: both trained models on the faces of the unseen set.

    python -m pipeline.unseen_eval

Reads data/unseen/ and models/; writes data/unseen/predictions.csv (every face that is used, with both probabilities),
from which all the rest is computed: metrics/unseen_cnn.json, metrics/unseen_mobilenet.json, the curves and the sheet of
the most confident errors under plots/. The key `conformal` is about prediction sets calibrated on the validation
images, by data/predictions.csv. Parameters: evaluate.threshold, evaluate.confidence, evaluate.resamples,
conformal.error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from face_mask import errors, files
from face_mask.conformal import Calibration
from face_mask.schema import LABELS, MODELS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing, unseen
from pipeline.models import saving
from pipeline.models.predicting import predict
from pipeline.scoring import conformal, curves, error_sheet, sheets
from pipeline.scoring.metrics import rounded
from pipeline.scoring.unseen_metrics import unseen_metrics

PREDICTIONS = Path("data/unseen/predictions.csv")
SHEET = curves.PLOTS / "unseen_errors.png"


def predictions_table(manifest: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """path, label, row, face_size, and P(with_mask) by each model, for every face that is not left out."""
    used = manifest[manifest["split"] == unseen.UNSEEN]
    table = used[["path", "label", "row", "face_size"]].reset_index(drop=True)
    for name in MODELS:
        # Six digits: what follows them is rounding error, which differs between machines.
        table[name] = predict(saving.load(name), images, used["row"].to_numpy()).round(6)
    return table


def curve_tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """ROC and precision-recall of both models, by the names of their files under plots/."""
    table = table[table["label"].isin(LABELS)]
    y_true = packing.to_classes(table["label"])
    return {
        "unseen_roc": curves.of_both(lambda name: curves.roc(y_true, table[name].to_numpy())),
        "unseen_pr": curves.of_both(lambda name: curves.precision_recall(y_true, table[name].to_numpy())),
    }


def calibrate(error: float) -> dict[str, Calibration]:
    """The calibration of each model by its predictions of the validation images."""
    val = packing.read_predictions(packing.PREDICTIONS_PATH, ["path", "label", "split"], "predict")
    val = val[val["split"] == "val"]
    y_true = packing.to_classes(val["label"])
    return {name: conformal.calibrate(y_true, val[name].to_numpy(), error) for name in MODELS}


def main() -> None:
    with tracking.stage("unseen_eval") as run:
        p = params.load().evaluate
        calibrations = calibrate(params.load().conformal.error)
        images = unseen.open_images()
        table = predictions_table(unseen.read_manifest(), images)
        # Sizes have fewer digits than probabilities: they are whole pixels except in YOLO files.
        sized = table.assign(face_size=table["face_size"].map("{:.6g}".format, na_action="ignore"))
        in_class = table["label"].isin(LABELS).to_numpy()
        files.write_csv(PREDICTIONS, sized[["path", "label", "face_size", *MODELS]], "%.6f")

        for name in MODELS:
            path = Path("metrics") / f"unseen_{name}.json"
            y_prob = table[name].to_numpy()
            sets = conformal.conformal_metrics(
                packing.to_classes(table["label"][in_class]), y_prob[in_class], calibrations[name],
                threshold=p.threshold, confidence=p.confidence,
            )  # fmt: skip
            r = unseen_metrics(table, y_prob, p.threshold, p.confidence, p.resamples)
            r = rounded(r | {"conformal": sets})
            files.write_json(path, r)
            run.log_model(name, {"unseen": r}, artifacts=[path])
            accuracy = (
                f"{r['accuracy']:.2%} ({r['accuracy_low']:.2%} to {r['accuracy_high']:.2%})" if r["n"] else "unknown"
            )
            run.report(
                f"{TITLES[name]} accuracy {accuracy} on {r['n']} unseen faces; incorrectly worn masks predicted as"
                f" with_mask: {r['incorrect_called_mask']} of {r['n_incorrect']}"
            )
            run.report(f"{TITLES[name]} {conformal.summary(r['conformal'])}")
        plots = curves.write(curve_tables(table))
        sheets.write(error_sheet.draw(table, images, TITLES, p.threshold), SHEET)
        run.log(artifacts=[PREDICTIONS, SHEET, *plots])


if __name__ == "__main__":
    errors.run(main)
