"""Stage `predict`: both trained models on every training, validation and test image.

    python -m pipeline.predict

Reads data/split/ and models/; writes data/predictions.csv (path, label, split, and P(with_mask) by each model), from
which `evaluate` computes every metric, so that a change of the threshold or the intervals needs no new prediction.

Expect 35 s for 7,450 images on 2 cores.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from face_mask import errors, files
from face_mask.schema import MODELS, SPLITS
from pipeline import tracking
from pipeline.dataset import packing
from pipeline.models import saving
from pipeline.models.predicting import predict


def predictions_table(manifest: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """path, label, split, and P(with_mask) by each model, for every image in a split."""
    used = manifest[manifest["split"].isin(SPLITS)]
    table = used[["path", "label", "split"]].reset_index(drop=True)
    for name in MODELS:
        table[name] = predict(saving.load(name), images, used["row"].to_numpy())
    return table


def main() -> None:
    with tracking.stage("predict") as run:
        table = predictions_table(packing.read_manifest(), packing.open_images())
        # Six digits: what follows them is rounding error, which differs between machines.
        files.write_csv(packing.PREDICTIONS_PATH, table, "%.6f")
        run.log({"images": len(table)}, artifacts=[packing.PREDICTIONS_PATH])
        run.report(f"{len(table)} images by {len(MODELS)} models in {packing.PREDICTIONS_PATH}")


if __name__ == "__main__":
    errors.run(main)
