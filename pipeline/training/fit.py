"""The training loop of both models: weight averaging, early stopping, and the best epoch by validation loss."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from face_mask.errors import UserError
from pipeline.training import resume

LogEpochs = Callable[[Sequence[Mapping[str, float]]], None]  # called with the rows of further epochs


def make_repeatable(seed: int) -> None:
    """Seed Keras, NumPy and TensorFlow and make all ops deterministic, so that a machine reproduces its weights."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


@contextmanager
def computing_in(precision: Literal["float32", "bfloat16"]) -> Iterator[None]:
    """Make layers that are built here compute in this format, also later; their weights are float32 in any case."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def on_devices(devices: int | Literal["all"], batch_size: int) -> Iterator[Machines | None]:
    """Create models and call `fit` in it, and each batch is split between so many GPUs, or between several machines.

    "all" are all GPUs, and without one the processor. The gradient is that of the whole batch, so the result differs
    from that of one device only by rounding and by what Dropout drops. One device is what TensorFlow uses anyway.
    Yields the machines if the environment variable TF_CONFIG lists several, and ends the process on all but the first.

    Raises UserError if there are fewer GPUs, if `batch_size` is not a multiple of the number of GPUs or machines, or if
    another machine stops.
    """
    if "TF_CONFIG" in os.environ:
        machines = Machines(batch_size)
        try:
            yield machines
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError):
            raise UserError(
                "another machine of TF_CONFIG stopped: start all again, and they continue after the last finished epoch"
            ) from None
        if machines.rank:
            print("trained; the first machine of TF_CONFIG writes the results")
            sys.exit(0)
        return
    if devices == 1:
        yield None
        return
    # Without a GPU, logical devices of the processor count, of which there is one unless a test has made more.
    found = [one.name for one in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
    number = len(found) if devices == "all" else devices
    if number > len(found):
        gpus = len(tf.config.list_logical_devices("GPU"))
        raise UserError(f"training.devices is {number}, and TensorFlow has {gpus} GPUs: lower it in params.yaml")
    check_divisible(batch_size, number, "training.devices in params.yaml")
    with tf.distribute.MirroredStrategy(found[:number]).scope() if number > 1 else nullcontext():
        yield None


def check_divisible(batch_size: int, number: int, key: str) -> None:
    """Raise UserError if a batch has not the same number of images for each of `number` devices."""
    if batch_size % number:
        raise UserError(
            f"batches of {batch_size} images cannot be split evenly between {number} devices: change batch_size or"
            f" {key}"
        )


class Machines(keras.callbacks.Callback):
    """The machines of TF_CONFIG: each trains the same weights on its part of each batch.

    Keras 3.15 cannot `fit` in the scope of MultiWorkerMirroredStrategy, so that only averages gradients and the losses
    of an epoch. Create it before TensorFlow is used.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        self.number, self.rank = self.strategy.num_replicas_in_sync, self.strategy.cluster_resolver.task_id
        check_divisible(batch_size, self.number, "the workers in TF_CONFIG")

    @tf.function
    def mean(self, values):
        """The mean over the machines of each tensor in a list."""

        def reduce(values):
            values = [tf.identity(one) for one in values]  # on this machine's device
            return tf.distribute.get_replica_context().all_reduce("MEAN", values)

        return self.strategy.run(reduce, args=(values,))

    def part_of(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        return batches.map(lambda *batch: tuple(one[self.rank :: self.number] for one in batch))

    def join(self, optimizer: keras.optimizers.Optimizer, epochs: int) -> None:
        """Make `optimizer` apply the mean gradient. Raises UserError if the machines resume after other epochs."""
        if float(self.mean([tf.constant(float(epochs))])[0]) != epochs:
            raise UserError("the machines of TF_CONFIG have different checkpoints: give all the same models/.resume/")
        apply = optimizer.apply
        optimizer.apply = lambda gradients, variables=None: apply(self.mean(list(gradients)), variables)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = {} if logs is None else logs
        means = self.mean([tf.constant(float(value), tf.float64) for value in logs.values()])
        logs.update(zip(logs, (float(one) for one in means), strict=True))


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
    checkpoint: resume.Checkpoint | None = None,
    machines: Machines | None = None,
    log: LogEpochs | None = None,
) -> pd.DataFrame:
    """Train `model` in place, restore the weights of its best epoch, and return the history, one row per epoch.

    If the optimizer keeps a moving average of the weights, the average is validated and kept. Training stops after
    `patience` epochs without a lower validation loss. The columns are epoch, learning_rate, loss, accuracy, val_loss
    and val_accuracy; loss and accuracy are measured on augmented batches in training mode, so they are worse than
    those of validation. With a checkpoint, the training continues after the epochs that this has, and saves each
    further one; `batches` must start with number `checkpoint.epochs * steps_per_epoch`. `log` gets the epochs that the
    checkpoint has, which may be none, and then each one when it has ended and is saved; of several machines, the first
    one's alone.

    Raises UserError, naming the parameter `rate_key` of the learning rate, if a loss or the best epoch's weights are
    not finite.
    """
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)
    # Keras turns XLA off by itself after `make_repeatable`; tests, without that, should train in the same way.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    keeper = BestEpoch(model.name, epochs, patience, rate_key, checkpoint, None if machines and machines.rank else log)
    averaged = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if optimizer.use_ema else []
    if checkpoint and checkpoint.epochs:
        checkpoint.restore(model)
    shared: list[keras.callbacks.Callback] = []
    if machines:
        batches, shared = machines.part_of(batches), [machines]
        machines.join(optimizer, len(keeper.history))
        if checkpoint and machines.rank:
            checkpoint.digest = ""  # the first machine saves it
    model.fit(
        without_autotune(batches),
        epochs=epochs,
        initial_epoch=len(keeper.history),
        steps_per_epoch=steps_per_epoch,
        validation_data=without_autotune(evenly(validation)),
        callbacks=[*averaged, *shared, keeper],  # `averaged` puts the weights back before `keeper` saves them
        shuffle=False,  # the batches come shuffled
        verbose=0,
    )
    model.set_weights(keeper.best_weights)
    return pd.DataFrame(keeper.history)


