"""Stage `package`: put the better model into the package `face_mask`, as a file of a few megabytes, with its card.

    python -m pipeline.package

Reads metrics/{cnn,mobilenet}.json, data/predictions.csv, models/exported/NAME.{int8,float16}.tflite, and for the card
data/split/, data/unseen/, metrics/data.json, metrics/unseen_data.json and metrics/end_to_end_NAME.json. Writes
face_mask/model/model.tflite and face_mask/model/card.json: digests, data, settings, metrics measured with this very
file, and the error rates of the detector with the float32 file (`rates`), by which `predict` corrects proportions.
Parameters: package.max_megabytes, export.max_accuracy_drop, evaluate.threshold, evaluate.confidence,
evaluate.calibration_bins, and the settings in the card: image_size, unseen.margin, unseen.url_*, detector, live.

The model is that with the higher validation accuracy, as in the registry; its int8 file is taken if that loses at most
export.max_accuracy_drop of Keras's validation accuracy, else its float16 file. If that is too large, it is the other
model's.
Nothing depends on metrics/export.json, whose latencies differ from run to run.
"""

from __future__ import annotations

from pathlib import Path

from face_mask import errors, files, models
from face_mask.schema import MODELS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.models import shipping
from pipeline.registry import champion

TARGET = Path("face_mask/model")


def main() -> None:
    with tracking.stage("package") as run:
        p = params.load()
        predictions = packing.read_predictions(packing.PREDICTIONS_PATH, ["path", "label", "split"], "predict")
        val_accuracy = {name: champion.read_accuracy(Path(f"metrics/{name}.json")) for name in MODELS}
        name, number_format, path = shipping.choose(val_accuracy, predictions, p)
        content = path.read_bytes()
        measured = shipping.measure(path, p)
        with files.replacing(TARGET / models.FILE) as aside:  # neither is replaced before both are written
            aside.write_bytes(content)
            files.write_json(TARGET / models.CARD, shipping.card(name, number_format, content, measured, p))
        run.log({"bytes": len(content), **measured}, artifacts=[TARGET / models.CARD])
        test = measured["test"]
        run.report(
            f"{TITLES[name]} {number_format}, {len(content) / 1e6:.1f} MB, test accuracy {test['accuracy']:.2%}"
            f" ({test['accuracy_low']:.2%} to {test['accuracy_high']:.2%})"
        )


if __name__ == "__main__":
    errors.run(main)
