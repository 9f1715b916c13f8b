"""Our way of training, for bench.training_worker: the stages' models, batches and optimizers, step by step.

python -m bench.trainers ours_cnn curve WORKSPACE --target 0.955
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bench import training_worker
from bench.measure import ROOT
from bench.training_worker import Phase
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.models import cnn, mobilenet, predicting
from pipeline.models.pooled_features import BATCH, THREADS, forward_function
from pipeline.training import batches, fit, optimizer


class Training(NamedTuple):
    phases: list[Phase]
    model: keras.Model  # of `cnn.build`
    trained: keras.Model  # the form of it that is trained, with the same weights

    def step_on(self, iterator: Iterator) -> dict[str, float]:
        """Train on the next batch of another iterator."""
        return step(self.trained, iterator)


def cnn_training(folder: Path, **changed: float | str) -> Training:
    """The stage `train_cnn` with the default parameters, or some of cnn.* changed."""
    p = start(folder)
    c = p.cnn.model_copy(update=changed)
    train, val = batches.read("train"), batches.read("val")
    steps = batches.steps_per_epoch(len(train.rows), c.batch_size)
    with fit.computing_in(c.precision):
        model = cnn.build(p.image_size, p.model.dropout)
    trained = cnn.for_training(model)
    schedule = optimizer.cosine_schedule(c.learning_rate, steps * c.epochs)
    averaging = {"weight_decay": c.weight_decay, "ema_momentum": c.ema_momentum}
    compile_model(trained, optimizer.muon(schedule, **averaging, precision=c.precision), c.label_smoothing)
    augmented = batches.training_batches(
        train,
        batch_size=c.batch_size,
        seed=p.seed,
        changes=p.augment.model_dump(exclude={"incorrect_as"}) | {"downscale_prob": c.downscale_prob},
        counterfactual_prob=c.counterfactual_prob,
    )
    phases = [phase("train", trained, augmented, c.batch_size, steps, c.epochs, lambda: accuracy_on(trained, val))]
    return Training(phases, model, trained)


def ours_cnn(folder: Path) -> list[Phase]:
    return cnn_training(folder).phases


def ours_mobilenet(folder: Path) -> list[Phase]:
    """The features of the frozen backbone, once; then the stage `train_mobilenet`: the head on them, and fine-tuning.

    Only the features of unchanged training and validation images count, since training needs no others.
    """
    p = start(folder)
    m = p.mobilenet
    train, val = batches.read("train"), batches.read("val")
    steps = batches.steps_per_epoch(len(train.rows), m.batch_size)
    with fit.computing_in(m.precision):
        backbone = mobilenet.starting_backbone(p.image_size)
    forward = forward_function(backbone)
    pixels, rows = train.pixels, np.concatenate([train.rows, val.rows])
    parts = iter_forever(lambda: (pixels[rows[i : i + BATCH]] for i in range(0, len(rows), BATCH)))
    threads = ThreadPoolExecutor(THREADS)  # as many batches at once as the stage `features` computes
    at_once = BATCH * THREADS
    features = packing.open_features()

    def adamw(rate: float, epochs: int, in_precision: str = "float32") -> keras.optimizers.Optimizer:
        schedule = optimizer.cosine_schedule(rate, steps * epochs)
        averaging = {"weight_decay": m.weight_decay, "ema_momentum": m.ema_momentum}
        return optimizer.adamw(schedule, **averaging, precision=in_precision)

    head = mobilenet.build_head(p.model.dropout)
    compile_model(head, adamw(m.head_learning_rate, m.head_epochs), m.label_smoothing)
    of_features = batches.feature_batches(features[train.rows], train.classes, batch_size=m.batch_size, seed=p.seed)
    val_features = features[val.rows]
    model = mobilenet.assemble(backbone, head, p.image_size)
    mobilenet.unfreeze(backbone, m.fine_tune_blocks)
    compile_model(model, adamw(m.fine_tune_learning_rate, m.fine_tune_epochs, m.precision), m.label_smoothing)
    augmented = batches.training_batches(
        train,
        batch_size=m.batch_size,
        seed=p.seed,
        changes=p.augment.model_dump(exclude={"incorrect_as"}) | {"downscale_prob": m.downscale_prob},
        counterfactual_prob=m.counterfactual_prob,
    )

    def accuracy_of_head() -> float:
        with averaged(head):
            return float(np.mean(np.argmax(head.predict_on_batch(val_features), axis=1) == val.classes))

    def step_of_features() -> object:
        return list(threads.map(forward, [next(parts) for _ in range(THREADS)]))

    return [
        Phase("features", at_once, -(-len(rows) // at_once), 1, lambda: next(parts), step_of_features),
        phase("head", head, of_features, m.batch_size, steps, m.head_epochs, accuracy_of_head),
        phase("fine-tune", model, augmented, m.batch_size, steps, m.fine_tune_epochs, lambda: accuracy_on(model, val)),
    ]


def start(folder: Path) -> params.Params:
    """Read the repository's parameters and enter the workspace, where the data is."""
    p = params.load(ROOT / params.PATH)
    os.chdir(folder)
    fit.make_repeatable(p.seed)
    return p


def compile_model(model: keras.Model, with_optimizer: keras.optimizers.Optimizer, label_smoothing: float) -> None:
    """Compile as pipeline.training.fit does."""
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)
    model.compile(with_optimizer, loss, metrics=["accuracy"], jit_compile=False)


def phase(
    name: str,
    model: keras.Model,
    dataset: tf.data.Dataset,
    batch_size: int,
    steps: int,
    epochs: int,
    accuracy: Callable[[], float],
) -> Phase:
    """A phase whose step is the function that `fit` calls per step, on the batches of a dataset."""
    iterator = iter(fit.without_autotune(dataset))
    model.make_train_function()
    return Phase(name, batch_size, steps, epochs, lambda: next(iterator), lambda: step(model, iterator), accuracy)


def step(model: keras.Model, iterator: Iterator) -> dict[str, float]:
    """Train on a batch, and wait for the result."""
    return {key: float(value) for key, value in model.train_function(iterator).items()}


def accuracy_on(model: keras.Model, images: batches.Images) -> float:
    """Accuracy on the unchanged images, with the averaged weights."""
    with averaged(model):
        predicted = predicting.predict(model, images.pixels, images.rows) >= 0.5
    return float(np.mean(predicted == images.classes))


class averaged:
    """The moving average of the weights in place of the weights, as in the validation of `fit`."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.weights = [variable.numpy() for variable in self.model.trainable_variables]
        if self.model.optimizer.use_ema:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def __exit__(self, *_: object) -> None:
        for variable, value in zip(self.model.trainable_variables, self.weights, strict=True):
            variable.assign(value)


def iter_forever(parts: Callable[[], Iterator]) -> Iterator:
    while True:
        yield from parts()


WAYS = {"ours_cnn": ours_cnn, "ours_mobilenet": ours_mobilenet}

if __name__ == "__main__":
    training_worker.main(WAYS)
