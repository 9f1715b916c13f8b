"""The optimizers of both models, and their learning rate schedule.

Muon updates the weights of hidden layers by orthogonal matrices (Jordan 2024; Liu et al. 2025): such a step moves the
outputs of a layer by about the same amount in every direction, whereas Adam's is about equal for every weight. After 7
epochs the CNN's validation accuracy was 96.0 % with Muon and 93.6 % with Adam, whose learning rate for the first dense
layer was a tenth: docs/results/cnn_experiments.md. keras.optimizers.Muon differs between releases; this implementation
is also faster, because it iterates on the small Gram matrix.
"""

from __future__ import annotations

import keras
from keras import ops

# Quintic Newton-Schulz iteration, tuned to bring singular values in 0.01…1 close to 1 in few steps (Jordan 2024).
A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 5


def orthogonalized(matrix):
    """Return approximately the nearest orthogonal matrix: (r, c) float32 with singular values of about 1.

    Each step multiplies X by P = A + B G + C G², G = X Xᵀ. All are polynomials in the first G, so they commute:
    only G is iterated, on the short side (128×128 instead of 128×57,600), and X is multiplied once at the end.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    gram = ops.matmul(x, ops.transpose(x))
    eye = ops.eye(gram.shape[0], dtype=gram.dtype)
    product = eye
    for _ in range(STEPS):
        step = A * eye + B * gram + C * ops.matmul(gram, gram)
        product = ops.matmul(step, product)
        gram = ops.matmul(ops.matmul(step, gram), step)
    x = ops.matmul(product, x)
    return ops.transpose(x) if tall else x


class Muon(keras.optimizers.AdamW):
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
        scale = 0.2 * max(flat.shape) ** 0.5
        step = ops.reshape(orthogonalized(flat), variable.shape)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * scale * step)


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


def muon(schedule, *, weight_decay: float, ema_momentum: float) -> keras.optimizers.Optimizer:
    """Muon for a model whose output layer is named "probabilities"."""
    return Muon(schedule, output="probabilities", weight_decay=weight_decay, **ema_options(ema_momentum))


def adamw(schedule, *, weight_decay: float, ema_momentum: float) -> keras.optimizers.Optimizer:
    """AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return keras.optimizers.AdamW(schedule, weight_decay=weight_decay, **ema_options(ema_momentum))


def ema_options(momentum: float) -> dict[str, float | bool]:
    """Options that make a Keras optimizer keep an exponential moving average of the weights; none for momentum 0."""
    return {"use_ema": True, "ema_momentum": momentum} if momentum else {}
