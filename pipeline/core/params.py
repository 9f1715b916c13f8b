"""The parameters of params.yaml, validated: an unknown key, a wrong type or a value out of range is a one-line error.

The comments in params.yaml say what each key means; this module holds their types and ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from face_mask import settings
from face_mask.settings import Detector, Fraction, Live

# `strict=False` accepts numbers written as text, because YAML 1.1 reads `1e-3` as text.
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=False)]
Proportion = Annotated[float, Field(ge=0, le=1, strict=False)]
Positive = Annotated[float, Field(gt=0, strict=False)]
NonNegative = Annotated[float, Field(ge=0, strict=False)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of params.yaml: every key is required, no other is allowed, and values are read-only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(Section):
    source: Literal["kaggle", "archive", "folder", "synthetic"]
    kaggle: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]
    path: str | None
    synthetic_per_class: Count
    max_bad_fraction: Proportion
    shard_images: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def path_is_set_if_needed(self) -> Data:
        if self.source in ("archive", "folder") and not self.path:
            raise ValueError(f"data.source={self.source} needs data.path")
        return self


class Split(Section):
    per_class: Annotated[int, Field(ge=10)] | None
    train: Fraction
    val: Fraction
    group_duplicates: bool
    hash_distance: Annotated[int, Field(ge=0, le=16)]
    whole_similarity: Annotated[float, Field(gt=0, le=1, strict=False)]
    rotated_similarity: Annotated[float, Field(gt=0, le=1, strict=False)]
    upper_similarity: Annotated[float, Field(gt=0, le=1, strict=False)]
    max_group: Annotated[int, Field(ge=2)]
    exact_up_to: Annotated[int, Field(ge=0)]
    exclude: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def test_set_is_not_empty(self) -> Split:
        if self.train + self.val >= 1 - 1e-9:
            raise ValueError(
                f"split.train + split.val = {self.train + self.val:g} leaves no images for testing: keep it below 1"
            )
        return self


class Model(Section):
    dropout: BelowOne


class Augment(Section):
    rotation: Annotated[float, Field(ge=0, le=180, strict=False)]
    zoom: Proportion
    shift: Proportion
    shear: Annotated[float, Field(ge=0, le=45, strict=False)]
    light: Proportion
    colour: Proportion
    blur: Proportion
    min_side: Annotated[int, Field(ge=8, le=512)]
    occlusion: Proportion
    incorrect_as: Literal["without_mask", "left_out"]


class Training(Section):
    devices: Count | Literal["all"]


class Cnn(Section):
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NonNegative
    label_smoothing: BelowOne
    downscale_prob: Proportion
    counterfactual_prob: Proportion
    ema_momentum: BelowOne
    patience: Count
    precision: Literal["float32", "bfloat16"]
    teacher: Literal["none", "mobilenet"]


class MobileNet(Section):
    pretrained: Annotated[str, Field(min_length=1)]
    head_epochs: Count
    head_learning_rate: Positive
    fine_tune_epochs: Annotated[int, Field(ge=0)]
    fine_tune_blocks: Annotated[int, Field(ge=1, le=17)]
    fine_tune_learning_rate: Positive
    batch_size: Count
    weight_decay: NonNegative
    label_smoothing: BelowOne
    downscale_prob: Proportion
    counterfactual_prob: Proportion
    ema_momentum: BelowOne
    patience: Count
    precision: Literal["float32", "bfloat16"]


class Evaluate(Section):
    threshold: Fraction
    confidence: Fraction
    calibration_bins: Count
    resamples: Count


class Conformal(Section):
    error: Annotated[float, Field(gt=0, lt=0.5, strict=False)]


class Audit(Section):
    folds: Annotated[int, Field(ge=2, le=50)]
    inverse_regularization: Positive
    shown: Annotated[int, Field(ge=1, le=200)]
    exclude_from_training: bool


class Report(Section):
    overfit_gap: Proportion


class Unseen(Section):
    source: Literal["kaggle", "archive", "folder", "csv", "synthetic"]
    kaggle: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]
    path: str | None
    synthetic_scenes: Count
    url_megabytes: Annotated[float, Field(gt=0, le=64, strict=False)]
    url_seconds: Annotated[float, Field(gt=0, le=600, strict=False)]
    margin: Annotated[float, Field(ge=0, le=2, strict=False)]
    min_face: Count
    max_similarity: Annotated[float, Field(gt=0, le=1, strict=False)]

    @model_validator(mode="after")
    def path_is_set_if_needed(self) -> Unseen:
        if self.source in ("archive", "folder", "csv") and not self.path:
            raise ValueError(f"unseen.source={self.source} needs unseen.path")
        return self


class HardCases(Section):
    faces: Count
    val_faces: Count


class Xai(Section):
    images: Annotated[int, Field(ge=4)]
    baseline: Literal["black_white", "black", "white", "blurred", "mean"]
    completeness: Fraction
    max_steps: Annotated[int, Field(ge=8)]
    faithfulness_steps: Annotated[int, Field(ge=1, le=256)]
    randomization_images: Count


class Export(Section):
    calibration_images: Count
    max_accuracy_drop: Proportion


class Package(Section):
    max_megabytes: Positive


class EndToEnd(Section):
    iou_threshold: Fraction


class Clip(Section):
    faces: Count
    seconds: Annotated[float, Field(gt=0, le=60, strict=False)]
    fps: Annotated[int, Field(ge=1, le=60)]


class Registry(Section):
    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    min_val_accuracy: Proportion
    margin: Proportion


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    image_size: Annotated[int, Field(ge=32, le=512)]
    data: Data
    split: Split
    model: Model
    augment: Augment
    training: Training
    cnn: Cnn
    mobilenet: MobileNet
    evaluate: Evaluate
    conformal: Conformal
    unseen: Unseen
    hard_cases: HardCases
    xai: Xai
    audit: Audit
    report: Report
    export: Export
    package: Package
    detector: Detector
    end_to_end: EndToEnd
    live: Live
    clip: Clip
    registry: Registry


PATH = Path("params.yaml")
_kept: dict[str, Any] | None = None


@contextmanager
def read_once(path: Path = PATH) -> Iterator[dict[str, Any]]:
    """Read the file and yield its values, which `load` and `read` return until the end, whatever the file holds then.

    Without the file nothing is kept, and the values are empty.
    """
    global _kept
    _kept = settings.read(path) if path.exists() else None
    try:
        yield _kept or {}
    finally:
        _kept = None


def read(path: Path = PATH) -> dict[str, Any]:
    """The values that are kept (see `read_once`), or else those of the file, which are not validated."""
    return settings.read(path) if _kept is None else _kept


def load(path: str | Path = PATH) -> Params:
    """Return the validated parameters. Raises UserError that names the first invalid key and why it is invalid."""
    return settings.check(read() if Path(path) == PATH else settings.read(path), Params, str(path))
