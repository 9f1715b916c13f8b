"""Stage `report`: the results of all other stages on one page.

    python -m pipeline.report

Reads metrics/, plots/, the predictions, the suspected labels, the packed images and docs/results/random_split/; writes
report/report.md, report/figures/ and report/report.html, a single self-contained file. Parameters: report.* and
evaluate.*; it lists all parameters. The rule behind "Overfitting observed?" is in pipeline/reporting/verdicts.py, that
behind "XAI insight" in pipeline/explain/focus.py. Expect 10 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from face_mask import errors, files
from face_mask.schema import MODELS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.reporting import charts, comparison_table, inputs, label_cost, page, sections
from pipeline.reporting.comparison_table import GROUPED
from pipeline.scoring import sheets
from pipeline.scoring.metrics import is_correct

REPORT = Path("report")
FIGURES = REPORT / "figures"
MARKDOWN, HTML = REPORT / "report.md", REPORT / "report.html"
METRICS = Path("metrics")
SHOWN = 48


def misclassified(predictions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The test images that a model misclassifies, by increasing probability of their label."""
    test = predictions[predictions["split"] == "test"]
    y_true = packing.to_classes(test["label"])
    error = {model: ~is_correct(y_true, test[model].to_numpy(), threshold) for model in MODELS}
    of_label = {model: np.where(y_true == 1, test[model], 1 - test[model]) for model in MODELS}
    table = test.assign(**{f"error_{model}": error[model] for model in MODELS}, least=np.minimum(*of_label.values()))
    return table[error["cnn"] | error["mobilenet"]].sort_values(["least", "path"], ignore_index=True)


def draw_errors(table: pd.DataFrame) -> None:
    """Draw report/figures/test_errors.png: each image's label, and P(with_mask) by the models that misclassify it."""
    images, manifest = packing.open_images(), packing.read_manifest()
    row_of = dict(zip(manifest["path"], manifest["row"], strict=True))
    captions = []
    for one in table.head(SHOWN).to_dict("records"):
        p_mask = [f"{title} {one[model]:.2f}" for model, title in TITLES.items() if one[f"error_{model}"]]
        captions.append((f"label: {one['label']}", f"P(mask): {', '.join(p_mask)}"))
    shown = [images[row_of[path]] for path in table["path"].head(SHOWN)]
    sheets.write(sheets.draw(shown, captions, columns=5, side=240), FIGURES / "test_errors.png")


def draw_figures(mistakes: pd.DataFrame) -> None:
    """Draw all files of report/figures/; others, of an earlier version, are removed at the end."""
    drawings = {
        "curves.svg": charts.roc_and_pr(),
        "unseen-curves.svg": charts.roc_and_pr("unseen_"),
        "reliability.svg": charts.reliability(),
        "confusion.svg": charts.confusion(),
        "training.svg": charts.training(),
        "hard-cases.svg": charts.hard_cases(),
    }
    for name, svg in drawings.items():
        files.write_text(FIGURES / name, svg)
    draw_errors(mistakes)
    for stale in {path.name for path in FIGURES.iterdir()} - {*drawings, "test_errors.png"}:
        (FIGURES / stale).unlink()


def compose(p: params.Params, found: dict, predictions: pd.DataFrame, n_errors: int) -> str:
    """Return the report in Markdown."""
    names = ("data", "split", "pretrained", "audit", "unseen_faces")
    stored = {name: inputs.read_json(METRICS / f"{name}.json") for name in names}
    results = {model: inputs.read_json(METRICS / f"{model}.json") for model in MODELS}
    sizes = {model: inputs.read_json(METRICS / f"unseen_{model}.json").get("by_size", {}) for model in MODELS}
    hard = {model: inputs.read_json(METRICS / f"hard_cases_{model}.json") for model in MODELS}
    issues = inputs.read_issues(stored["audit"]["n_suspected"])
    costs = label_cost.cost(predictions, issues["path"], MODELS, p.evaluate.threshold, p.evaluate.confidence)
    panels = sorted(path.name for path in Path("plots/xai").glob("*.png"))
    parts = (
        sections.opening(stored["data"], found, results["mobilenet"]["versus"]),
        sections.compared(found, stored["split"], p.evaluate.confidence, p.report.overfit_gap),
        sections.tested(n_errors),
        sections.unseen(found, sizes, stored["unseen_faces"]),
        sections.unsure(found, p.conformal.error),
        sections.hard_cases(found, hard),
        sections.explained(found, panels),
        sections.audited(stored["audit"], costs),
        sections.appendix(
            {"Images": stored["data"], "Split": stored["split"], "Pretrained weights": stored["pretrained"]},
            inputs.read_params(),
        ),
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    with tracking.stage("report") as run:
        p = params.load()
        inputs.require(list(inputs.WRITTEN_BY))
        found = comparison_table.collect(p)
        predictions = inputs.read_predictions()
        mistakes = misclassified(predictions, p.evaluate.threshold)
        text = compose(p, found, predictions, len(mistakes))
        inputs.check_images()
        draw_figures(mistakes)
        files.write_text(MARKDOWN, text)
        files.write_text(HTML, page.render(text, REPORT))
        run.log(artifacts=[MARKDOWN, HTML])
        accuracies = ", ".join(f"{TITLES[model]} {found[model, GROUPED]['test.accuracy']:.2%}" for model in MODELS)
        run.report(f"{HTML} ({HTML.stat().st_size / 1e6:.1f} MB) and {MARKDOWN}; test accuracy {accuracies}")


if __name__ == "__main__":
    errors.run(main)
