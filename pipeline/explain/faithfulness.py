"""Does the model need what the attribution names? Insertion and deletion (Petsiuk, Das and Saenko 2018, RISE).

A picture is cut into 16×16 cells, put in order by their attribution towards the called class. Insertion starts from the
blurred picture and brings the cells back, the most important first; deletion starts from the picture and turns them
grey. Either is the area under the curve of the called class's probability against the share of the cells. A map that
names what the model goes by inserts fast (high) and deletes fast (low); the same cells in random order are the measure.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.explain.baselines import blurred

GRID = 16  # cells a side
GREY = 127.5  # nothing, to models that scale pixels to -1…1: Petsiuk et al. delete to the mean too


def ranks(importance: np.ndarray, size: int) -> np.ndarray:
    """(size, size) int: of every pixel the place of its cell in the order, 0 for the most important.

    `importance` (GRID, GRID); cells of equal importance keep their order from left to right, top to bottom.
    """
    order = np.argsort(-importance.ravel(), kind="stable")
    place = np.empty(GRID * GRID, int)
    place[order] = np.arange(GRID * GRID)
    cell = np.arange(size) * GRID // size
    return place.reshape(GRID, GRID)[np.ix_(cell, cell)]


def cells(towards: np.ndarray) -> np.ndarray:
    """(GRID, GRID): mean over each cell of a map (s, s); `s` is at least GRID."""
    starts = -(-np.arange(GRID) * len(towards) // GRID)
    sums = np.add.reduceat(np.add.reduceat(towards.astype(np.float64), starts, axis=0), starts, axis=1)
    sides = np.diff(starts, append=len(towards))
    return sums / np.outer(sides, sides)


def on_the_way(start: np.ndarray, end: np.ndarray, order: np.ndarray, steps: int) -> np.ndarray:
    """(steps + 1, s, s, 3) float32: `start` with ever more cells of `end`, in the order of `ranks`."""
    shares = np.arange(steps + 1) * GRID * GRID / steps
    taken = order[None, :, :, None] < shares[:, None, None, None]
    return np.where(taken, end, start).astype(np.float32)


def areas(
    probability: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    towards: np.ndarray,
    *,
    steps: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """insertion_auc, deletion_auc, and both with _random: the areas for one picture, each in 0…1.

    `probability` gives P(called class), (b,), of (b, s, s, 3) raw pixels; it is called once, with 4 (steps + 1)
    pictures. `image` (s, s, 3), `towards` (s, s): its attribution towards the called class.
    """
    size = len(image)
    by_attribution = ranks(cells(towards), size)
    by_chance = ranks(rng.random((GRID, GRID)), size)
    soft, grey = blurred(image), np.full(image.shape, GREY, np.float32)
    curves = {
        "insertion_auc": on_the_way(soft, image, by_attribution, steps),
        "deletion_auc": on_the_way(image, grey, by_attribution, steps),
        "insertion_auc_random": on_the_way(soft, image, by_chance, steps),
        "deletion_auc_random": on_the_way(image, grey, by_chance, steps),
    }
    found = probability(np.concatenate(list(curves.values()))).reshape(len(curves), steps + 1)
    return dict(zip(curves, np.trapezoid(found, dx=1 / steps, axis=1).tolist(), strict=True))


def table_of(
    model: keras.Model, images: np.ndarray, towards: np.ndarray, called: np.ndarray, *, steps: int, seed: int
) -> pd.DataFrame:
    """`areas` of a classifier, a row a picture. `called` (n,) bool: with_mask; a seed gives the same random orders."""
    forward = tf.function(lambda pixels: model(pixels, training=False), reduce_retracing=True)
    rng = np.random.default_rng(seed)

    def probability_of(label: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda pixels: forward(tf.constant(pixels)).numpy()[:, label]

    rows = [
        areas(probability_of(int(label)), image, one, steps=steps, rng=rng)
        for image, one, label in zip(images, towards, called, strict=True)
    ]
    return pd.DataFrame(rows)
