"""The tables of docs/results/hard_cases.md, and the limits of the subsets.

python -m tools.readme --write        update the tables, as those of the other documents
python -m tools.hard_cases            print the terciles of the training images, for pipeline/dataset/hard_cases.py

docs/results/hard_cases_before_MODEL.json are the metrics of the models before they were trained for hard cases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from face_mask.schema import MODELS, TITLES
from pipeline.dataset import hard_cases, packing
from pipeline.reporting.cells import interval, markdown, percentage
from pipeline.scoring.hard_case_metrics import RATES

DOCUMENT = Path("docs/results/hard_cases.md")
FOLDERS = {"before": (DOCUMENT.parent, "hard_cases_before_"), "after": (Path("metrics"), "hard_cases_")}
Found = Mapping[tuple[str, str], Mapping]  # metrics by (before or after, model)


def read() -> dict[tuple[str, str], dict]:
    """The metrics files that exist."""
    found = {}
    for when, (folder, prefix) in FOLDERS.items():
        for model in MODELS:
            path = folder / f"{prefix}{model}.json"
            if path.is_file():
                found[when, model] = json.loads(path.read_text(encoding="utf-8"))
    return found


def columns(found: Found) -> list[tuple[str, str]]:
    return [(when, model) for model in MODELS for when in FOLDERS if (when, model) in found]


def groups() -> str:
    """Accuracy of groups of cases, worst group and gap."""
    found = read()
    shown = columns(found)
    lines = [["accuracy on", *(f"{TITLES[model]}, {when}" for when, model in shown)]]
    tests = [found[key]["test"] for key in shown]
    lines.append(["unchanged", *(f"{percentage(one['original_accuracy'])} %" for one in tests)])
    for group in dict.fromkeys(name for one in tests for name in one["groups"]):
        lines.append([group.replace("_", " "), *(interval(one["groups"].get(group, {}), "accuracy") for one in tests)])
    lines.append(["**all cases**", *(interval(one, "accuracy") for one in tests)])
    lines.append(["best minus worst group", *(interval(one, "group_gap") for one in tests)])
    lines.append(["worst group", *(str(one["worst_group"]).replace("_", " ") for one in tests)])
    lines.append(["unsure, all cases", *(interval(one, "unsure") for one in tests)])
    lines.append(["coverage, all cases", *(interval(one, "coverage") for one in tests)])
    return markdown(lines)


def cases() -> str:
    """Recall or false positive rate of every case, with the change against the same faces unchanged."""
    found = read()
    shown = columns(found)
    tests = [found[key]["test"]["cases"] for key in shown]
    parts = []
    for label, rate in sorted(RATES.items()):
        title = f"{rate.replace('_', ' ')}, faces {label.replace('_', ' ')}"
        lines = [[title, "faces", *(f"{TITLES[model]}, {when}" for when, model in shown)]]
        for name in dict.fromkeys(name for one in tests for name in one):
            entries = [one.get(name, {}) for one in tests]
            if any(f"n_{label}" in entry for entry in entries):
                n = max(entry.get(f"n_{label}", 0) for entry in entries)
                lines.append([name.replace("_", " "), str(n), *(interval(entry, rate) for entry in entries)])
        parts.append(markdown(lines))
    return "\n\n".join(parts)


def subsets() -> str:
    """Balanced accuracy by subset of test and unseen faces."""
    found = read()
    shown = columns(found)
    parts = []
    for split in ("test", "unseen"):
        all_of = [found[key]["subsets"][split] for key in shown]
        lines = [[f"balanced accuracy, {split} faces", "faces", *(f"{TITLES[model]}, {when}" for when, model in shown)]]
        for key in hard_cases.BINS:
            for name in (*hard_cases.BINS[key][1], hard_cases.UNKNOWN):
                entries = [one["by"][key]["bins"].get(name, {}) for one in all_of]
                if n := max((entry.get("n", 0) for entry in entries), default=0):
                    title = f"{key}: {name}".replace("_", " ")
                    lines.append([title, str(n), *(interval(entry, "balanced_accuracy") for entry in entries)])
        parts.append(markdown(lines))
    return "\n\n".join(parts)


def main() -> None:
    import pandas as pd

    from pipeline.hard_cases import drawn_set

    manifest = packing.read_manifest()
    faces = drawn_set.describe_all(manifest[manifest["split"] == "train"], packing.IMAGES_PATH)
    for name, label in hard_cases.BY_CLASS.items():
        faces.loc[faces["label"] != label, name] = float("nan")
    pd.set_option("display.width", 120)
    print(faces[list(hard_cases.BINS)].quantile([1 / 3, 2 / 3]).T.to_string())


if __name__ == "__main__":
    main()
