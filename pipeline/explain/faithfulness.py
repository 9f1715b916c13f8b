"""Faithfulness of attributions: insertion and deletion (Petsiuk, Das and Saenko 2018, RISE).

An image is divided into 16×16 cells, ordered by their attribution towards the predicted class. Insertion starts from
the blurred image and restores the cells, the most important first; deletion starts from the image and turns them grey.
Both are the area under the predicted class's probability as a function of the fraction of cells. A faithful attribution
has a high insertion and a low deletion AUC; the same cells in random order are the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.explain.baselines import blurred

THREADS = 2  # images at once: TensorFlow runs many of a model's operations on one core
GRID = 16  # cells a side
GREY = 127.5  # zero to models that scale pixels to -1…1; Petsiuk et al. also delete to the mean


def ranks(importance: np.ndarray, size: int) -> np.ndarray:
    """(size, size) int: the rank of every pixel's cell, 0 for the most important.

    `importance` (GRID, GRID); ties are ordered from left to right, top to bottom.
    """
    order = np.argsort(-importance.ravel(), kind="stable")
    rank = np.empty(GRID * GRID, int)
    rank[order] = np.arange(GRID * GRID)
    cell = np.arange(size) * GRID // size
    return rank.reshape(GRID, GRID)[np.ix_(cell, cell)]


def cells(towards: np.ndarray) -> np.ndarray:
    """(GRID, GRID): mean of a map (s, s) over each cell; `s` is at least GRID."""
    starts = -(-np.arange(GRID) * len(towards) // GRID)
    sums = np.add.reduceat(np.add.reduceat(towards.astype(np.float64), starts, axis=0), starts, axis=1)
    sides = np.diff(starts, append=len(towards))
    return sums / np.outer(sides, sides)


def transition(start: np.ndarray, end: np.ndarray, order: np.ndarray, steps: int) -> np.ndarray:
    """(steps + 1, s, s, 3) float32: `start` turning into `end` cell by cell, in the `order` returned by `ranks`."""
    replaced = np.arange(steps + 1) * GRID * GRID / steps  # number of cells
    taken = order[None, :, :, None] < replaced[:, None, None, None]
    return np.where(taken, end, start).astype(np.float32)


def areas(
    probability: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    towards: np.ndarray,
    *,
    steps: int,
    random: np.ndarray,
) -> dict[str, float]:
    """Compute insertion_auc and deletion_auc of one image, and both with the suffix _random; each is in 0…1.

    `probability` maps (b, s, s, 3) raw pixels to P(predicted class), (b,); it is called once. `image` (s, s, 3);
    `towards` (s, s) is its attribution towards the predicted class; `random` (GRID, GRID) gives the random order.
    """
    size = len(image)
    by_attribution = ranks(cells(towards), size)
    random_order = ranks(random, size)
    soft, grey = blurred(image), np.full(image.shape, GREY, np.float32)
    changes = [(soft, image), (image, grey)]  # insertion, deletion
    between = [
        transition(*change, order, steps)[1:-1] for order in (by_attribution, random_order) for change in changes
    ]
    # The ends are the same in any order, and insertion ends where deletion starts.
    found = probability(np.concatenate([np.stack([soft, image, grey]).astype(np.float32), *between]))
    ends, inner = found[:3], found[3:].reshape(len(between), steps - 1)
    curves = [
        np.concatenate([ends[i % 2 : i % 2 + 1], one, ends[i % 2 + 1 : i % 2 + 2]]) for i, one in enumerate(inner)
    ]
    names = ("insertion_auc", "deletion_auc", "insertion_auc_random", "deletion_auc_random")
    return dict(zip(names, np.trapezoid(curves, dx=1 / steps, axis=1).tolist(), strict=True))


def areas_table(
    model: keras.Model, images: np.ndarray, towards: np.ndarray, predicted: np.ndarray, *, steps: int, seed: int
) -> pd.DataFrame:
    """Compute `areas` for a classifier, one row per image. `predicted` (n,) bool: whether with_mask is predicted."""
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    forward = tf.function(lambda pixels: model(pixels, training=False), input_signature=[spec])
    random = np.random.default_rng(seed).random((len(images), GRID, GRID))

    def row(image: np.ndarray, one: np.ndarray, label: bool, order: np.ndarray) -> dict[str, float]:
        return areas(
            lambda pixels: forward(tf.constant(pixels)).numpy()[:, int(label)], image, one, steps=steps, random=order
        )

    with ThreadPoolExecutor(THREADS) as threads:
        return pd.DataFrame(threads.map(row, images, towards, predicted, random))
