"""The optimizers of both models, and their learning rate schedule.

Muon updates the weights of hidden layers by orthogonal matrices (Jordan 2024; Liu et al. 2025): such a step moves the
outputs of a layer by about the same amount in every direction, whereas Adam's is about equal for every weight. After 7
epochs the CNN's validation accuracy was 96.0 % with Muon and 93.6 % with Adam, whose learning rate for the first dense
layer was a tenth: docs/results/cnn_experiments.md. keras.optimizers.Muon differs between releases; this implementation
is also faster, because it iterates on the small Gram matrix.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

# Quintic Newton-Schulz iteration, tuned to bring singular values in 0.01…1 close to 1 in few steps (Jordan 2024).
A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 5


def orthogonalized(matrix, scale=1.0):
    """Return approximately the nearest orthogonal matrix: (r, c) float32 with singular values of about `scale`.

    Each step multiplies X by P = A + B G + C G², G = X Xᵀ. All are polynomials in the first G, so they commute:
    only G is iterated, on the short side (128×128 instead of 128×57,600), and X is multiplied once at the end. The
    norm of X, by which it is divided first, is the root of the trace of G, so X is read twice in all.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    transposed = ops.transpose(matrix)
    gram = ops.matmul(transposed, matrix) if tall else ops.matmul(matrix, transposed)
    norm = ops.sqrt(ops.trace(gram)) + 1e-7
    gram = gram / norm / norm
    eye = ops.eye(gram.shape[0], dtype=gram.dtype)
    product = eye
    for _ in range(STEPS):
        step = A * eye + B * gram + C * ops.matmul(gram, gram)
        product = ops.matmul(step, product)
        gram = ops.matmul(ops.matmul(step, gram), step)
    product = product * (scale / norm)
    return ops.matmul(matrix, product) if tall else ops.matmul(product, matrix)


class AdamW(keras.optimizers.AdamW):
    """AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    With `skip_nonfinite`, a step whose gradients are not all finite changes nothing, neither the weights nor their
    average nor the schedule, and `skipped` counts it. On several devices at once it is not skipped.
    """

    def __init__(self, learning_rate, *, skip_nonfinite: bool = False, **options):
        super().__init__(learning_rate, **options)
        self.skip_nonfinite = skip_nonfinite

    def build(self, variables):
        super().build(variables)
        if self.skip_nonfinite:
            self.skipped = self.add_variable((), dtype="int32", name="skipped")

    def apply(self, grads, trainable_variables=None):
        apply = super().apply
        if not self.skip_nonfinite or tf.distribute.get_strategy().num_replicas_in_sync > 1:
            apply(grads, trainable_variables)
            return
        if not self.built:  # no variable can be created within `cond`
            self.build(trainable_variables)
        finite = ops.all(ops.stack([ops.all(ops.isfinite(one)) for one in grads]))

        def skip():
            self.skipped.assign_add(1)

        ops.cond(finite, lambda: apply(grads, trainable_variables), skip)


class Muon(AdamW):
    """Muon for kernels of hidden layers, AdamW for biases and the output layer.

    A convolution kernel (h, w, in, out) is treated as the matrix (h·w·in, out). `output` is the output layer's name.
    A step's root mean square is 0.2 times the learning rate, about that of Adam, so both use the same learning rate
    and weight decay (Liu et al. 2025, eq. 4).
    """

    def __init__(self, learning_rate, *, output: str, momentum: float = 0.95, **options):
        super().__init__(learning_rate, **options)
        self.output, self.momentum = output, momentum

    def build(self, variables):
        super().build(variables)
        # By index, because the variable that update_step receives has no path under some backends.
        self.hidden_kernels = [len(one.shape) >= 2 and self.output not in one.path for one in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if not self.hidden_kernels[index]:
            super().update_step(gradient, variable, learning_rate)
            return
        mean = self._momentums[index]
        self.assign(mean, self.momentum * mean + gradient)
        flat = ops.reshape(gradient + self.momentum * mean, (-1, variable.shape[-1]))  # Nesterov's look ahead
        scale = 0.2 * max(flat.shape) ** 0.5 * ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, ops.reshape(orthogonalized(flat, scale), variable.shape))


def cosine_schedule(peak: float, steps: int, warmup: float = 0.05) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up over the first fraction `warmup` of `steps`, then a half cosine from `peak` to zero.

    A single step has the learning rate `peak`.
    """
    if steps == 1:
        return keras.optimizers.schedules.CosineDecay(peak, 1)
    warmup_steps = max(1, round(warmup * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup_steps, warmup_target=peak, warmup_steps=warmup_steps
    )


def muon(
    schedule, *, weight_decay: float, ema_momentum: float, precision: str = "float32"
) -> keras.optimizers.Optimizer:
    """Muon for a model whose output layer is named "probabilities"."""
    return Muon(schedule, output="probabilities", **options(weight_decay, ema_momentum, precision))


def adamw(schedule, *, weight_decay: float, ema_momentum: float, precision: str = "float32") -> AdamW:
    return AdamW(schedule, **options(weight_decay, ema_momentum, precision))


def options(weight_decay: float, ema_momentum: float, precision: str) -> dict[str, Any]:
    """Options of a Keras optimizer that keeps an exponential moving average of the weights, or none for momentum 0.

    With the precision bfloat16 it skips steps whose gradients are not finite: TensorFlow 2.21 computed one in 150 on a
    processor with AMX.
    """
    average = {"use_ema": True, "ema_momentum": ema_momentum} if ema_momentum else {}
    return {"weight_decay": weight_decay, "skip_nonfinite": precision == "bfloat16"} | average
