"""The tables in the README and the model card, generated from the committed metrics files.

python -m tools.readme           check that both documents are up to date
python -m tools.readme --write   update them

The README's table consists of the main rows of the report's comparison table (pipeline/reporting/comparison_table.py).
The model card begins with metadata for the Hugging Face Hub, https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from bench import results as bench
from face_mask.schema import MODELS, TITLES
from pipeline.core import params
from pipeline.reporting import comparison_table, original
from pipeline.reporting.cells import by_size, interval, markdown
from pipeline.reporting.comparison_table import GROUPED
from tools import hard_cases

METRICS = Path("metrics")


def headline() -> str:
    """The README's block: the main rows of the comparison table."""
    p = params.load()
    found = comparison_table.collect(p)
    return markdown(comparison_table.table(found, brief=True, confidence=p.evaluate.confidence))


def results() -> str:
    """The block of docs/results.md: the comparison table, McNemar's test, and notes."""
    p = params.load()
    lines = comparison_table.table(comparison_table.collect(p), confidence=p.evaluate.confidence)
    versus = json.loads((METRICS / "mobilenet.json").read_text(encoding="utf-8"))["versus"]
    return f"{markdown(lines)}\n\n{comparison_table.disagreement(versus)} {original.NOTES}"


def subsets() -> str:
    """The model card's results: accuracy of each model on subsets of the test set and of the unseen faces."""
    p = params.load()
    found = comparison_table.collect(p)
    keys = {
        "test.accuracy": "test images",
        "test.recall_with_mask": "test, with mask",
        "test.recall_without_mask": "test, without mask",
        "unseen.accuracy": "unseen faces",
        "unseen.recall_with_mask": "unseen, with mask",
        "unseen.recall_without_mask": "unseen, without mask",
    }
    rows = {row.key: row for row in comparison_table.ROWS}
    lines = [["accuracy on", *TITLES.values()]]
    for key, title in keys.items():
        if any(found[model, GROUPED].get(key) is not None for model in MODELS):
            cells = (comparison_table.cell(rows[key], found[model, GROUPED], p.evaluate.confidence) for model in MODELS)
            lines.append([title, *cells])
    paths = {model: METRICS / f"unseen_{model}.json" for model in MODELS}
    if all(path.is_file() for path in paths.values()):
        sizes = {model: json.loads(path.read_text(encoding="utf-8"))["by_size"] for model, path in paths.items()}
        lines += [[f"unseen, face of {title}", *cells] for title, _, *cells in by_size(sizes)[1:]]
    return markdown(lines)


# Metrics in the Hub's `model-index`: key in metrics/*.json, the Hub's identifier, title.
INDEXED = [
    ("accuracy", "accuracy", "accuracy"),
    ("recall_with_mask", "recall", "recall, with mask"),
    ("recall_without_mask", "recall", "recall, without mask"),
    ("roc_auc", "roc_auc", "ROC AUC"),
]


def metadata() -> str:
    """The model card's YAML for the Hugging Face Hub, with the metrics of both models on test and unseen images.

    The Hub shows a metric's name without that of its model, and huggingface_hub merges the entries of several models
    on one data set, so each name contains the model.
    """
    trained_on = read("data.json")["name"]
    index = []
    for model, title in TITLES.items():
        sets = [(trained_on, "test", "grouped test images", read(f"{model}.json")["test"])]
        if (METRICS / f"unseen_{model}.json").is_file():
            sets.append((read("unseen_data.json")["name"], "unseen", "unseen faces", read(f"unseen_{model}.json")))
        results = [
            {
                "task": {"type": "image-classification", "name": "face mask or not"},
                "dataset": {"type": dataset, "name": f"{dataset}, {name}", "split": split},
                "metrics": [
                    {"type": kind, "name": f"{title}: {metric}", "value": values[key]}
                    for key, kind, metric in INDEXED
                    if values[key] is not None
                ],
            }
            for dataset, split, name, values in sets
        ]
        index.append({"name": title, "results": [result for result in results if result["metrics"]]})
    card = {
        "language": "en",
        "license": "mit",
        "library_name": "litert",
        "pipeline_tag": "image-classification",
        "tags": ["face-mask", "mobilenet_v2", "litert", "tflite", "onnx", "keras"],
        "datasets": [trained_on],  # on Kaggle
        "metrics": list(dict.fromkeys(kind for _, kind, _ in INDEXED)),
        "model-index": index,
    }
    return yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120).rstrip("\n")


