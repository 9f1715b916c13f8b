"""Which registered model is served? The better by validation, if good enough and better than the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AFRESH = "`python -m pipeline.register --afresh` chooses between the present two"


@dataclass(frozen=True)
class Version:
    """A registered model version, as far as the rule looks at it."""

    number: str
    model: str
    weights: str  # digest of the trained weights
    validation: str | None  # digest of the validation pictures, None where not known
    val_accuracy: float | None  # on those, 0…1, None where not known

    def __str__(self) -> str:
        accuracy = "unknown" if self.val_accuracy is None else f"{self.val_accuracy:.2%}"
        return f"version {self.number} ({self.model}, validation accuracy {accuracy})"


def choose(
    candidates: Sequence[Version],
    champion: Version | None,
    *,
    min_val_accuracy: float,
    margin: float,
    afresh: bool = False,
) -> tuple[Version | None, str]:
    """The version that is to be champion from now on, None for none, and why, in one line.

    The best of `candidates`, whose accuracies are known, becomes it where there is no champion, or where it beats the
    champion's accuracy by more than `margin` (shares of 1). An accuracy on other validation pictures is that of another
    exam, by which no model takes over: a handful of pictures, or drawn ones, soon give 100 %. With `afresh` the best
    becomes champion whatever the present one is.
    """
    defended = champion.weights if champion else None
    best = max(candidates, key=lambda one: (one.val_accuracy or 0, one.weights == defended))
    accuracy = best.val_accuracy or 0
    others = " and ".join(str(one) for one in candidates if one is not best)
    becomes = f"{best} becomes champion, not {others}" if others else f"{best} becomes champion"
    stays = f"{champion} stays champion" if champion else "there is no champion"

    if champion and champion.weights == best.weights:
        if champion.number == best.number:
            return champion, f"{stays}: nothing better was trained"
        return best, f"{best} becomes champion: the weights of {champion} with the present code and settings"
    if accuracy < min_val_accuracy:
        return champion, f"{stays}: {best} is below registry.min_val_accuracy = {min_val_accuracy:.2%}"
    if champion is None:
        return best, f"{becomes}: there was none, and registry.min_val_accuracy is {min_val_accuracy:.2%}"
    if afresh:
        return best, f"{becomes}: chosen afresh, whatever {champion} was"
    if champion.val_accuracy is None or champion.validation != best.validation:
        return champion, f"{stays}: {best} was judged on other validation pictures; {AFRESH}"
    if round(accuracy - champion.val_accuracy, 9) > margin:
        return best, f"{becomes}: better than {champion} by more than registry.margin = {margin:.2%}"
    return champion, f"{stays}: {best} is not better by more than registry.margin = {margin:.2%}"
