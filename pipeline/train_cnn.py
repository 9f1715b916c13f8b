"""Stage `train_cnn`: the small CNN, trained from scratch.

    python -m pipeline.train_cnn

Reads data/split/; writes models/cnn.json, models/cnn.weights.h5 and models/history_cnn.csv. Parameters: seed,
image_size, model.dropout, cnn.*, augment.*. Reads training and validation images only.
"""

from __future__ import annotations

from face_mask import errors
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.models import cnn, saving
from pipeline.training import batches, fit, optimizer


def main() -> None:
    with tracking.stage("train_cnn") as run:
        p = params.load()
        fit.make_repeatable(p.seed)
        images, manifest = packing.open_images(), packing.read_manifest()
        rows, classes = packing.rows_of(manifest, "train")

        steps = batches.steps_per_epoch(len(rows), p.cnn.batch_size)
        model = cnn.build(p.image_size, p.model.dropout)
        history = fit.fit(
            model,
            batches.training_batches(
                images,
                rows,
                classes,
                batch_size=p.cnn.batch_size,
                seed=p.seed,
                changes=p.augment.model_dump() | {"downscale_prob": p.cnn.downscale_prob},
            ),
            batches.plain_batches(images, *packing.rows_of(manifest, "val")),
            optimizer=optimizer.muon(
                optimizer.cosine_schedule(p.cnn.learning_rate, steps * p.cnn.epochs),
                weight_decay=p.cnn.weight_decay,
                ema_momentum=p.cnn.ema_momentum,
            ),
            steps_per_epoch=steps,
            epochs=p.cnn.epochs,
            label_smoothing=p.cnn.label_smoothing,
            patience=p.cnn.patience,
            rate_key="cnn.learning_rate",
        )
        saving.save(model, "cnn", history)
        best = fit.best_epoch(history)
        run.log_training("cnn", history=history, metrics=best, artifacts=saving.paths("cnn"))
        run.report(
            f"best epoch {best['best.epoch']:.0f} of {len(history)},"
            f" validation accuracy {best['best.val_accuracy']:.2%}"
        )


if __name__ == "__main__":
    errors.run(main)
