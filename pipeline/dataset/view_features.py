"""Features of the images array in all views, a batch at a time, in this process or in a worker of Spark."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from pipeline.dataset import packing, views
from pipeline.models import mobilenet
from pipeline.models.pooled_features import BATCH, forward_function, pool_views
from pipeline.training import fit


@lru_cache(maxsize=1)
def load(size: int, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Load the backbone once in a process; random weights follow the seed."""
    fit.make_repeatable(seed)
    return forward_function(mobilenet.starting_backbone(size))


def of_batch(start: int, seed: int, threads: int = 1) -> np.ndarray:
    """(6, b, 1280) float32: features of the images `start` … `start + BATCH - 1` in each of views.VIEWS."""
    images = packing.open_images()
    forward = load(images.shape[1], seed)
    return pool_views(images[start : start + BATCH], forward, list(views.VIEWS.values()), threads)
