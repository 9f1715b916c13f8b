"""Stage `unseen_eval`: both trained models on the faces of the foreign set.

    python -m pipeline.unseen_eval

Reads data/unseen/ and models/; writes data/unseen/predictions.csv (every face that is judged, both probabilities), from
which everything else is computed: metrics/unseen_cnn.json, metrics/unseen_mobilenet.json, the curves and the sheet of
the worst errors under plots/. Parameters: evaluate.threshold, evaluate.confidence, evaluate.resamples.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import atomic, errors, params, tracking
from pipeline.data import packing, unseen
from pipeline.models import saving
from pipeline.models.predicting import MODELS, predict
from pipeline.scoring import curves, error_sheet, sheets
from pipeline.scoring.metrics import rounded
from pipeline.scoring.unseen import unseen_metrics

PREDICTIONS = Path("data/unseen/predictions.csv")
SHEET = curves.PLOTS / "unseen_errors.png"
TITLES = {"cnn": "CNN", "mobilenet": "MobileNetV2"}


def predictions_table(manifest: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """path, label, row, face_size, and P(with_mask) by each model, of every face that is not left out."""
    used = manifest[manifest["split"] == unseen.UNSEEN]
    table = used[["path", "label", "row", "face_size"]].reset_index(drop=True)
    for name in MODELS:
        # Six digits: what is left of a probability after them is rounding, which differs from machine to machine.
        table[name] = predict(saving.load(name), images, used["row"].to_numpy()).round(6)
    return table


def curve_tables(table: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """ROC and precision against recall by the names of their files; what `curves.write` takes."""
    judged = table[table["label"].isin(packing.LABELS)]
    y_true, y_prob = packing.to_classes(judged["label"]), judged[name].to_numpy()
    return {
        f"unseen_roc_{name}": curves.roc(y_true, y_prob),
        f"unseen_pr_{name}": curves.precision_recall(y_true, y_prob),
    }


def main() -> None:
    started = time.time()
    p = params.load().evaluate
    tracking.check()
    images = unseen.open_images()
    table = predictions_table(unseen.read_manifest(), images)
    columns = ["path", "label", "face_size", *MODELS]
    # The sizes with fewer digits than the probabilities: they are whole pixels in all but YOLO's files.
    sized = table.assign(face_size=table["face_size"].map("{:.6g}".format, na_action="ignore"))
    atomic.write_text(PREDICTIONS, sized[columns].to_csv(index=False, float_format="%.6f", lineterminator="\n"))

    results, plots = {}, {}
    for name in MODELS:
        results[name] = rounded(unseen_metrics(table, table[name].to_numpy(), p.threshold, p.confidence, p.resamples))
        plots[name] = curves.write(curve_tables(table, name))
        atomic.write_json(Path("metrics") / f"unseen_{name}.json", results[name])
    sheets.write(error_sheet.draw(table, images, TITLES, p.threshold), SHEET)

    for name in MODELS:
        tracking.log_model_metrics(
            name,
            digest=tracking.weights_digest(saving.weights_path(name)),
            metrics=tracking.flatten(results[name], "unseen."),
            artifacts=[Path("metrics") / f"unseen_{name}.json", *plots[name]],
        )
    tracking.log_stage(
        "unseen_eval",
        params={f"evaluate.{key}": getattr(p, key) for key in ("threshold", "confidence", "resamples")},
        artifacts=[PREDICTIONS, SHEET],
        started=started,
    )
    for name in MODELS:
        r = results[name]
        accuracy = f"{r['accuracy']:.2%} ({r['accuracy_low']:.2%} to {r['accuracy_high']:.2%})" if r["n"] else "unknown"
        print(
            f"unseen_eval: {name} accuracy {accuracy} on {r['n']} unseen faces; calls {r['incorrect_called_mask']} of"
            f" {r['n_incorrect']} faces with a mask worn wrong masked"
        )
    print(f"unseen_eval: {time.time() - started:.1f} s")


if __name__ == "__main__":
    errors.run(main)
