"""Stage `train_cnn`: the small CNN, from scratch.

    python -m pipeline.train_cnn

Reads data/split/; writes models/cnn.json, models/cnn.weights.h5 and plots/history_cnn.csv. Parameters: seed,
image_size, model.dropout, cnn.*, augment.*. Only training and validation pictures are looked at.
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from pipeline import atomic, errors, params, tracking
from pipeline.data import batches, packing
from pipeline.models import cnn, saving, training

HISTORY = Path("plots/history_cnn.csv")


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
            images, rows, classes, batch_size=p.cnn.batch_size, seed=p.seed, changes=p.augment.model_dump()
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

    saving.save(model, "cnn")
    table = pd.DataFrame(history)
    atomic.write_text(HISTORY, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    best = table.loc[table["val_loss"].idxmin()]
    tracking.log_training(
        "cnn",
        params={},
        history=table,
        metrics={
            "best.epoch": best["epoch"],
            "best.val_loss": best["val_loss"],
            "best.val_accuracy": best["val_accuracy"],
        },
        digest=tracking.weights_digest(saving.weights_path("cnn")),
        artifacts=[HISTORY, saving.architecture_path("cnn"), saving.weights_path("cnn")],
        started=started,
    )
    print(
        f"train_cnn: best of {len(table)} epochs is {best['epoch']:.0f}, validation accuracy"
        f" {best['val_accuracy']:.2%}; {time.time() - started:.0f} s"
    )


if __name__ == "__main__":
    errors.run(main)
