"""Stage `train_cnn`: the small CNN, trained from scratch.

    python -m pipeline.train_cnn

Reads data/split/, data/counterfactuals/ and data/audit/label_issues.csv; writes models/cnn.json, models/cnn.weights.h5
and models/history_cnn.csv. Parameters: seed, image_size, model.dropout, cnn.*, training.*, augment.*,
audit.exclude_from_training. With cnn.teacher = mobilenet also reads models/mobilenet.*. Reads training and validation
images only. If it was interrupted, it continues after the last finished epoch, from models/.resume/.
"""

from __future__ import annotations

from face_mask import errors
from pipeline import tracking
from pipeline.core import params
from pipeline.models import cnn, saving
from pipeline.training import batches, fit, optimizer, resume


def main() -> None:
    with tracking.stage("train_cnn") as run:
        p = params.load()
        fit.make_repeatable(p.seed)
        images, val = batches.read("train", p.audit.exclude_from_training), batches.read("val")
        steps = batches.steps_per_epoch(len(images.rows), p.cnn.batch_size)
        with fit.on_devices(p.training.devices, min(p.cnn.batch_size, len(images.rows))) as machines:
            teacher = saving.load(p.cnn.teacher) if p.cnn.teacher != "none" else None
            # dvc.yaml does not declare the teacher's files, since a training without one does not depend on them.
            checkpoint = resume.Checkpoint("cnn", saving.paths(p.cnn.teacher)[1:] if teacher else ())
            training = batches.training_batches(
                images,
                first=checkpoint.epochs * steps,
                batch_size=p.cnn.batch_size,
                seed=p.seed,
                changes=p.augment.model_dump(exclude={"incorrect_as"}) | {"downscale_prob": p.cnn.downscale_prob},
                counterfactual_prob=p.cnn.counterfactual_prob,
            )
            if teacher:
                training = batches.with_teacher(training, teacher)
            with fit.computing_in(p.cnn.precision):
                model = cnn.build(p.image_size, p.model.dropout)
            muon = optimizer.muon(
                optimizer.cosine_schedule(p.cnn.learning_rate, steps * p.cnn.epochs),
                weight_decay=p.cnn.weight_decay,
                ema_momentum=p.cnn.ema_momentum,
                precision=p.cnn.precision,
            )
            history = fit.fit(
                cnn.for_training(model),
                training,
                batches.validation_batches(val, seed=p.seed, counterfactual_prob=p.cnn.counterfactual_prob),
                optimizer=muon,
                steps_per_epoch=steps,
                epochs=p.cnn.epochs,
                label_smoothing=p.cnn.label_smoothing,
                patience=p.cnn.patience,
                rate_key="cnn.learning_rate",
                checkpoint=checkpoint,
                machines=machines,
                log=run.epochs("cnn", checkpoint.digest),
            )
        saving.save(model, "cnn", history)
        checkpoint.clear()
        best = fit.best_epoch(history) | fit.skipped_steps(muon)
        run.log_training("cnn", history=history, metrics=best, artifacts=saving.paths("cnn"))
        run.report(
            f"best epoch {best['best.epoch']:.0f} of {len(history)},"
            f" validation accuracy {best['best.val_accuracy']:.2%}"
        )


if __name__ == "__main__":
    errors.run(main)
