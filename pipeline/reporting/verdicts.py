"""The two rows that the original answers by eye, answered by stated rules.

Overfitting. Two signs are looked for. The gap: train accuracy exceeds the upper end of the test accuracy's interval.
The turn: when training ended the validation loss stood more than report.overfit_loss_rise above its minimum. Both: yes.
One: signs of it. None: no.

Insight. Answered by explain.focus; RULES tells its rule to the reader.
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
    " above 1. It looks more sharply than the other when the interval of the difference for the lower half, paired"
    " picture by picture, does not hold 0."
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
