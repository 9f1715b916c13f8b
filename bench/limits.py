"""How much of the machine's matrix-product rate the CNN's training and prediction reach, in GFLOP/s."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from bench import training_worker
from bench.measure import Options
from bench.trainers import cnn_training
from pipeline.training.optimizer import STEPS

SIDE = 4096
SMALL_SIDE = 512


def forward_flops(model: keras.Model) -> dict[str, int]:
    """Operations of each convolution and dense layer for one image: two per multiplication and addition."""
    flops = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            outputs = int(np.prod(layer.output.shape[1:]))
            flops[layer.name] = 2 * outputs * int(np.prod(layer.kernel.shape[:-1]))
    return flops


def training_flops(model: keras.Model, batch_size: int) -> int:
    """Operations of a step: forward, the gradients of kernels and inputs (of pixels none), and Muon's products."""
    forward = list(forward_flops(model).values())
    of_batch = batch_size * (3 * sum(forward) - forward[0])
    return of_batch + sum(muon_flops(one) for one in model.trainable_variables if is_hidden_kernel(one))


def is_hidden_kernel(variable: keras.Variable) -> bool:
    return len(variable.shape) >= 2 and "probabilities" not in variable.path


def muon_flops(variable: keras.Variable) -> int:
    """Operations of `optimizer.orthogonalized`: two products with the whole matrix, and four small ones per step."""
    long, short = sorted((int(np.prod(variable.shape[:-1])), int(variable.shape[-1])), reverse=True)
    return 2 * 2 * long * short**2 + STEPS * 4 * 2 * short**3


def measures(options: Options, precision: str) -> dict[str, Callable[[], float]]:
    """Functions that measure once and return GFLOP/s."""
    options.path("data/split/images.npy")
    training = cnn_training(options.workspace.resolve(), precision=precision)
    (phase,), model = training.phases, training.model
    flops, forward = training_flops(model, phase.batch_size), sum(forward_flops(model).values())
    count = options.scaled(10, 2)
    side = SMALL_SIDE if options.quick else SIDE
    matrix = tf.cast(tf.random.uniform((side, side)), precision)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)[0]))
    batch = phase.next_batch()
    # The same batch again and again, without an input pipeline.
    alone = iter(tf.data.Dataset.from_tensors(batch).cache().repeat())
    predict = tf.function(lambda pixels: model(pixels, training=False))

    def rate(of_call: float, call: Callable[[], object], warm: int = 1) -> float:
        return of_call / training_worker.timed(call, 1, warm, count)["seconds"] / 1e9

    rates = {
        "matrix product": lambda: rate(2 * side**3, lambda: product().numpy()),
        "training step of the CNN without augmentation": lambda: rate(flops, lambda: training.step_on(alone)),
        "training step of the CNN with augmentation": lambda: rate(flops, phase.step, training_worker.PREFETCHED),
        "prediction by the CNN, batches of 64": lambda: rate(
            phase.batch_size * forward, lambda: predict(batch[0]).numpy()
        ),
    }
    if precision != "float32":
        del rates["prediction by the CNN, batches of 64"]  # only trainings have other precisions
    return rates
