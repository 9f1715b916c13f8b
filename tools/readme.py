"""The README's table of results, made from the committed metric files so that it cannot say anything else.

python -m tools.readme           say whether the README holds the table
python -m tools.readme --write   put it there
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

README = Path("README.md")
BEGIN, END = "<!-- results: python -m tools.readme --write -->", "<!-- /results -->"
GROUPED, RANDOM = Path("metrics"), Path("docs/results/random_split")
MODELS = {"cnn": "CNN", "mobilenet": "MobileNetV2"}

# The original's notebooks, 745 + 766 test pictures of a random split. Its table swaps the CNN's false positives and
# negatives by a mislabelled axis; here with_mask is the positive class, as in its own classification report.
ORIGINAL = {
    "cnn": {"accuracy": "95.5 %", "n": "1,511", "false_positives": "41", "false_negatives": "27"},
    "mobilenet": {"accuracy": "99 %", "n": "1,511"},
}
ROWS = {
    "accuracy": "test accuracy (95 % interval)",
    "n": "test pictures",
    "false_positives": "bare faces called masked",
    "false_negatives": "masked faces called bare",
    "recall_with_mask": "recall, with mask",
    "recall_without_mask": "recall, without mask",
    "precision_with_mask": "precision, with mask",
    "precision_without_mask": "precision, without mask",
    "roc_auc": "ROC AUC",
    "ece": "calibration error",
    "train": "train accuracy",
    "val": "validation accuracy",
}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def cell(row: str, metrics: dict) -> str:
    """One figure of a metrics file as the table shows it."""
    test = metrics["test"]
    if row == "accuracy":
        return f"{percent(test['accuracy'])} ({100 * test['accuracy_low']:.1f}–{100 * test['accuracy_high']:.1f})"
    if row in ("train", "val"):
        return percent(metrics[row]["accuracy"])
    if row in ("n", "false_positives", "false_negatives"):
        return f"{test[row]:,}"
    return f"{test[row]:.4f}" if row == "roc_auc" else percent(test[row])


def table() -> str:
    """The Markdown table: for each model the original, here with its random split, here without near-twins."""
    found = {(model, folder): json.loads((folder / f"{model}.json").read_text()) for model in MODELS
             for folder in (RANDOM, GROUPED)}  # fmt: skip
    head = [
        "",
        *[f"{name}, {what}" for name in MODELS.values() for what in ("original", "random split", "**grouped**")],
    ]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for row, title in ROWS.items():
        cells = [title]
        for model in MODELS:
            cells.append(ORIGINAL[model].get(row, "–"))
            cells += [cell(row, found[model, folder]) for folder in (RANDOM, GROUPED)]
        lines.append(" | ".join(cells))
    versus = found["mobilenet", GROUPED]["versus"]
    disagree = (
        f"On the grouped test set only MobileNetV2 is right on {versus['only_this_right']} pictures and only the CNN on"
        f" {versus['only_other_right']}; McNemar's exact p = {versus['mcnemar_p']:.2g}."
    )
    return "\n".join([*[f"| {line} |" for line in lines], "", disagree])


def written(readme: str) -> str:
    """The README's text with the current table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    new = written(text)
    if "--write" in sys.argv:
        README.write_text(new, encoding="utf-8", newline="\n")
    elif new != text:
        sys.exit("README.md: the results are not those of metrics/: run `python -m tools.readme --write`")


if __name__ == "__main__":
    main()
