"""Stage `train_mobilenet`: MobileNetV2 by transfer learning, first its head alone, then its last blocks as well.

    python -m pipeline.train_mobilenet

Reads data/split/, with the features of the stage `features`, data/counterfactuals/, data/audit/label_issues.csv and
models/mobilenet_backbone.weights.h5; writes models/mobilenet.json, models/mobilenet.weights.h5 and
models/history_mobilenet.csv. Parameters: seed, image_size, model.dropout, mobilenet.*, training.*, augment.*,
audit.exclude_from_training. Reads training and validation images only. If the fine-tuning was interrupted, it continues
after its last finished epoch, from models/.resume/; the head, which takes seconds, is trained again.
"""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd

from face_mask import errors
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.models import mobilenet, saving
from pipeline.training import batches, fit, optimizer, resume


def main() -> None:
    with tracking.stage("train_mobilenet") as run:
        p = params.load()
        m = p.mobilenet
        fit.make_repeatable(p.seed)
        images, val = batches.read("train", p.audit.exclude_from_training), batches.read("val")
        steps = batches.steps_per_epoch(len(images.rows), m.batch_size)

        def adamw(learning_rate: float, epochs: int, number_format: str) -> keras.optimizers.Optimizer:
            schedule = optimizer.cosine_schedule(learning_rate, steps * epochs)
            return optimizer.adamw(
                schedule, weight_decay=m.weight_decay, ema_momentum=m.ema_momentum, precision=number_format
            )

        with fit.on_devices(p.training.devices, min(m.batch_size, len(images.rows))) as machines:
            with fit.computing_in(m.precision):
                backbone = mobilenet.starting_backbone(p.image_size)
            head = mobilenet.build_head(p.model.dropout)
            checkpoint = resume.Checkpoint("mobilenet")
            log = run.epochs("mobilenet", checkpoint.digest)
            # The features of a frozen backbone never change, so stage `features` has computed them.
            features = packing.open_features()
            history = fit.fit(
                head,
                batches.feature_batches(features[images.rows], images.classes, batch_size=m.batch_size, seed=p.seed),
                batches.plain_feature_batches(features[val.rows], val.classes),
                optimizer=adamw(m.head_learning_rate, m.head_epochs, "float32"),
                steps_per_epoch=steps,
                epochs=m.head_epochs,
                label_smoothing=m.label_smoothing,
                patience=m.patience,
                rate_key="mobilenet.head_learning_rate",
                machines=machines,
                log=log,
            ).assign(phase="head")

            model = mobilenet.assemble(backbone, head, p.image_size)
            if m.fine_tune_epochs:
                mobilenet.unfreeze(backbone, m.fine_tune_blocks)
                fine_tuning = fit.fit(
                    model,
                    batches.training_batches(
                        images,
                        first=checkpoint.epochs * steps,
                        batch_size=m.batch_size,
                        seed=p.seed,
                        changes=p.augment.model_dump(exclude={"incorrect_as"}) | {"downscale_prob": m.downscale_prob},
                        counterfactual_prob=m.counterfactual_prob,
                    ),
                    batches.validation_batches(val, seed=p.seed, counterfactual_prob=m.counterfactual_prob),
                    optimizer=adamw(m.fine_tune_learning_rate, m.fine_tune_epochs, m.precision),
                    steps_per_epoch=steps,
                    epochs=m.fine_tune_epochs,
                    label_smoothing=m.label_smoothing,
                    patience=m.patience,
                    rate_key="mobilenet.fine_tune_learning_rate",
                    checkpoint=checkpoint,
                    machines=machines,
                    log=log,
                )
                history = pd.concat([history, fine_tuning.assign(phase="fine-tune")], ignore_index=True)

        history["epoch"] = np.arange(1, len(history) + 1)
        saving.save(model, "mobilenet", history)
        checkpoint.clear()
        best = fit.best_epoch(history) | fit.skipped_steps(getattr(model, "optimizer", None))
        run.log_training("mobilenet", history=history, metrics=best, artifacts=saving.paths("mobilenet"))
        run.report(
            f"best epoch {best['best.epoch']:.0f} of {len(history)},"
            f" validation accuracy {best['best.val_accuracy']:.2%}"
        )


if __name__ == "__main__":
    errors.run(main)
