"""The two questions that the original answers by eye, answered by explicit rules.

Overfitting needs a gap that is both large and significant. Yes: train accuracy exceeds test accuracy by more than
report.overfit_gap and lies above the confidence interval of test accuracy. Slight: it lies above the interval, but the
gap is smaller. No: it does not. The weights kept are those of the best epoch, so later epochs do not count.

The XAI insight is computed by explain.focus; RULES states its rule for the reader.
"""

from __future__ import annotations

from collections.abc import Mapping

RULES = (
    "**Overfitting observed?** *Yes* if train accuracy exceeds test accuracy by more than {overfit_gap} percentage"
    " points and lies above the confidence interval of test accuracy; *slight* if it lies above the interval but the"
    " gap is smaller; otherwise *no*. The weights evaluated are those of the epoch with the lowest validation loss.\n\n"
    "**XAI insight.** The attribution gain of a region is its fraction of the positive attribution divided by its"
    " fraction of the image area; an attribution without any relation to the region gives 1. A model is said to look at"
    " the face, or at its lower half, if the whole confidence interval of the gain lies above 1 (above chance). One"
    " model is more focused than the other if the confidence interval of the difference between their gains for the"
    " lower half, paired by image, excludes 0."
)


def overfitting(own: Mapping, limit: float) -> str:
    """Return yes, slight or no with the accuracies behind it.

    `own` are the flat metrics of metrics/MODEL.json, `limit` is the largest tolerated gap as a fraction of 1.
    """
    train, test, high = own["train.accuracy"], own["test.accuracy"], own["test.accuracy_high"]
    verdict = "no" if train <= high else "yes" if train - test > limit else "slight"
    return f"{verdict} (train {100 * train:.2f} %, test {100 * test:.2f} %, interval up to {100 * high:.2f} %)"
