"""Stage `export`: both models as LiteRT and ONNX files, each checked against the Keras model.

    python -m pipeline.export

Reads models/ and data/split/; writes models/exported/NAME.{float32,float16,int8}.tflite, models/exported/NAME.onnx,
and metrics/export.json: size, test accuracy, and latency of each. Parameters: export.*, evaluate.threshold.

metrics/export.json holds times, which are never the same twice, so DVC does not track it: Git alone keeps it.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import keras
import numpy as np

from pipeline import atomic, errors, params, tracking
from pipeline.data import packing
from pipeline.models import saving
from pipeline.models.predicting import MODELS, predict
from pipeline.scoring.metrics import accuracy, rounded
from pipeline.serve import conversion, litert

METRICS = Path("metrics/export.json")
FORMATS = (*litert.FORMATS, "onnx")
TIMED = 40  # pictures, judged one at a time by every format in turn


def ask_keras(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """As a format is asked: (n, s, s, 3) uint8 to (n,) P(with_mask)."""
    return model(images, training=False).numpy()[:, 1]


def write_format(
    model: keras.Model, name: str, number_format: str, calibration: np.ndarray
) -> tuple[Path, litert.Classify]:
    """Convert and write one file; its path, and a function that asks it."""
    if number_format == "onnx":
        path, encoded = litert.MODELS / f"{name}.onnx", conversion.onnx(model)
    else:
        path, encoded = litert.path_of(name, number_format), conversion.litert(model, number_format, calibration)
    with atomic.replacing(path) as aside:
        aside.write_bytes(encoded)
    return path, conversion.load_onnx(encoded) if number_format == "onnx" else litert.load(path)


def latencies(formats: dict[str, litert.Classify], images: np.ndarray) -> dict[str, float]:
    """Median milliseconds a picture, one at a time on one core; the formats take turns, so that noise hits all."""
    taken: dict[str, list[float]] = {number_format: [] for number_format in formats}
    for image in images:
        for number_format, classify in formats.items():
            started = time.perf_counter()
            classify(image[None])
            taken[number_format].append(1000 * (time.perf_counter() - started))
    return {number_format: float(np.median(times)) for number_format, times in taken.items()}


def calibration_pictures(images: np.ndarray, rows: np.ndarray, wanted: int) -> np.ndarray:
    """Up to `wanted` pictures (k, s, s, 3), spread evenly over `rows`, so over both classes."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(wanted, len(rows))).round().astype(int)]
    return images[chosen]


def judged(y_true: np.ndarray, keras_prob: np.ndarray, prob: np.ndarray, threshold: float, largest_loss: float) -> dict:
    """One format's figures on the test pictures beside those of Keras; probabilities (n,) of with_mask."""
    found, wanted = (accuracy(y_true, one, threshold) for one in (prob, keras_prob))
    return {
        "accuracy": found,
        "accuracy_lost": wanted - found,
        "other_class": int(((prob >= threshold) != (keras_prob >= threshold)).sum()),
        "probability_difference_max": float(np.abs(prob - keras_prob).max()),
        "lossy": bool(wanted - found > largest_loss),
    }


def main() -> None:
    started = time.time()
    p = params.load()
    tracking.check()
    images, manifest = packing.open_images(), packing.read_manifest()
    test, y_true = packing.rows_of(manifest, "test")
    calibration = calibration_pictures(images, packing.rows_of(manifest, "train")[0], p.export.calibration_pictures)
    pixels = images[test]

    result: dict[str, dict] = {}
    for name in MODELS:
        model = saving.load(name)
        keras_prob = predict(model, images, test)
        paths: dict[str, Path] = {}
        formats: dict[str, litert.Classify] = {"keras": partial(ask_keras, model)}
        for number_format in FORMATS:
            paths[number_format], formats[number_format] = write_format(model, name, number_format, calibration)
        milliseconds = latencies(formats, pixels[:TIMED])
        result[name] = {"keras": {"accuracy": accuracy(y_true, keras_prob, p.evaluate.threshold), "n": len(test)}}
        for number_format, path in paths.items():
            prob = formats[number_format](pixels)
            found = judged(y_true, keras_prob, prob, p.evaluate.threshold, p.export.largest_loss)
            if number_format in ("float32", "onnx") and found["other_class"]:
                raise RuntimeError(f"{path} calls {found['other_class']} test pictures otherwise than the Keras model")
            result[name][number_format] = {"bytes": path.stat().st_size, **found}
        for number_format, taken in milliseconds.items():
            result[name][number_format]["latency_ms"] = round(taken, 2)
    result = rounded(result, 4)
    atomic.write_json(METRICS, result)

    tracking.log_stage(
        "export",
        params=tracking.flatten({"export": p.export.model_dump()}),
        metrics=tracking.flatten(result),
        artifacts=[METRICS],
        started=started,
    )
    for name in MODELS:
        for number_format in FORMATS:
            r = result[name][number_format]
            print(
                f"export: {name} {number_format}: {r['bytes'] / 1e6:.1f} MB, accuracy {r['accuracy']:.2%}, other class"
                f" than Keras on {r['other_class']} of {len(test)}, {r['latency_ms']:.1f} ms a picture"
                + (f"; LOSSY: loses more than {p.export.largest_loss:.1%}" if r["lossy"] else "")
            )
    print(f"export: {time.time() - started:.1f} s")


if __name__ == "__main__":
    errors.run(main)
