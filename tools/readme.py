"""Figures in the README and the model card, made from the committed metric files so that they cannot say anything else.

python -m tools.readme           say whether both hold what the files say
python -m tools.readme --write   put it there

The README's lines are those of the report's comparison table (pipeline/reporting/comparison.py), the chief ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline import params
from pipeline.reporting import comparison, original
from pipeline.reporting.cells import by_size, markdown
from pipeline.reporting.comparison import GROUPED
from pipeline.reporting.inputs import MODELS

METRICS = Path("metrics")
BEGIN, END = "<!-- results: python -m tools.readme --write -->", "<!-- /results -->"


def results() -> str:
    """The README's block: the chief lines of the comparison, and McNemar's test."""
    p = params.load()
    lines = comparison.table(comparison.collect(p), brief=True, confidence=p.evaluate.confidence)
    versus = json.loads((METRICS / "mobilenet.json").read_text(encoding="utf-8"))["versus"]
    return f"{markdown(lines)}\n\n{comparison.disagreement(versus)} {original.NOTES}"


def subsets() -> str:
    """The model card's block: how each model does on parts of the test set and of the unseen faces."""
    p = params.load()
    found = comparison.collect(p)
    keys = {
        "test.accuracy": "test pictures",
        "test.recall_with_mask": "test, masked faces",
        "test.recall_without_mask": "test, bare faces",
        "unseen.accuracy": "unseen faces",
        "unseen.recall_with_mask": "unseen, masked faces",
        "unseen.recall_without_mask": "unseen, bare faces",
    }
    rows = {row.key: row for row in comparison.ROWS}
    lines = [["share called right", *MODELS.values()]]
    for key, title in keys.items():
        if any(found[model, GROUPED].get(key) is not None for model in MODELS):
            cells = (comparison.cell(rows[key], found[model, GROUPED], p.evaluate.confidence) for model in MODELS)
            lines.append([title, *cells])
    paths = {model: METRICS / f"unseen_{model}.json" for model in MODELS}
    if all(path.is_file() for path in paths.values()):
        sizes = {model: json.loads(path.read_text(encoding="utf-8"))["by_size"] for model, path in paths.items()}
        lines += [[f"unseen, face of {title}", *cells] for title, _, *cells in by_size(sizes)[1:]]
    return markdown(lines)


BLOCKS: dict[Path, Callable[[], str]] = {Path("README.md"): results, Path("docs/model_card.md"): subsets}


def written(text: str, block: str) -> str:
    """A document's text with `block` between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main() -> None:
    for path, block in BLOCKS.items():
        text = path.read_text(encoding="utf-8")
        new = written(text, block())
        if "--write" in sys.argv:
            path.write_text(new, encoding="utf-8", newline="\n")
        elif new != text:
            sys.exit(f"{path}: the figures are not those of metrics/: run `python -m tools.readme --write`")


if __name__ == "__main__":
    main()