def evenly(validation: tf.data.Dataset) -> tf.data.Dataset:
    """Make batches that several devices can split evenly, but the last; Keras 3.15 needs that of the first one."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1:
        return validation
    size = len(next(iter(validation))[1])
    return validation.rebatch(max(size // replicas, 1) * replicas)


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


def skipped_steps(optimizer: keras.optimizers.Optimizer | None) -> dict[str, float]:
    """Return skipped_steps, how many steps a built optimizer has skipped, or nothing if it is one that skips none."""
    skipped = getattr(optimizer, "skipped", None)
    return {} if skipped is None else {"skipped_steps": float(skipped.numpy())}


class BestEpoch(keras.callbacks.Callback):
    """Records the history, keeps the weights with the lowest validation loss, and prints a line per epoch.

    Raises UserError that names `rate_key` in the first epoch whose losses or best weights are not finite.
    """

    def __init__(
        self,
        name: str,
        epochs: int,
        patience: int,
        rate_key: str,
        checkpoint: resume.Checkpoint | None = None,
        log: LogEpochs | None = None,
    ):
        super().__init__()
        self.log, self.logged = log, 0
        self.name, self.epochs, self.patience, self.rate_key = name, epochs, patience, rate_key
        self.checkpoint = checkpoint
        before = checkpoint.progress if checkpoint else {}
        self.best_loss, self.best_epoch = before.get("best_loss", float("inf")), before.get("best_epoch", 0)
        self.best_weights: list = checkpoint.best_weights if checkpoint else []
        self.history: list[dict[str, float]] = list(before.get("history", []))
        self.started = time.time() - before.get("seconds", 0.0)

    def log_further(self, logs: dict | None = None) -> None:
        if self.log:
            self.log(self.history[self.logged :])
            self.logged = len(self.history)

    on_train_begin = on_train_end = log_further

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self.checkpoint and epoch > self.checkpoint.epochs:
            progress = {name: getattr(self, name) for name in ("history", "best_loss", "best_epoch")}
            progress["seconds"] = time.time() - self.started
            self.checkpoint.save(self.model, self.best_weights, progress)
        self.log_further()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        rate = float(self.model.optimizer.learning_rate.numpy())
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
        skipped = skipped_steps(self.model.optimizer).get("skipped_steps", 0)
        elapsed = time.time() - self.started
        left = elapsed / (epoch + 1) * (self.epochs - epoch - 1)
        print(
            f"{self.name}: epoch {epoch + 1}/{self.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}"
            f"  val loss {row['val_loss']:.4f}  val accuracy {row['val_accuracy']:.4f}"
            + (f"  steps skipped {skipped:.0f}" if skipped else "")
            + f"  {elapsed:.0f} s, at most {left:.0f} s to go",
            flush=True,
        )

    def diverged(self, epoch: int, reason: str) -> UserError:
        return UserError(
            f"the training of {self.name} diverged in epoch {epoch + 1} of {self.epochs} ({reason}): lower"
            f" {self.rate_key} in params.yaml"
        )
