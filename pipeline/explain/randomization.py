"""Parameter randomization test (Adebayo et al. 2018): do the attributions depend on what the model has learned?

The attributions are compared, by rank correlation, with those of the same architecture with random weights. A
correlation near 1 means that the map shows the image's edges whatever the model has learned; near 0 is good.
"""

from __future__ import annotations

import json

import keras
import numpy as np
from scipy.stats import spearmanr


def randomized(model: keras.Model, seed: int) -> keras.Model:
    """Return the same architecture, freshly initialized with this seed. Sets the global seeds."""
    keras.utils.set_random_seed(seed)
    return keras.models.model_from_json(json.dumps(json.loads(model.to_json()) | {"compile_config": None}))


def rank_correlations(attributions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,): Spearman correlation per image of the magnitudes of two models' (n, s, s, 3) attributions.

    A pixel's magnitude is the absolute value of the sum over its channels. A constant map has no ranks and gives 0.
    """
    pairs = zip(np.abs(attributions.sum(axis=-1)), np.abs(others.sum(axis=-1)), strict=True)
    found = [spearmanr(a, b, axis=None).statistic if np.ptp(a) and np.ptp(b) else 0.0 for a, b in pairs]
    return np.array(found, float)
