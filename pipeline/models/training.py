"""How both models are trained and kept: cosine schedule, averaged weights, the best epoch by validation loss."""

from __future__ import annotations

import time
from pathlib import Path

import keras
import pandas as pd
import tensorflow as tf

from pipeline import atomic, tracking
from pipeline.models import saving
from pipeline.models.muon import Muon


def make_repeatable(seed: int) -> None:
    """Seed Keras, NumPy and TensorFlow and make every op deterministic: the same weights on the same machine."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def cosine_schedule(peak: float, steps: int, warmup: float = 0.05) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up over the first `warmup` share of `steps`, then a half cosine from `peak` to zero."""
    warmup_steps = max(1, round(warmup * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup_steps, warmup_target=peak, warmup_steps=warmup_steps
    )


def muon(schedule, *, weight_decay: float, averaging: float) -> keras.optimizers.Optimizer:
    """Muon for a model whose output layer is called "probabilities"."""
    return Muon(schedule, output="probabilities", weight_decay=weight_decay, **average_options(averaging))


def adamw(schedule, *, weight_decay: float, averaging: float) -> keras.optimizers.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return keras.optimizers.AdamW(schedule, weight_decay=weight_decay, **average_options(averaging))


def average_options(momentum: float) -> dict[str, float | bool]:
    """What makes a Keras optimizer keep a moving average of the weights; nothing for momentum 0."""
    return {"use_ema": True, "ema_momentum": momentum} if momentum else {}


def fit(
    model: keras.Model,
    batches: tf.data.Dataset,
    validation: tf.data.Dataset,
    *,
    optimizer: keras.optimizers.Optimizer,
    steps_per_epoch: int,
    epochs: int,
    label_smoothing: float,
    patience: int,
) -> list[dict[str, float]]:
    """Train `model` in place and leave it at its best epoch; returns one row an epoch.

    Where the optimizer keeps a moving average of the weights, that is what is validated and kept. Training stops after
    `patience` epochs without a lower validation loss. A row holds epoch, learning_rate, loss, accuracy, val_loss,
    val_accuracy; loss and accuracy are of the augmented batches in training mode, so they look worse than the figures
    of validation.
    """
    model.compile(
        optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing), metrics=["accuracy"]
    )
    keeper = BestEpoch(model.name, epochs, patience)
    averaged = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if optimizer.use_ema else []
    model.fit(
        untuned(batches),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=untuned(validation),
        callbacks=[*averaged, keeper],
        shuffle=False,  # the batches come shuffled
        verbose=0,
    )
    model.set_weights(keeper.best_weights)
    return keeper.history


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's autotuning: there is nothing to tune here, and its thread holds up whoever lets go of the
    iterator until it next awakes, up to a minute after a long training (TensorFlow 2.21)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def keep(model: keras.Model, name: str, history: pd.DataFrame, started: float) -> None:
    """Save the model as NAME, write plots/history_NAME.csv, log the model's row, and say how the training went.

    `history` has a row an epoch, as `fit` returns them. Where a column `phase` tells trainings apart, the last one made
    the model; its epoch of the lowest validation loss is what was kept.
    """
    saving.save(model, name)
    path = Path("plots") / f"history_{name}.csv"
    atomic.write_text(path, history.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    last = history[history["phase"] == history["phase"].iloc[-1]] if "phase" in history else history
    best = last.loc[last["val_loss"].idxmin()]
    tracking.log_training(
        name,
        params={},
        history=history,
        metrics={f"best.{key}": best[key] for key in ("epoch", "val_loss", "val_accuracy")},
        digest=tracking.weights_digest(saving.weights_path(name)),
        artifacts=[path, saving.architecture_path(name), saving.weights_path(name)],
        started=started,
    )
    print(
        f"train_{name}: best of {len(history)} epochs is {best['epoch']:.0f}, validation accuracy"
        f" {best['val_accuracy']:.2%}; {time.time() - started:.0f} s"
    )


class BestEpoch(keras.callbacks.Callback):
    """Keeps the weights of the lowest validation loss, the history, and the user informed: a line an epoch."""

    def __init__(self, name: str, epochs: int, patience: int):
        super().__init__()
        self.name, self.epochs, self.patience = name, epochs, patience
        self.best_loss, self.best_epoch = float("inf"), 0
        self.best_weights: list = []
        self.history: list[dict[str, float]] = []
        self.started = time.time()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        rate = float(self.model.optimizer.learning_rate)
        row = {"epoch": epoch + 1, "learning_rate": rate} | {name: float(logs[name]) for name in names}
        self.history.append(row)
        if row["val_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = row["val_loss"], epoch + 1
            self.best_weights = self.model.get_weights()
        elif epoch + 1 - self.best_epoch >= self.patience:
            self.model.stop_training = True
        elapsed = time.time() - self.started
        left = elapsed / (epoch + 1) * (self.epochs - epoch - 1)
        print(
            f"{self.name}: epoch {epoch + 1}/{self.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}"
            f"  val loss {row['val_loss']:.4f}  val accuracy {row['val_accuracy']:.4f}"
            f"  {elapsed:.0f} s, at most {left:.0f} s to go",
            flush=True,
        )
