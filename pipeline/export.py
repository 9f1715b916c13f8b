"""Stage `export`: both models as LiteRT and ONNX files, each compared with the Keras model.

    python -m pipeline.export

Reads models/ and data/split/; writes models/exported/NAME.{float32,float16,int8}.tflite, models/exported/NAME.onnx,
and metrics/export.json: size, test accuracy, prediction sets, and latency of each. Every file carries the calibration
of its prediction sets, computed on the validation images: see face_mask/conformal.py. Parameters: export.*,
conformal.error, evaluate.threshold, evaluate.confidence.

metrics/export.json contains latencies, which vary from run to run, so it is tracked by Git and not by DVC.
"""

from __future__ import annotations

from pathlib import Path

from face_mask import errors, files
from face_mask.schema import MODELS, SPLITS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.models import exporting
from pipeline.scoring import conformal

METRICS = Path("metrics/export.json")


def main() -> None:
    with tracking.stage("export") as run:
        p = params.load()
        manifest = packing.read_manifest()
        rows = {split: packing.rows_of(manifest, split) for split in SPLITS}
        result = {name: exporting.export_model(name, packing.open_images(), rows, p) for name in MODELS}
        files.write_json(METRICS, result)
        run.log(result, artifacts=[METRICS])
        for name, formats in result.items():
            for number_format in exporting.FORMATS:
                run.report(summary_line(TITLES[name], number_format, formats[number_format], len(rows["test"][0])))
        if too_few := conformal.shortage(rows["val"][1], p.conformal.error):
            run.report(too_few)


def summary_line(title: str, number_format: str, r: dict, n_test: int) -> str:
    """State size, accuracy and latency of one exported file."""
    lossy = "; LOSSY: the loss of accuracy exceeds export.max_accuracy_drop" if r["lossy"] else ""
    return (
        f"{title} {number_format}: {r['bytes'] / 1e6:.1f} MB, accuracy {r['accuracy']:.2%}, predicted class differs"
        f" from Keras on {r['other_class']} of {n_test}, {r['latency_ms']:.1f} ms per image{lossy}"
    )


if __name__ == "__main__":
    errors.run(main)
