"""Does the attribution depend on what was learnt? The parameter randomisation test (Adebayo et al. 2018).

All weights of the model are drawn anew, and the attributions of the two models are compared by rank. Where they agree
(towards 1), the map shows the picture's edges and would look so whatever the model had learnt; good is near 0.
"""

from __future__ import annotations

import json

import keras
import numpy as np
from scipy.stats import spearmanr


def randomized(model: keras.Model, seed: int) -> keras.Model:
    """The same architecture with every weight as at the start of a training with this seed. Sets the global seeds."""
    keras.utils.set_random_seed(seed)
    return keras.models.model_from_json(json.dumps(json.loads(model.to_json()) | {"compile_config": None}))


def rank_correlations(attributions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) Spearman's correlation, picture by picture, of the sizes of two models' (n, s, s, 3) attributions.

    The size of a pixel is that of its channels' sum. A map that is the same everywhere has no ranks: 0.
    """
    pairs = zip(np.abs(attributions.sum(axis=-1)), np.abs(others.sum(axis=-1)), strict=True)
    found = [spearmanr(a, b, axis=None).statistic if np.ptp(a) and np.ptp(b) else 0.0 for a, b in pairs]
    return np.array(found, float)
