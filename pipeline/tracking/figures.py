"""Parameters and figures as MLflow takes them: flat, finite, with DVC's names."""

from __future__ import annotations

import hashlib
import json
import math
import re
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError
from pipeline.tracking.store import workspace

SHARED_PARAMS = ("seed", "image_size", "data", "split", "model", "augment")  # what every model depends on


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, the keys joined by dots as DVC shows them."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def text(value: object) -> str:
    """A parameter as MLflow shows it: JSON, strings bare, `1e-5` (text to YAML 1.1) as the number it means."""
    if isinstance(value, str):
        return repr(float(value)) if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value) else value
    return json.dumps(value, default=str).strip('"')


def numbers(mapping: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers in a mapping, flattened; figures that are text (from CSV) count, words and gaps do not."""
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


def model_params(model: str) -> dict[str, str]:
    """The entries of params.yaml that concern one model."""
    return {k: v for k, v in read_params().items() if k.partition(".")[0] in (*SHARED_PARAMS, model)}


def weights_digest(path: str | Path) -> str:
    """SHA-256 of a weights file: what identifies a trained model."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def measured(started: float) -> dict[str, float]:
    """Seconds since `started`, and the peak memory of this process and its largest child."""
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return {"seconds": round(time.time() - started, 3), "peak_memory_mb": round(peak * unit / 1e6, 1)}
