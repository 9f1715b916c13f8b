"""Parameters and metrics in MLflow's form: flat, finite, with DVC's names."""

from __future__ import annotations

import hashlib
import math
import resource
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import params
from pipeline.core.values import flatten, text
from pipeline.tracking.store import workspace

# On which every model depends.
SHARED_PARAMS = ("seed", "image_size", "data", "split", "model", "augment", "training")


def finite_numbers(mapping: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers in a mapping, flattened; numbers as text (from CSV) are included, other text is not."""
    found = {}
    for key, value in flatten(mapping).items():
        try:
            if math.isfinite(number := float(value)):
                found[key] = number
        except (TypeError, ValueError):
            continue
    return found


def read_params() -> dict[str, str]:
    """The values of params.yaml, flattened, as text: in a stage those that it started with."""
    return as_text(params.read(workspace() / params.PATH))


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters, flattened, as text."""
    return {key: text(value) for key, value in flatten(values).items()}


def selected(values: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """The flattened parameters that are, or are below, one of `names`."""
    return {k: v for k, v in values.items() if any(k == name or k.startswith(f"{name}.") for name in names)}


def model_params(model: str) -> dict[str, str]:
    """The entries of params.yaml on which one model depends."""
    return selected(read_params(), (*SHARED_PARAMS, model))


def weights_digest(path: str | Path) -> str:
    """SHA-256 of a weights file, which identifies a trained model."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def resource_usage(started: float) -> dict[str, float]:
    """Seconds since `started`, and the peak memory of the largest process: this one or one that it started."""
    # Not the sum: a new process starts with the peak of the one that started it, even if it only runs `git`.
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return {"seconds": round(time.time() - started, 3), "peak_memory_mb": round(peak * unit / 1e6, 1)}
