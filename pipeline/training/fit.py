"""The training loop of both models: weight averaging, early stopping, and the best epoch by validation loss."""

from __future__ import annotations

import time

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from face_mask.errors import UserError


def make_repeatable(seed: int) -> None:
    """Seed Keras, NumPy and TensorFlow and make all ops deterministic, so that a machine reproduces its weights."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


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
    rate_key: str,
) -> pd.DataFrame:
    """Train `model` in place, restore the weights of its best epoch, and return the history, one row per epoch.

    If the optimizer keeps a moving average of the weights, the average is validated and kept. Training stops after
    `patience` epochs without a lower validation loss. The columns are epoch, learning_rate, loss, accuracy, val_loss
    and val_accuracy; loss and accuracy are measured on augmented batches in training mode, so they are worse than
    those of validation.

    Raises UserError, naming the parameter `rate_key` of the learning rate, if a loss or the best epoch's weights are
    not finite.
    """
    model.compile(
        optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing), metrics=["accuracy"]
    )
    keeper = BestEpoch(model.name, epochs, patience, rate_key)
    averaged = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if optimizer.use_ema else []
    model.fit(
        without_autotune(batches),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=without_autotune(validation),
        callbacks=[*averaged, keeper],
        shuffle=False,  # the batches come shuffled
        verbose=0,
    )
    model.set_weights(keeper.best_weights)
    return pd.DataFrame(keeper.history)


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Disable tf.data's autotuning: there is nothing to tune here, and releasing the iterator blocks until its thread
    next wakes up, up to a minute after a long training (TensorFlow 2.21)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def best_epoch(history: pd.DataFrame) -> dict[str, float]:
    """Return best.epoch, best.val_loss and best.val_accuracy of the epoch whose weights were kept.

    That is the epoch with the lowest validation loss, of the last phase if a column `phase` separates several.
    """
    last = history[history["phase"] == history["phase"].iloc[-1]] if "phase" in history else history
    best = last.loc[last["val_loss"].idxmin()]
    return {f"best.{key}": float(best[key]) for key in ("epoch", "val_loss", "val_accuracy")}


class BestEpoch(keras.callbacks.Callback):
    """Records the history, keeps the weights with the lowest validation loss, and prints a line per epoch.

    Raises UserError that names `rate_key` in the first epoch whose losses or best weights are not finite.
    """

    def __init__(self, name: str, epochs: int, patience: int, rate_key: str):
        super().__init__()
        self.name, self.epochs, self.patience, self.rate_key = name, epochs, patience, rate_key
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
        for name in ("loss", "val_loss"):
            if not np.isfinite(row[name]):
                raise self.diverged(epoch, f"{name} is {row[name]}")
        if row["val_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = row["val_loss"], epoch + 1
            self.best_weights = self.model.get_weights()
            # A ReLU may turn NaN into 0, so the loss alone does not show it.
            if not all(np.isfinite(one).all() for one in self.best_weights):
                raise self.diverged(epoch, "weights are not finite")
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

    def diverged(self, epoch: int, reason: str) -> UserError:
        return UserError(
            f"the training of {self.name} diverged in epoch {epoch + 1} of {self.epochs} ({reason}): lower"
            f" {self.rate_key} in params.yaml"
        )
