"""Stage `train_cnn`: the small CNN, from scratch.

    python -m pipeline.train_cnn

Reads data/split/; writes models/cnn.json, models/cnn.weights.h5 and plots/history_cnn.csv. Parameters: seed,
image_size, model.dropout, cnn.*, augment.*. Only training and validation pictures are looked at.
"""

from __future__ import annotations

import time

import pandas as pd

from pipeline import errors, params, tracking
from pipeline.data import batches, packing
from pipeline.models import cnn, training


def main() -> None:
    started = time.time()
    p = params.load()
    tracking.check()
    training.make_repeatable(p.seed)
    images, manifest = packing.open_images(), packing.read_manifest()
    rows, classes = packing.rows_of(manifest, "train")

    steps = batches.steps_per_epoch(len(rows), p.cnn.batch_size)
    model = cnn.build(p.image_size, p.model.dropout)
    history = training.fit(
        model,
        batches.training_batches(
            images,
            rows,
            classes,
            batch_size=p.cnn.batch_size,
            seed=p.seed,
            changes=p.augment.model_dump() | {"reduction": p.cnn.reduction},
        ),
        batches.plain_batches(images, *packing.rows_of(manifest, "val")),
        optimizer=training.muon(
            training.cosine_schedule(p.cnn.learning_rate, steps * p.cnn.epochs),
            weight_decay=p.cnn.weight_decay,
            averaging=p.cnn.averaging,
        ),
        steps_per_epoch=steps,
        epochs=p.cnn.epochs,
        label_smoothing=p.cnn.label_smoothing,
        patience=p.cnn.patience,
    )

    training.keep(model, "cnn", pd.DataFrame(history), started)


if __name__ == "__main__":
    errors.run(main)
