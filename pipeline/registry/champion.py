"""Which registered version is served: the one with the best validation accuracy, if it is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset import packing

IGNORE_CHAMPION = "`python -m pipeline.register --ignore-champion` chooses between the two models of the workspace"

UNKNOWN = -1.0  # in place of an accuracy that is unknown: below every other


@dataclass(frozen=True)
class Version:
    """A registered model version, as the champion rule sees it."""

    number: str
    model: str
    weights: str  # digest of the trained weights
    validation: str | None  # digest of the validation images, None if unknown
    val_accuracy: float | None  # on those, 0…1, None if unknown

    def __str__(self) -> str:
        accuracy = f"{self.val_accuracy:.2%}" if known(self.val_accuracy) != UNKNOWN else "unknown"
        return f"version {self.number} ({self.model}, validation accuracy {accuracy})"


def known(accuracy: object) -> float:
    """The accuracy, or UNKNOWN if it is no number in 0…1, such as None or NaN, of which no comparison is true."""
    return float(accuracy) if isinstance(accuracy, int | float) and 0 <= accuracy <= 1 else UNKNOWN


def read_accuracy(path: Path) -> float:
    """The validation accuracy in metrics/NAME.json. Raises UserError if there is none, or it is NaN or infinite."""
    value = packing.read_json(path, ("val.accuracy",), "evaluate")["val"]["accuracy"]
    if known(value) == UNKNOWN:
        raise packing.damaged(path, f"val.accuracy = {value} is not in 0…1", "evaluate")
    return value


def ranking(val_accuracy: Mapping[str, float]) -> list[str]:
    """Names of models by descending validation accuracy; the first of equal ones comes first."""
    return sorted(val_accuracy, key=lambda name: -val_accuracy[name])


def choose(
    candidates: Sequence[Version],
    champion: Version | None,
    *,
    min_val_accuracy: float,
    margin: float,
    ignore_champion: bool = False,
) -> tuple[Version | None, str]:
    """Choose the next champion: the version, or None, and the reason in one line.

    The best of `candidates`, if its accuracy is known, becomes champion if there is none, or if its accuracy exceeds
    the champion's by more than `margin` (both 0…1). Accuracies on different validation images are not comparable, so a
    model cannot take over by one: on a handful of images, or on drawn ones, 100 % is easy. With `ignore_champion` the
    best becomes champion whatever the current one is.
    """
    champion_weights = champion.weights if champion else None
    best = max(candidates, key=lambda one: (known(one.val_accuracy), one.weights == champion_weights))
    accuracy = known(best.val_accuracy)
    rest = " and ".join(str(one) for one in candidates if one is not best)
    becomes = f"{best} becomes champion, not {rest}" if rest else f"{best} becomes champion"
    stays = f"{champion} stays champion" if champion else "there is no champion"

    if accuracy == UNKNOWN:
        return champion, f"{stays}: no validation accuracy of {' or '.join(map(str, candidates))} is a number in 0…1"
    if champion and champion.weights == best.weights:
        if champion.number == best.number:
            return champion, f"{stays}: no better model was trained"
        return best, f"{best} becomes champion: the weights of {champion} with the current code and settings"
    if accuracy < min_val_accuracy:
        return champion, f"{stays}: {best} is below registry.min_val_accuracy = {min_val_accuracy:.2%}"
    if champion is None:
        return best, f"{becomes}: there was none, and registry.min_val_accuracy is {min_val_accuracy:.2%}"
    if ignore_champion:
        return best, f"{becomes}: chosen without regard to {champion}"
    before = known(champion.val_accuracy)
    if before == UNKNOWN:
        return champion, f"{stays}: its validation accuracy is unknown; {IGNORE_CHAMPION}"
    if champion.validation != best.validation:
        return champion, f"{stays}: {best} was validated on other images; {IGNORE_CHAMPION}"
    if round(accuracy - before, 9) > margin:
        return best, f"{becomes}: better than {champion} by more than registry.margin = {margin:.2%}"
    return champion, f"{stays}: {best} is not better by more than registry.margin = {margin:.2%}"
