"""Export of a trained model in every format, each compared with Keras: accuracy, predicted classes, latency."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np

from face_mask import conformal, files, litert
from face_mask.conformal import Calibration
from pipeline.core import memory, params
from pipeline.models import conversion, saving
from pipeline.models.predicting import predict
from pipeline.scoring import conformal as scoring
from pipeline.scoring.metrics import accuracy, rounded

FORMATS = (*litert.FORMATS, "onnx")
Calibrate = Callable[[litert.Classify], Calibration]  # from a function that runs a file to that file's calibration
TIMED = 40  # images, predicted one at a time by every format in turn


def classify_with_keras(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Map (n, s, s, 3) uint8 to (n,) P(with_mask), with the interface of the exported formats."""
    return model(images, training=False).numpy()[:, 1]


def write_format(
    model: keras.Model, name: str, number_format: str, images: np.ndarray, calibrate: Calibrate
) -> tuple[Path, litert.Classify, Calibration]:
    """Convert the model, calibrate its prediction sets, and write the file with both.

    `images` determine the value ranges of int8. Returns the file's path, a function that runs it, and the calibration.
    """
    memory.release()
    if number_format == "onnx":
        path, encoded = litert.MODELS / f"{name}.onnx", conversion.onnx(model)
        memory.release()  # the conversion takes 1.4 GB, of which glibc would keep most
        classify = conversion.load_onnx(encoded, path)
        calibration = calibrate(classify)
        encoded = conversion.add_property(encoded, conformal.KEY, conformal.to_json(calibration))
    else:
        path, encoded = litert.path_of(name, number_format), conversion.litert(model, number_format, images)
        classify = litert.to_function(encoded, path)
        calibration = calibrate(classify)
        encoded = conformal.append(encoded, calibration)
    with files.replacing(path) as aside:
        aside.write_bytes(encoded)
    return path, classify, calibration


def latencies(formats: dict[str, litert.Classify], images: np.ndarray) -> dict[str, float]:
    """Median milliseconds per image, one at a time on one core; formats alternate, so noise affects all alike."""
    taken: dict[str, list[float]] = {number_format: [] for number_format in formats}
    for image in images:
        for number_format, classify in formats.items():
            started = time.perf_counter()
            classify(image[None])
            taken[number_format].append(1000 * (time.perf_counter() - started))
    return {number_format: float(np.median(times)) for number_format, times in taken.items()}


def calibration_images(images: np.ndarray, rows: np.ndarray, wanted: int) -> np.ndarray:
    """Return up to `wanted` images (k, s, s, 3), spread evenly over `rows` and therefore over both classes."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(wanted, len(rows))).round().astype(int)]
    return images[chosen]


def compare_with_keras(
    y_true: np.ndarray, keras_prob: np.ndarray, prob: np.ndarray, threshold: float, max_accuracy_drop: float
) -> dict:
    """Compare a format's test probabilities (n,) of with_mask with those of Keras."""
    own, reference = (accuracy(y_true, one, threshold) for one in (prob, keras_prob))
    return {
        "accuracy": own,
        "accuracy_lost": reference - own,
        "other_class": int(((prob >= threshold) != (keras_prob >= threshold)).sum()),
        "probability_difference_max": float(np.abs(prob - keras_prob).max()),
        "lossy": bool(reference - own > max_accuracy_drop),
    }


def export_model(
    name: str, images: np.ndarray, rows: dict[str, tuple[np.ndarray, np.ndarray]], p: params.Params
) -> dict[str, dict]:
    """Export one model in every format and return its part of metrics/export.json, measured on the test images.

    `rows` has the rows of `images` and the classes of each split, as packing.rows_of returns them. Every file's
    prediction sets are calibrated on the validation images with that file's own probabilities.

    Raises RuntimeError if float32 or ONNX predicts a class other than Keras's on any test image.
    """
    model = saving.load(name)
    test, y_true = rows["test"]
    keras_prob = predict(model, images, test, batch_size=32)
    pixels = images[test]
    quantized = calibration_images(images, rows["train"][0], p.export.calibration_images)
    val, y_val = images[rows["val"][0]], rows["val"][1]
    del images  # whose pages count as memory of the process
    paths: dict[str, Path] = {}
    calibrations: dict[str, Calibration] = {}
    formats: dict[str, litert.Classify] = {"keras": partial(classify_with_keras, model)}
    for number_format in FORMATS[::-1]:  # ONNX first, whose conversion takes the most memory
        paths[number_format], formats[number_format], calibrations[number_format] = write_format(
            model, name, number_format, quantized, lambda run: scoring.calibrate(y_val, run(val), p.conformal.error)
        )
    milliseconds = latencies(formats, pixels[:TIMED])
    result: dict[str, dict] = {
        "keras": {"accuracy": accuracy(y_true, keras_prob, p.evaluate.threshold), "n": len(test)}
    }
    for number_format in FORMATS:
        path = paths[number_format]
        prob = formats[number_format](pixels)
        comparison = compare_with_keras(y_true, keras_prob, prob, p.evaluate.threshold, p.export.max_accuracy_drop)
        if number_format in ("float32", "onnx") and comparison["other_class"]:
            raise RuntimeError(f"{path} predicts another class than Keras on {comparison['other_class']} test images")
        sets = scoring.conformal_metrics(
            y_true, prob, calibrations[number_format], threshold=p.evaluate.threshold, confidence=p.evaluate.confidence
        )
        result[number_format] = {"bytes": path.stat().st_size, **comparison, "conformal": sets}
    for number_format, taken in milliseconds.items():
        result[number_format]["latency_ms"] = round(taken, 2)
    return rounded(result, 4)
