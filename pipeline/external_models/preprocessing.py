"""How a model wants its pixels and how its output is read, proposed from its accuracy on validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from face_mask.errors import UserError
from face_mask.schema import WITH_MASK
from pipeline.external_models.loading import BATCH, LoadedModel
from pipeline.sources import annotation_files

MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255  # of ImageNet, RGB
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255
RANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0..255": lambda pixels: pixels,
    "0..1": lambda pixels: pixels / np.float32(255),
    "tf": lambda pixels: pixels / np.float32(127.5) - np.float32(1),
    "torch": lambda pixels: (pixels - MEAN) / DEVIATION,
    "caffe": lambda pixels: pixels - MEAN,
}  # the last three as in Keras's preprocess_input
ENDS = {"0..255": (0, 255), "0..1": (0, 1), "tf": (-1, 1)}
IN_WORDS = {"tf": "-1..1 (tf)", "torch": "ImageNet's mean and deviation (torch)", "caffe": "ImageNet's mean (caffe)"}
CHANNELS = ("rgb", "bgr", "grey")
OUTPUTS = ("probabilities", "logits")
ROUNDING = 0.02  # by which probabilities of a quantized model may leave 0…1
GREY = np.array([0.299, 0.587, 0.114], np.float32)
FEW = 120  # validation images that every combination is tried on
CLOSE = 0.05  # combinations this much below the best are tried on all validation images
MIN_ACCURACY = 0.6  # a lower one on balanced validation images may be chance, with all combinations that are tried


@dataclass(frozen=True)
class Options:
    """What the user states of a model; None: to be chosen."""

    pixel_range: str | None = None  # a key of RANGES
    channels: str | None = None  # of CHANNELS
    outputs: str | None = None  # of OUTPUTS
    classes: tuple[str, ...] | None = None  # labels in the order of the outputs

    def is_complete(self) -> bool:
        return None not in (self.pixel_range, self.channels, self.outputs, self.classes)


class Convention(NamedTuple):
    """How to run a model on RGB pixels and to read P(with_mask) from its output."""

    pixel_range: str
    channels: str
    outputs: str
    with_mask: int  # index of the output for with_mask; of a single output, 1 if it rises with with_mask, else 0

    def prepare(self, pixels: np.ndarray, channels_first: bool) -> np.ndarray:
        """Preprocess RGB pixels (n, h, w, 3) uint8 for a model: float32 in its layout."""
        values = pixels.astype(np.float32)
        if self.channels == "grey":
            values = (values @ GREY)[..., None]
        values = RANGES[self.pixel_range](values)
        if self.channels == "bgr":
            values = values[..., ::-1]
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if channels_first else values)

    def probability(self, outputs: np.ndarray) -> np.ndarray:
        """P(with_mask), (n,) float64, from outputs (n, k).

        Of several outputs, with_mask is compared with the largest other one, so that 0.5 and more means that with_mask
        is the class that the model predicts, also where it has a third class.
        """
        values = outputs.astype(np.float64)
        if self.outputs == "probabilities":
            values = values.clip(0, 1)
        if values.shape[1] == 1:
            one = values[:, 0] if self.outputs == "probabilities" else logistic(values[:, 0])
            return one if self.with_mask else 1 - one
        mine, other = values[:, self.with_mask], np.delete(values, self.with_mask, axis=1).max(axis=1)
        if self.outputs == "logits":
            return logistic(mine - other)
        total = mine + other
        return np.divide(mine, total, out=np.full(len(mine), 0.5), where=total > 0)

    def predict(self, model: LoadedModel, batches: Iterable[np.ndarray]) -> np.ndarray:
        """P(with_mask), (n,) float64, of batches of RGB pixels. Raises UserError if an output is not valid."""
        parts = [np.empty(0)]
        for pixels in batches:
            outputs = model.run(self.prepare(pixels, model.shape.channels_first))
            if not np.isfinite(outputs).all():
                raise UserError(f"{model.path} gives NaN or infinite outputs: its weights are damaged; export it again")
            if self.outputs == "probabilities" and kind_of(outputs) != self.outputs:
                extreme = outputs.flat[np.abs(outputs - 0.5).argmax()]
                raise UserError(f"{model.path} gives {extreme:g}, not a probability: give --outputs logits")
            parts.append(self.probability(outputs))
        return np.concatenate(parts)


class Trial(NamedTuple):
    """A combination and how well it classifies validation images."""

    accuracy: float
    log_loss: float  # orders combinations of the same accuracy
    convention: Convention


def logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.clip(-700, 700)))


def kind_of(outputs: np.ndarray) -> str:
    """Whether outputs are probabilities, all in 0…1, or logits."""
    inside = (outputs >= -ROUNDING) & (outputs <= 1 + ROUNDING)
    return "probabilities" if inside.all() else "logits"


def class_index(classes: tuple[str, ...], outputs: int) -> int:
    """Convention.with_mask for the labels of the outputs; two labels for a single output, which is for the second."""
    expected = max(outputs, 2)
    if len(classes) != expected:
        raise UserError(f"--classes names {len(classes)} classes, but the model has {expected}: name {expected}")
    return classes.index(WITH_MASK)


def parse_classes(text: str) -> tuple[str, ...]:
    """Labels from names as data sets use them, separated by commas. Raises UserError for an unknown name."""
    labels = tuple(annotation_files.parse_label(name, "--classes") for name in text.split(","))
    if labels.count(WITH_MASK) != 1:
        raise UserError("--classes must name with_mask once, such as without_mask,with_mask")
    return labels


def candidates(model: LoadedModel, options: Options) -> list[tuple[str, str]]:
    """The combinations of range and channels that suit the input's number of channels and data type."""
    grey = model.shape.channels == 1
    if options.channels and (options.channels == "grey") != grey:
        raise UserError(f"--channels {options.channels}: {model.path} takes {model.shape.channels} channels")
    ranges = [options.pixel_range] if options.pixel_range else list(RANGES)
    if grey:
        ranges = [name for name in ranges if name in ENDS]
        if not ranges:
            raise UserError(
                f"--range {options.pixel_range} is for three channels, but {model.path} takes one: change it"
            )
    if model.limits and not options.pixel_range:
        low, high = model.limits
        # A quantized input covers the values that the model was calibrated with.
        fitting = [
            name
            for name in ranges
            if name in ENDS and np.allclose(ENDS[name], (low, high), rtol=0, atol=0.1 * (high - low))
        ]
        ranges = fitting or ranges
    channels = [options.channels] if options.channels else ["grey"] if grey else ["rgb", "bgr"]
    return list(product(ranges, channels))


