"""Nested mappings flattened, and values as text: for the report and for MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to one level, keys joined by dots as DVC shows them."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def text(value: object) -> str:
    """Format a parameter: JSON, strings without quotes, `1e-5` (text to YAML 1.1) as the number it means."""
    if isinstance(value, str):
        return repr(float(value)) if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value) else value
    return json.dumps(value, default=str).strip('"')
