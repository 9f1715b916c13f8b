"""Export of a trained model in every format, each compared with Keras: accuracy, predicted classes, latency."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import keras
import numpy as np

from face_mask import files, litert
from pipeline.core import params
from pipeline.models import conversion, saving
from pipeline.models.predicting import predict
from pipeline.scoring.metrics import accuracy, rounded

FORMATS = (*litert.FORMATS, "onnx")
TIMED = 40  # images, predicted one at a time by every format in turn


def classify_with_keras(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Map (n, s, s, 3) uint8 to (n,) P(with_mask), with the interface of the exported formats."""
    return model(images, training=False).numpy()[:, 1]


def write_format(
    model: keras.Model, name: str, number_format: str, calibration: np.ndarray
) -> tuple[Path, litert.Classify]:
    """Convert the model and write the file; return its path and a function that runs it."""
    if number_format == "onnx":
        path, encoded = litert.MODELS / f"{name}.onnx", conversion.onnx(model)
    else:
        path, encoded = litert.path_of(name, number_format), conversion.litert(model, number_format, calibration)
    with files.replacing(path) as aside:
        aside.write_bytes(encoded)
    return path, conversion.load_onnx(encoded, path) if number_format == "onnx" else litert.load(path)


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
    name: str, images: np.ndarray, test: np.ndarray, y_true: np.ndarray, calibration: np.ndarray, p: params.Params
) -> dict[str, dict]:
    """Export one model in every format and return its part of metrics/export.json, measured on the test images.

    Raises RuntimeError if float32 or ONNX predicts a class other than Keras's on any test image.
    """
    model = saving.load(name)
    keras_prob = predict(model, images, test)
    pixels = images[test]
    paths: dict[str, Path] = {}
    formats: dict[str, litert.Classify] = {"keras": partial(classify_with_keras, model)}
    for number_format in FORMATS:
        paths[number_format], formats[number_format] = write_format(model, name, number_format, calibration)
    milliseconds = latencies(formats, pixels[:TIMED])
    result: dict[str, dict] = {
        "keras": {"accuracy": accuracy(y_true, keras_prob, p.evaluate.threshold), "n": len(test)}
    }
    for number_format, path in paths.items():
        prob = formats[number_format](pixels)
        comparison = compare_with_keras(y_true, keras_prob, prob, p.evaluate.threshold, p.export.max_accuracy_drop)
        if number_format in ("float32", "onnx") and comparison["other_class"]:
            raise RuntimeError(f"{path} predicts another class than Keras on {comparison['other_class']} test images")
        result[number_format] = {"bytes": path.stat().st_size, **comparison}
    for number_format, taken in milliseconds.items():
        result[number_format]["latency_ms"] = round(taken, 2)
    return rounded(result, 4)