def read(name: str) -> dict:
    """Return the content of a file in metrics/."""
    return json.loads((METRICS / name).read_text(encoding="utf-8"))


def packaged() -> str:
    """The model card's results of the file that is shipped with the package, from its own card."""
    card = json.loads(Path("face_mask/model/card.json").read_text(encoding="utf-8"))
    columns = {"val": "validation images", "test": "test images", "unseen": "unseen faces"}
    title = f"{card['title']}, LiteRT {card['format']}, {card['bytes'] / 1e6:.1f} MB"
    lines = [[title, *columns.values()]]
    for key in ("accuracy", "recall_with_mask", "recall_without_mask"):
        cells = (interval(card["metrics"][column], key) for column in columns)
        lines.append([key.replace("_", " "), *cells])
    errors = (card["metrics"][column]["ece"] for column in columns)
    lines.append(["calibration error", *("–" if error is None else f"{error:.4f}" for error in errors)])
    return markdown(lines)


def end_to_end() -> str:
    """The README's results on whole images: the detector's recall, and each model's accuracy on the detected faces."""
    found = {model: json.loads((METRICS / f"end_to_end_{model}.json").read_text(encoding="utf-8")) for model in MODELS}
    any_model = found["cnn"]
    d = any_model["detection"]
    lines = [["", "faces", "detector", *TITLES.values()]]
    labels = {"with_mask": "with mask", "without_mask": "without mask", "incorrect": "incorrectly worn mask"}
    for label, title in labels.items():
        lines.append([f"detection recall, {title}", f"{d[f'n_{label}']:,}", interval(d, f"recall_{label}"), "", ""])
    sizes = by_size(dict.fromkeys(MODELS, d["by_size"]))[1:]
    for (title, n, *_), metrics in zip(sizes, d["by_size"].values(), strict=True):
        lines.append([f"detection recall, {title}", n, interval(metrics, "recall"), "", ""])
    for key, of, title in (
        ("accuracy", "n_detected", "accuracy on detected faces"),
        ("recall_with_mask", "n_detected_with_mask", "recall on detected faces, with mask"),
        ("recall_without_mask", "n_detected_without_mask", "recall on detected faces, without mask"),
        ("incorrect_called_mask", "n_incorrect_detected", "detected incorrectly worn masks predicted as with_mask"),
        ("end_to_end_accuracy", "n_end_to_end", "**end-to-end accuracy**: detected and predicted correctly"),
    ):
        lines.append([title, f"{any_model[of]:,}", "", *(interval(found[model], key) for model in MODELS)])
    min_face = params.load().unseen.min_face
    false = (
        f"In {any_model['images']:,} images, {d['false_detections']:,} detections match no annotated face"
        f" ({d['false_of_min_face']:,} of them at least {min_face} pixels large); {d['false_apart']:,} of these do not"
        f" even overlap one ({d['false_apart_of_min_face']:,} at least {min_face} pixels large)."
    )
    return f"{markdown(lines)}\n\n{false}"


def prevalence() -> str:
    """The proportion of people with a mask in held-out images: annotated, predicted and corrected, and the errors."""
    lines = [
        [
            "mean of 200 halves",
            "annotated",
            "predicted",
            "corrected",
            "error, predicted",
            "error, corrected",
            "coverage",
        ]
    ]
    keys = ("annotated", "naive", "corrected", "naive_error", "corrected_error", "coverage")
    for model, title in TITLES.items():
        found = read(f"end_to_end_{model}.json").get("prevalence", {})
        for name, values in ((title, found), (f"{title}, everything", found.get("everything", {}))):
            lines.append([name, *(interval(values, key) for key in keys)])
    return markdown(lines)


