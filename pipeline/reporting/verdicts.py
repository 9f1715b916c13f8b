"""The two rows that the original answers by eye, answered by stated rules.

Overfitting. Two signs are looked for. The gap: train accuracy exceeds the upper end of the test accuracy's interval.
The turn: when training ended the validation loss stood more than report.overfit_loss_rise above its minimum. Both: yes.
One: signs of it. None: no.

Insight. A gain is the share of positive attribution that falls inside a region, divided by the region's share of the
picture: 1 is what chance gives. A model looks at the face (or the face's lower half) when the gain's whole interval is
above 1, and elsewhere when it is below. One model looks more sharply than the other when their intervals for the lower
half do not meet; where they meet, no difference is shown. (Intervals that meet can hide a difference, so this errs on
the side of saying nothing.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

RULES = (
    "**Overfitting observed?** looks for two signs: train accuracy above the upper end of the test accuracy's interval,"
    " and a validation loss that ended more than {loss_rise} above its minimum. Both: yes. One: signs of it. None:"
    " no.\n\n"
    "**XAI insight.** The gain is the share of positive attribution inside a region divided by the region's share of"
    " the picture; chance gives 1. A model looks at the face, or its lower half, when the gain's whole interval is"
    " above 1. It looks more sharply than the other when the two intervals for the lower half do not meet."
)


def last_phase(history: pd.DataFrame) -> list[float]:
    """Validation losses of the training that made the final weights: a phase of its own starts from a lower loss."""
    last = history[history["phase"] == history["phase"].iloc[-1]] if "phase" in history else history
    return last["val_loss"].tolist()


def loss_rise(val_losses: Sequence[float]) -> float:
    """How far the last validation loss stands above the least, as a share of it; the losses are positive."""
    least = min(val_losses)
    return (val_losses[-1] - least) / least if least > 0 else 0.0


def overfitting(figures: Mapping, val_losses: Sequence[float], limit: float) -> str:
    """yes, signs of it or no, with the figures that say so. `val_losses` are those of the last phase of training."""
    train, high, rise = figures["train.accuracy"], figures["test.accuracy_high"], loss_rise(val_losses)
    gap, turn = train > high, rise > limit
    verdict = "yes" if gap and turn else "signs of it" if gap or turn else "no"
    return (
        f"{verdict} (train {100 * train:.2f} %, test at most {100 * high:.2f} %; validation loss ended"
        f" {100 * rise:.0f} % above its minimum)"
    )


def place(low: float, high: float) -> str:
    """Where a gain's interval lies against chance."""
    return "above chance" if low > 1 else "below chance" if high < 1 else "not told from chance"


def insight(own: Mapping, other: Mapping) -> str:
    """Where a model looks, in words, and whether more sharply than the other."""
    parts = []
    for key, where in (("xai.face_gain", "face"), ("xai.lower_face_gain", "lower half")):
        low, high = own.get(f"{key}_low"), own.get(f"{key}_high")
        told = place(low, high) if low is not None and high is not None else "no interval"
        parts.append(f"{where} {own[key]:.2f} ({told})")
    keys = [f"xai.lower_face_gain_{end}" for end in ("low", "high")]
    if any(figures.get(key) is None for figures in (own, other) for key in keys):
        return ", ".join(parts)
    low, high, other_low, other_high = (figures[key] for figures in (own, other) for key in keys)
    against = "sharper than" if low > other_high else "less sharp than" if high < other_low else "not told from"
    return f"{', '.join(parts)}; {against} the other model"
