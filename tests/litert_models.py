"""LiteRT models with known predictions: P(with_mask) is the logistic function of the image's brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face_mask import conformal

CALIBRATION = conformal.Calibration(0.05, with_mask_from=0.7, without_mask_to=0.3, n_with_mask=40, n_without_mask=40)
SLOPE, OFFSET = 0.02, -6.0  # of the sum of the three channels' means, which is 0…765


def write(folder: Path, size: int, names: tuple[str, ...] = ("cnn", "mobilenet")) -> None:
    """Write the same model for images of `size` pixels as NAME.float32.tflite, and a placeholder for its weights."""
    import keras

    from pipeline.models import conversion

    pixels = keras.Input((size, size, 3))
    bright = keras.layers.GlobalAveragePooling2D()(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax", name="out")(bright))
    model.get_layer("out").set_weights([np.array([[0.0, SLOPE]] * 3, np.float32), np.array([0, OFFSET], np.float32)])
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / f"{names[0]}.float32.tflite"
    encoded = conversion.litert(model, "float32", np.empty((0, size, size, 3), np.uint8))
    first.write_bytes(conformal.append(encoded, CALIBRATION))
    for name in names:
        (folder / first.name.replace(names[0], name)).write_bytes(first.read_bytes())
        (folder / f"{name}.weights.h5").write_bytes(name.encode())


def probability(pixels: np.ndarray) -> float:
    """P(with_mask) of an image (h, w, 3) uint8."""
    return float(1 / (1 + np.exp(-(SLOPE * pixels.mean(axis=(0, 1)).sum() + OFFSET))))
