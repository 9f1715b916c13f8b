"""How do both models do on validation pictures that are as small as the smallest faces they are asked about?

    python -m bench.lost_resolution [MODELS_DIR …]

Every validation picture is reduced to 64, 48 and 32 pixels, compressed as JPEG of quality 75, and enlarged again.
Prints accuracy and log loss for each folder of trained models (default: models/). Training choices are made on these
and on the plain validation pictures, never on test or unseen ones. About a minute.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.metrics import log_loss

from pipeline import errors
from pipeline.data import packing
from pipeline.models.predicting import MODELS, predict
from pipeline.models.saving import MODELS as FOLDER
from pipeline.scoring.metrics import accuracy

SIDES = (64, 48, 32)
QUALITY = 75


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """A picture (s, s, 3) uint8 as it looks after `side` pixels of it were kept, as JPEG."""
    kept = io.BytesIO()
    Image.fromarray(image).resize((side, side), Image.Resampling.BOX).save(kept, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(kept).resize(image.shape[:2], Image.Resampling.BILINEAR))


def load(folder: Path, name: str) -> keras.Model:
    """The model NAME as the stages leave it, from any folder."""
    try:
        model = keras.models.model_from_json((folder / f"{name}.json").read_text(encoding="utf-8"))
        model.load_weights(folder / f"{name}.weights.h5")
    except OSError as error:
        raise errors.UserError(f"{folder} holds no trained {name} ({error}): run `dvc repro train_{name}`") from None
    return model


def main() -> None:
    rows, y_true = packing.rows_of(packing.read_manifest(), "val")
    plain = packing.open_images()[rows]
    sets = {"as they are": plain} | {
        f"{side} px": np.stack([reduced(image, side) for image in plain]) for side in SIDES
    }
    print(f"{len(y_true)} validation pictures: accuracy / log loss")
    for folder in [Path(argument) for argument in sys.argv[1:]] or [FOLDER]:
        for name in MODELS:
            model = load(folder, name)
            found = []
            for title, images in sets.items():
                y_prob = predict(model, images, np.arange(len(images)))
                found.append(f"{title} {accuracy(y_true, y_prob, 0.5):.2%} / {log_loss(y_true, y_prob):.4f}")
            print(f"{folder} {name}: {', '.join(found)}", flush=True)


if __name__ == "__main__":
    errors.run(main)
