"""Stage `train_mobilenet`: MobileNetV2 by transfer, first its head alone, then its last blocks too.

    python -m pipeline.train_mobilenet

Reads data/split/, with the features of stage `features`, and models/mobilenet_backbone.weights.h5; writes
models/mobilenet.json, models/mobilenet.weights.h5 and plots/history_mobilenet.csv. Parameters: seed, image_size,
model.dropout, mobilenet.*, augment.*. Only training and validation pictures are looked at.
"""

from __future__ import annotations

import time

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline import errors, params, tracking
from pipeline.data import batches, packing
from pipeline.models import mobilenet, training


def main() -> None:
    started = time.time()
    p = params.load()
    m = p.mobilenet
    tracking.check()
    training.make_repeatable(p.seed)
    images, manifest = packing.open_images(), packing.read_manifest()
    rows, classes = packing.rows_of(manifest, "train")
    val_rows, val_classes = packing.rows_of(manifest, "val")
    one_hot = np.eye(2, dtype=np.float32)

    backbone = mobilenet.starting_backbone(p.image_size)
    head = mobilenet.build_head(p.model.dropout)
    # While the backbone is frozen its features of a picture never change: stage `features` has computed them.
    features = packing.open_features()
    steps = batches.steps_per_epoch(len(rows), m.batch_size)

    def optimizer(learning_rate: float, epochs: int) -> keras.optimizers.Optimizer:
        schedule = training.cosine_schedule(learning_rate, steps * epochs)
        return training.adamw(schedule, weight_decay=m.weight_decay, averaging=m.averaging)

    frozen = training.fit(
        head,
        tf.data.Dataset.from_tensor_slices((features[rows], one_hot[classes]))
        .shuffle(len(rows), seed=p.seed)
        .repeat()
        .batch(m.batch_size),
        tf.data.Dataset.from_tensor_slices((features[val_rows], one_hot[val_classes])).batch(256),
        optimizer=optimizer(m.head_learning_rate, m.head_epochs),
        steps_per_epoch=steps,
        epochs=m.head_epochs,
        label_smoothing=m.label_smoothing,
        patience=m.patience,
    )

    model = mobilenet.assemble(backbone, head, p.image_size)
    fine = []
    if m.fine_tune_epochs:
        mobilenet.unfreeze(backbone, m.fine_tune_blocks)
        fine = training.fit(
            model,
            batches.training_batches(
                images,
                rows,
                classes,
                batch_size=m.batch_size,
                seed=p.seed,
                changes=p.augment.model_dump() | {"reduction": m.reduction},
            ),
            batches.plain_batches(images, val_rows, val_classes),
            optimizer=optimizer(m.fine_tune_learning_rate, m.fine_tune_epochs),
            steps_per_epoch=steps,
            epochs=m.fine_tune_epochs,
            label_smoothing=m.label_smoothing,
            patience=m.patience,
        )

    table = pd.concat([pd.DataFrame(frozen).assign(phase="head"), pd.DataFrame(fine).assign(phase="fine-tune")])
    table["epoch"] = np.arange(1, len(table) + 1)
    training.keep(model, "mobilenet", table, started)


if __name__ == "__main__":
    errors.run(main)
