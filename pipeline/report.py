"""Stage `report`: everything the other stages found, on one page for a person to read.

    python -m pipeline.report

Reads metrics/, plots/, the predictions, the suspected labels, the packed pictures and docs/results/random_split/;
writes report/report.md, report/figures/ and report/report.html, which holds all of it in one file. Parameters: report.*
and evaluate.*; it prints them all. The rule that answers "Overfitting observed?" stands in
pipeline/reporting/verdicts.py, that of "XAI insight" in pipeline/explain/focus.py. Expect 10 s.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import atomic, errors, params, tracking
from pipeline.data import packing
from pipeline.reporting import charts, comparison, inputs, label_cost, page, sections
from pipeline.reporting.comparison import GROUPED
from pipeline.reporting.inputs import MODELS
from pipeline.scoring import sheets
from pipeline.scoring.metrics import called_right

REPORT = Path("report")
FIGURES = REPORT / "figures"
MARKDOWN, HTML = REPORT / "report.md", REPORT / "report.html"
METRICS = Path("metrics")
SHOWN = 48


def test_errors(predictions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The test pictures that a model gets wrong, the most confident error first."""
    test = predictions[predictions["split"] == "test"]
    y_true = packing.to_classes(test["label"])
    wrong = {model: ~called_right(y_true, test[model].to_numpy(), threshold) for model in MODELS}
    given = {model: np.where(y_true == 1, test[model], 1 - test[model]) for model in MODELS}
    table = test.assign(wrong_cnn=wrong["cnn"], wrong_mobilenet=wrong["mobilenet"], least=np.minimum(*given.values()))
    return table[wrong["cnn"] | wrong["mobilenet"]].sort_values(["least", "path"], ignore_index=True)


def draw_errors(table: pd.DataFrame) -> None:
    """report/figures/test_errors.png: the label, and what each model that errs says of it."""
    images, manifest = packing.open_images(), packing.read_manifest()
    row_of = dict(zip(manifest["path"], manifest["row"], strict=True))
    captions = []
    for one in table.head(SHOWN).to_dict("records"):
        said = [f"{name} {one[model]:.0%}" for model, name in MODELS.items() if one[f"wrong_{model}"]]
        captions.append((f"is {one['label']}", f"masked? {', '.join(said)}"))
    pictures = [images[row_of[path]] for path in table["path"].head(SHOWN)]
    sheets.write(sheets.draw(pictures, captions, columns=6, side=190), FIGURES / "test_errors.png")


def draw_figures(wrong: pd.DataFrame) -> None:
    """All files of report/figures/, of which nothing older stays."""
    shutil.rmtree(FIGURES, ignore_errors=True)
    drawings = {
        "curves": charts.roc_and_pr(),
        "unseen-curves": charts.roc_and_pr("unseen_"),
        "reliability": charts.reliability(),
        "confusion": charts.confusion(),
        "training": charts.training(),
    }
    for name, svg in drawings.items():
        atomic.write_text(FIGURES / f"{name}.svg", svg)
    draw_errors(wrong)


def write_text(p: params.Params, found: dict, predictions: pd.DataFrame, n_errors: int) -> str:
    """The report in Markdown, from all files of results."""
    kept = {
        name: inputs.read_json(METRICS / f"{name}.json")
        for name in ("data", "split", "pretrained", "audit", "unseen_faces")
    }
    results = {model: inputs.read_json(METRICS / f"{model}.json") for model in MODELS}
    sizes = {model: inputs.read_json(METRICS / f"unseen_{model}.json").get("by_size", {}) for model in MODELS}
    issues = inputs.read_csv("data/audit/label_issues.csv", ["path"])
    costs = label_cost.cost(predictions, issues["path"], MODELS, p.evaluate.threshold, p.evaluate.confidence)
    panels = sorted(path.name for path in Path("plots/xai").glob("*.png"))
    parts = (
        sections.opening(kept["data"], found, results["mobilenet"]["versus"]),
        sections.compared(found, kept["split"], p.evaluate.confidence, p.report.overfit_loss_rise),
        sections.tested(n_errors),
        sections.unseen(found, sizes, kept["unseen_faces"]),
        sections.explained(found, panels),
        sections.audited(kept["audit"], costs),
        sections.appendix(
            {"Pictures": kept["data"], "Split": kept["split"], "Pretrained weights": kept["pretrained"]},
            p.model_dump(),
        ),
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    started = time.time()
    p = params.load()
    tracking.check()
    inputs.demand(list(inputs.WRITTEN_BY))
    found = comparison.collect(p)
    predictions = inputs.read_csv("data/predictions.csv", ["path", "label", "split", *MODELS])
    wrong = test_errors(predictions, p.evaluate.threshold)

    draw_figures(wrong)
    text = write_text(p, found, predictions, len(wrong))
    atomic.write_text(MARKDOWN, text)
    atomic.write_text(HTML, page.render(text, REPORT))
    tracking.log_stage(
        "report",
        params=tracking.flatten({"report": p.report.model_dump()}),
        artifacts=[MARKDOWN, HTML],
        started=started,
    )
    accuracies = ", ".join(f"{name} {found[model, GROUPED]['test.accuracy']:.2%}" for model, name in MODELS.items())
    print(
        f"report: {HTML} ({HTML.stat().st_size / 1e6:.1f} MB) and {MARKDOWN}; test accuracy {accuracies};"
        f" {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
