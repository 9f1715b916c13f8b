"""Percentiles of the latency of a call, for ours and every peer alike. Needs NumPy alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

WARM_UP = 5


def latency(call: Callable[[], object], calls: int) -> Callable[[], dict[str, float]]:
    """Return a function that times `calls` calls: the percentiles `p50` and `p99` in milliseconds."""
    for _ in range(WARM_UP):
        call()

    def measure() -> dict[str, float]:
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1000)
        p50, p99 = np.percentile(times, [50, 99]).tolist()
        return {"p50": p50, "p99": p99}

    return measure
