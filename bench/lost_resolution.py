"""Accuracy of both models on validation images that are as small as the smallest faces in use.

    python -m bench.lost_resolution [MODELS_DIR …]

Downscales every validation image to 64, 48 and 32 pixels, compresses it as JPEG of quality 75, and upscales it again.
Prints accuracy and log loss for each folder of trained models (default: models/). Training choices are based on these
and on the original validation images, never on test or unseen images. Takes about a minute.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.metrics import log_loss

from face_mask import errors
from face_mask.schema import MODELS
from pipeline.dataset import packing
from pipeline.models.predicting import predict
from pipeline.models.saving import MODELS as FOLDER
from pipeline.scoring.metrics import accuracy

SIDES = (64, 48, 32)
QUALITY = 75


def downscaled(image: np.ndarray, side: int) -> np.ndarray:
    """Downscale an image (s, s, 3) uint8 to `side` pixels, compress it as JPEG, and upscale it to its former size."""
    encoded = io.BytesIO()
    Image.fromarray(image).resize((side, side), Image.Resampling.BOX).save(encoded, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(encoded).resize(image.shape[:2], Image.Resampling.BILINEAR))


def load(folder: Path, name: str) -> keras.Model:
    """Load the model `name` from a folder in which the training stages saved it. Raises UserError if it is missing."""
    try:
        model = keras.models.model_from_json((folder / f"{name}.json").read_text(encoding="utf-8"))
        model.load_weights(folder / f"{name}.weights.h5")
    except OSError as error:
        raise errors.UserError(f"{folder} has no trained {name} ({error}): run `dvc repro train_{name}`") from None
    return model


def main() -> None:
    rows, y_true = packing.rows_of(packing.read_manifest(), "val")
    original = packing.open_images()[rows]
    sets = {"original": original} | {
        f"{side} px": np.stack([downscaled(image, side) for image in original]) for side in SIDES
    }
    print(f"{len(y_true)} validation images: accuracy / log loss")
    for folder in [Path(argument) for argument in sys.argv[1:]] or [FOLDER]:
        for name in MODELS:
            model = load(folder, name)
            results = []
            for title, images in sets.items():
                y_prob = predict(model, images, np.arange(len(images)))
                results.append(f"{title} {accuracy(y_true, y_prob, 0.5):.2%} / {log_loss(y_true, y_prob):.4f}")
            print(f"{folder} {name}: {', '.join(results)}", flush=True)


if __name__ == "__main__":
    errors.run(main)
