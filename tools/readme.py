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
from pipeline.reporting.cells import by_size, interval, markdown
from pipeline.reporting.comparison import GROUPED
from pipeline.reporting.inputs import MODELS

METRICS = Path("metrics")


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


def end_to_end() -> str:
    """The README's block on whole pictures: what the detector finds, and what each model makes of it."""
    found = {model: json.loads((METRICS / f"end_to_end_{model}.json").read_text(encoding="utf-8")) for model in MODELS}
    any_model = found["cnn"]
    d = any_model["detection"]
    lines = [["share of the faces", "faces", "detector", *MODELS.values()]]
    for label, title in {"with_mask": "masked", "without_mask": "bare", "incorrect": "mask worn wrong"}.items():
        lines.append([f"found, {title}", f"{d[f'n_{label}']:,}", interval(d, f"recall_{label}"), "", ""])
    sizes = by_size(dict.fromkeys(MODELS, d["by_size"]))[1:]
    for (title, n, *_), figures in zip(sizes, d["by_size"].values(), strict=True):
        lines.append([f"found, {title}", n, interval(figures, "recall"), "", ""])
    for key, of, title in (
        ("accuracy", "n_found", "called right, of those found"),
        ("recall_with_mask", "n_found_with_mask", "called right, of the masked ones found"),
        ("recall_without_mask", "n_found_without_mask", "called right, of the bare ones found"),
        ("incorrect_called_mask", "n_incorrect_found", "called masked, of masks worn wrong and found"),
        ("both", "n_both", "**found and called right**, of all masked and bare"),
    ):
        lines.append([title, f"{any_model[of]:,}", "", *(interval(found[model], key) for model in MODELS)])
    at_least = f"of at least {params.load().unseen.min_face} pixels"
    false = (
        f"In {any_model['pictures']:,} pictures {d['false_detections']:,} detections find no annotated face, however"
        f" small, {d['false_of_min_face']:,} of them {at_least}; {d['false_apart']:,} touch none,"
        f" {d['false_apart_of_min_face']:,} {at_least}."
    )
    return f"{markdown(lines)}\n\n{false}"


def export() -> str:
    """The exported formats of both models: size, accuracy, latency."""
    found = json.loads((METRICS / "export.json").read_text(encoding="utf-8"))
    lines = [["", "MB", "test accuracy", "other class than Keras", "milliseconds a picture"]]
    for model, title in MODELS.items():
        for number_format, r in found[model].items():
            name = {"keras": "Keras", "onnx": "ONNX"}.get(number_format, f"LiteRT {number_format}")
            size = f"{r['bytes'] / 1e6:.1f}" if "bytes" in r else ""
            other = f"{r['other_class']} of {found[model]['keras']['n']}" if "other_class" in r else ""
            lossy = ", **lossy**" if r.get("lossy") else ""
            accuracy = f"{r['accuracy']:.2%}".replace("%", " %") + lossy
            lines.append([f"{title}, {name}", size, accuracy, other, f"{r['latency_ms']:.1f}"])
    return markdown(lines)


# Of which document, between which marks, what.
BLOCKS: list[tuple[Path, str, Callable[[], str]]] = [
    (Path("README.md"), "results", results),
    (Path("README.md"), "end to end", end_to_end),
    (Path("README.md"), "export", export),
    (Path("docs/model_card.md"), "results", subsets),
]


def written(text: str, name: str, block: str) -> str:
    """A document's text with `block` between the marks of this name; ValueError where it has none."""
    begin, end = f"<!-- {name}: python -m tools.readme --write -->", f"<!-- /{name} -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{begin} or {end} is missing")
    return f"{before}{begin}\n{block}\n{end}{after}"


def main() -> None:
    for path, name, block in BLOCKS:
        text = path.read_text(encoding="utf-8")
        new = written(text, name, block())
        if "--write" in sys.argv:
            path.write_text(new, encoding="utf-8", newline="\n")
        elif new != text:
            sys.exit(f"{path}: the figures are not those of metrics/: run `python -m tools.readme --write`")


if __name__ == "__main__":
    main()