def export() -> str:
    """The README's results of the exported formats of both models: size, accuracy, latency."""
    found = json.loads((METRICS / "export.json").read_text(encoding="utf-8"))
    lines = [["", "MB", "test accuracy", "prediction differs from Keras", "ms per image"]]
    for model, title in TITLES.items():
        for number_format, r in found[model].items():
            name = {"keras": "Keras", "onnx": "ONNX"}.get(number_format, f"LiteRT {number_format}")
            size = f"{r['bytes'] / 1e6:.1f}" if "bytes" in r else ""
            other = f"{r['other_class']} of {found[model]['keras']['n']}" if "other_class" in r else ""
            lossy = ", **lossy**" if r.get("lossy") else ""
            accuracy = f"{r['accuracy']:.2%}".replace("%", " %") + lossy
            lines.append([f"{title}, {name}", size, accuracy, other, f"{r['latency_ms']:.1f}"])
    return markdown(lines)


# The rows of bench/results.json that matter most to users, won or lost.
SPEED = (
    "time from command to first answer",
    "latency of one image, MobileNetV2, median",
    "JPEG files classified, MobileNetV2",
    "JPEG files classified, CNN",
    "faces detected and classified, video",
    "images decoded, resized and packed",
)


def speed() -> str:
    """The README's benchmarks: how many times as fast as the best alternative this project is."""
    rows = {row.name: row for row in bench.load(Path("bench"))}
    lines = [f"- {name}: {bench.number(rows[name].ratio)}× {rows[name].peer_name}" for name in SPEED]
    missed = [row.met is False for row in rows.values() if row.met is not None]
    return "\n".join([*lines, "", f"{sum(missed)} of {len(missed)} goals were missed."])


METADATA = "metadata"  # YAML, in which HTML comments are not allowed
# (document, name in its markers, function that generates the block)
BLOCKS: list[tuple[Path, str, Callable[[], str]]] = [
    (Path("README.md"), "headline", headline),
    (Path("README.md"), "speed", speed),
    (Path("docs/results.md"), "results", results),
    (Path("docs/results.md"), "end to end", end_to_end),
    (Path("docs/results.md"), "prevalence", prevalence),
    (Path("docs/results.md"), "export", export),
    (Path("docs/model_card.md"), METADATA, metadata),
    (Path("docs/model_card.md"), "results", subsets),
    (Path("docs/model_card.md"), "hard cases", hard_cases.groups),
    (Path("docs/model_card.md"), "packaged", packaged),
    (hard_cases.DOCUMENT, "groups", hard_cases.groups),
    (hard_cases.DOCUMENT, "cases", hard_cases.cases),
    (hard_cases.DOCUMENT, "subsets", hard_cases.subsets),
]


def written(text: str, name: str, block: str) -> str:
    """Insert `block` between a document's markers of this name. Raises ValueError if it has none."""
    begin, end = markers(name)
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{begin} or {end} is missing")
    return f"{before}{begin}\n{block}\n{end}{after}"


def markers(name: str) -> tuple[str, str]:
    """Return the comments that enclose a block."""
    opening, closing = f"{name}: python -m tools.readme --write", f"/{name}"
    if name == METADATA:
        return f"# {opening}", f"# {closing}"
    return f"<!-- {opening} -->", f"<!-- {closing} -->"


def main() -> None:
    for path, name, block in BLOCKS:
        text = path.read_text(encoding="utf-8")
        new = written(text, name, block())
        if "--write" in sys.argv:
            path.write_text(new, encoding="utf-8", newline="\n")
        elif new != text:
            sys.exit(f"{path} does not match metrics/ or bench/results.json: run `python -m tools.readme --write`")


if __name__ == "__main__":
    main()
