"""Parameters and metrics in MLflow's form: flat, finite, with DVC's names."""

from __future__ import annotations

import hashlib
import math
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from face_mask.errors import UserError
from pipeline.core.values import flatten, text
from pipeline.tracking.store import workspace

SHARED_PARAMS = ("seed", "image_size", "data", "split", "model", "augment")  # on which every model depends


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
    """params.yaml, flattened, as text."""
    path = workspace() / "params.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {key: text(value) for key, value in flatten(values).items()}
    except (OSError, AttributeError, yaml.YAMLError):
        raise UserError("params.yaml cannot be read: restore it with `git checkout params.yaml`") from None


def stage_params(stage: str) -> dict[str, str]:
    """The entries of params.yaml that dvc.yaml declares for a stage; empty outside a DVC workspace."""
    try:
        graph = yaml.safe_load((workspace() / "dvc.yaml").read_text(encoding="utf-8"))
        declared = graph["stages"][stage]["params"]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return {}
    return {k: v for k, v in read_params().items() if any(k == name or k.startswith(f"{name}.") for name in declared)}


def model_params(model: str) -> dict[str, str]:
    """The entries of params.yaml on which one model depends."""
    return {k: v for k, v in read_params().items() if k.partition(".")[0] in (*SHARED_PARAMS, model)}


def weights_digest(path: str | Path) -> str:
    """SHA-256 of a weights file, which identifies a trained model."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def resource_usage(started: float) -> dict[str, float]:
    """Seconds since `started`, and the peak memory of this process and its largest child."""
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return {"seconds": round(time.time() - started, 3), "peak_memory_mb": round(peak * unit / 1e6, 1)}
