"""The original's published results: the table "Evaluation Results" in the README of github.com/NazaninMahmoudi/
Face-Mask-Detection at commit d832f1f; the list above that table describes an older model.

Its test set contains 745 faces with and 766 without a mask, of a random split. The CNN's metrics by class are swapped
back here: 27 errors in 745 and 41 in 766 mean recalls of 96.4 % and 94.7 %, which the table gives the other way round.
"""

from __future__ import annotations

PUBLISHED: dict[str, dict[str, str]] = {
    "cnn": {
        "train.accuracy": "95.3 %",
        "val.accuracy": "95.5 %",
        "test.accuracy": "95.5 %",
        "test.n": "1,511",
        "test.precision_with_mask": "94.4 %",
        "test.precision_without_mask": "96.4 %",
        "test.recall_with_mask": "96.4 %",
        "test.recall_without_mask": "94.7 %",
        "test.f1_with_mask": "95 %",
        "test.f1_without_mask": "95 %",
        "test.false_positives": "41",
        "test.false_negatives": "27",
        "test.roc_auc": "0.99",
        "test.average_precision": "0.99",
        "unseen.accuracy": "(87.06 %)",
        "unseen.n": "4",
        "live.mean_confidence_with_mask": "93 %",
        "live.mean_confidence_without_mask": "83.65 %",
        "overfitting": "no: good generalization",
        "insight": "acceptable focus on facial areas",
    },
    "mobilenet": {
        "train.accuracy": "99.5 %",
        "val.accuracy": "98.5 %",
        "test.accuracy": "99 %",
        "test.n": "1,511",
        "test.precision_with_mask": "98 %",
        "test.precision_without_mask": "99 %",
        "test.recall_with_mask": "99 %",
        "test.recall_without_mask": "98 %",
        "test.f1_with_mask": "99 %",
        "test.f1_without_mask": "99 %",
        "test.false_positives": "(4)",
        "test.false_negatives": "(16)",
        "test.roc_auc": "1.00",
        "test.average_precision": "0.99",
        "unseen.accuracy": "(90 %)",
        "live.mean_confidence_with_mask": "99 %",
        "live.mean_confidence_without_mask": "99 %",
        "overfitting": "no: very stable",
        "insight": "more precise facial focus",
    },
}

NOTES = (
    "Ranges in parentheses are 95 % confidence intervals: Wilson's for proportions, percentile bootstrap for all other"
    " metrics. An original value in parentheses was published but does not measure what its row says: the CNN's"
    " “unseen accuracy” is the mean confidence on four web images, one of them misclassified (how MobileNetV2's value"
    " was obtained is not documented), and MobileNetV2's 4 and 16 errors agree with its own recalls only if they are"
    " swapped. The CNN's per-class values, which the original's axis labels swap, are swapped back here."
)
