"""params.yaml, checked: an unknown key, a wrong type or a value out of range is one line that names the key.

The comments in params.yaml say what each key means; the types and ranges stand here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import UserError

# YAML 1.1 reads `1e-3` as text, so figures with a fraction are taken from text too.
Fraction = Annotated[float, Field(gt=0, lt=1, strict=False)]
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=False)]
Share = Annotated[float, Field(ge=0, le=1, strict=False)]
Positive = Annotated[float, Field(gt=0, strict=False)]
NotNegative = Annotated[float, Field(ge=0, strict=False)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A mapping of params.yaml: every key is needed, none may be added, none changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(Section):
    source: Literal["kaggle", "archive", "folder", "synthetic"]
    kaggle: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]
    path: str | None
    synthetic_per_class: Count
    max_bad_fraction: Share

    @model_validator(mode="after")
    def path_is_there_where_needed(self) -> Data:
        if self.source in ("archive", "folder") and not self.path:
            raise ValueError(f"data.source={self.source} needs data.path")
        return self


class Split(Section):
    per_class: Annotated[int, Field(ge=10)] | None
    train: Fraction
    val: Fraction
    group_duplicates: bool
    hash_distance: Annotated[int, Field(ge=0, le=16)]
    exclude: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def something_is_left_to_test(self) -> Split:
        if self.train + self.val >= 1 - 1e-9:
            raise ValueError(
                f"split.train + split.val = {self.train + self.val:g} leaves nothing to test: keep it below 1"
            )
        return self


class Model(Section):
    dropout: BelowOne


class Augment(Section):
    rotation: Annotated[float, Field(ge=0, le=180, strict=False)]
    zoom: Share
    shift: Share
    shear: Annotated[float, Field(ge=0, le=45, strict=False)]
    light: Share
    colour: Share
    blur: Share
    least_side: Annotated[int, Field(ge=8, le=512)]
    occlusion: Share


class Cnn(Section):
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NotNegative
    label_smoothing: BelowOne
    reduction: Share
    averaging: BelowOne
    patience: Count


class MobileNet(Section):
    pretrained: Annotated[str, Field(min_length=1)]
    head_epochs: Count
    head_learning_rate: Positive
    fine_tune_epochs: Annotated[int, Field(ge=0)]
    fine_tune_blocks: Annotated[int, Field(ge=1, le=17)]
    fine_tune_learning_rate: Positive
    batch_size: Count
    weight_decay: NotNegative
    label_smoothing: BelowOne
    reduction: Share
    averaging: BelowOne
    patience: Count


class Evaluate(Section):
    threshold: Fraction
    confidence: Fraction
    calibration_bins: Count
    resamples: Count


class Audit(Section):
    folds: Annotated[int, Field(ge=2, le=50)]
    inverse_regularization: Positive
    shown: Annotated[int, Field(ge=1, le=200)]


class Report(Section):
    overfit_loss_rise: NotNegative


class Unseen(Section):
    source: Literal["kaggle", "archive", "folder", "csv", "synthetic"]
    kaggle: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]
    path: str | None
    synthetic_scenes: Count
    url_megabytes: Annotated[float, Field(gt=0, le=64, strict=False)]
    url_seconds: Annotated[float, Field(gt=0, le=600, strict=False)]
    margin: Annotated[float, Field(ge=0, le=2, strict=False)]
    min_face: Count

    @model_validator(mode="after")
    def path_is_there_where_needed(self) -> Unseen:
        if self.source in ("archive", "folder", "csv") and not self.path:
            raise ValueError(f"unseen.source={self.source} needs unseen.path")
        return self


class Xai(Section):
    pictures: Annotated[int, Field(ge=4)]
    baseline: Literal["black_white", "black", "white", "blurred", "mean"]
    completeness: Fraction
    max_steps: Annotated[int, Field(ge=8)]
    faithfulness_steps: Annotated[int, Field(ge=1, le=256)]
    randomization_pictures: Count


class Export(Section):
    calibration_pictures: Count
    largest_loss: Share


class EndToEnd(Section):
    overlap: Fraction


class Live(Section):
    model: Literal["cnn", "mobilenet"]
    unsure_low: Fraction
    unsure_high: Fraction
    detector_side: Annotated[int, Field(ge=128, le=1280)]
    smoothing: Annotated[float, Field(ge=0, le=10, strict=False)]
    lost_after: Annotated[float, Field(ge=0, le=10, strict=False)]
    overlap: Fraction

    @model_validator(mode="after")
    def unsure_is_a_range(self) -> Live:
        if self.unsure_low > self.unsure_high:
            raise ValueError(
                f"live.unsure_low = {self.unsure_low:g} is above live.unsure_high = {self.unsure_high:g}: swap them"
            )
        return self


class Clip(Section):
    pictures: Count
    seconds: Annotated[float, Field(gt=0, le=60, strict=False)]
    fps: Annotated[int, Field(ge=1, le=60)]


class Registry(Section):
    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    min_val_accuracy: Share
    margin: Share


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    image_size: Annotated[int, Field(ge=32, le=512)]
    data: Data
    split: Split
    model: Model
    augment: Augment
    cnn: Cnn
    mobilenet: MobileNet
    evaluate: Evaluate
    unseen: Unseen
    xai: Xai
    audit: Audit
    report: Report
    export: Export
    end_to_end: EndToEnd
    live: Live
    clip: Clip
    registry: Registry


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check the parameters; `UserError` names the first wrong key, what it got and what it takes."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this where the repository's {Path(path).name} is") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no keys: restore it with `git checkout {path}`")
    return check(values, str(path))


def check(values: dict[str, Any], path: str = "params.yaml") -> Params:
    """The same for values already read; `path` is what the message calls them."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line with the key as `-S` takes it."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("constrained-", "int", "float")))
    if first["type"] == "extra_forbidden":
        return f"{key} is no parameter: see the keys in params.yaml"
    if first["type"] == "missing":
        return f"{key} is missing: restore it from the repository's params.yaml"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    complaint = first["msg"][0].lower() + first["msg"][1:]
    return f"{key} = {first['input']!r}: {complaint}"