def stated(model: LoadedModel, options: Options) -> Convention:
    """The convention of options that are complete."""
    (pixel_range, channels), *_ = candidates(model, options)
    return Convention(pixel_range, channels, options.outputs or "", class_index(options.classes or (), model.outputs))


def trials(
    model: LoadedModel, options: Options, combinations: Sequence[tuple[str, str]], pixels: np.ndarray, y: np.ndarray
) -> list[Trial]:
    """Try combinations of range and channels with every class order, best first; those that give NaN are left out."""
    known = class_index(options.classes, model.outputs) if options.classes else None
    positions = range(max(model.outputs, 2)) if known is None else [known]
    found = []
    for pixel_range, channels in combinations:
        convention = Convention(pixel_range, channels, options.outputs or "", 0)
        parts = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
        outputs = np.concatenate([model.run(convention.prepare(part, model.shape.channels_first)) for part in parts])
        if not np.isfinite(outputs).all():
            continue
        kind = options.outputs or kind_of(outputs)
        for position in positions:
            convention = Convention(pixel_range, channels, kind, position)
            probability = convention.probability(outputs)
            right = np.where(y == 1, probability, 1 - probability)
            accuracy = float(((probability >= 0.5) == (y == 1)).mean())
            found.append(Trial(accuracy, float(-np.log(right.clip(1e-7)).mean()), convention))
    return sorted(found, key=lambda trial: (-trial.accuracy, trial.log_loss))


def choose(model: LoadedModel, options: Options, pixels: np.ndarray, y: np.ndarray) -> tuple[Trial, Trial | None]:
    """Choose by accuracy on validation images: pixels (n, h, w, 3) uint8 RGB and classes (n,), 1 for with_mask.

    All combinations are tried on some of the images, the best ones on all. Returns the best and the second best, whose
    range or channels differ. Raises UserError if the outputs are NaN, or if no combination is better than chance.
    """
    few = np.linspace(0, len(y) - 1, min(FEW, len(y))).round().astype(int)
    found = trials(model, options, candidates(model, options), pixels[few], y[few])
    if not found:
        raise UserError(f"{model.path} gives NaN or infinite outputs: its weights are damaged; export it again")
    close = [trial.convention[:2] for trial in found if trial.accuracy >= found[0].accuracy - CLOSE]
    found = trials(model, options, list(dict.fromkeys(close)), pixels, y) or found
    best = found[0]
    if best.accuracy < MIN_ACCURACY and not options.classes:
        raise UserError(
            f"{model.path} classifies {best.accuracy:.0%} of the validation images correctly, which may be chance:"
            f" give --range, --channels and --classes, or another model"
        )
    second = next((one for one in found if one.convention[:2] != best.convention[:2]), None)
    return best, second
