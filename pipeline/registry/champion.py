"""Which registered version is served: the one with the best validation accuracy, if it is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IGNORE_CHAMPION = "`python -m pipeline.register --ignore-champion` chooses between the two models of the workspace"


@dataclass(frozen=True)
class Version:
    """A registered model version, as the champion rule sees it."""

    number: str
    model: str
    weights: str  # digest of the trained weights
    validation: str | None  # digest of the validation images, None if unknown
    val_accuracy: float | None  # on those, 0…1, None if unknown

    def __str__(self) -> str:
        accuracy = "unknown" if self.val_accuracy is None else f"{self.val_accuracy:.2%}"
        return f"version {self.number} ({self.model}, validation accuracy {accuracy})"


def choose(
    candidates: Sequence[Version],
    champion: Version | None,
    *,
    min_val_accuracy: float,
    margin: float,
    ignore_champion: bool = False,
) -> tuple[Version | None, str]:
    """Choose the next champion: the version, or None, and the reason in one line.

    The best of `candidates`, whose accuracies are known, becomes champion if there is none, or if its accuracy exceeds
    the champion's by more than `margin` (both 0…1). Accuracies on different validation images are not comparable, so a
    model cannot take over by one: on a handful of images, or on drawn ones, 100 % is easy. With `ignore_champion` the
    best becomes champion whatever the current one is.
    """
    champion_weights = champion.weights if champion else None
    best = max(candidates, key=lambda one: (one.val_accuracy or 0, one.weights == champion_weights))
    accuracy = best.val_accuracy or 0
    rest = " and ".join(str(one) for one in candidates if one is not best)
    becomes = f"{best} becomes champion, not {rest}" if rest else f"{best} becomes champion"
    stays = f"{champion} stays champion" if champion else "there is no champion"

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
    if champion.val_accuracy is None or champion.validation != best.validation:
        return champion, f"{stays}: {best} was validated on other images; {IGNORE_CHAMPION}"
    if round(accuracy - champion.val_accuracy, 9) > margin:
        return best, f"{becomes}: better than {champion} by more than registry.margin = {margin:.2%}"
    return champion, f"{stays}: {best} is not better by more than registry.margin = {margin:.2%}"
