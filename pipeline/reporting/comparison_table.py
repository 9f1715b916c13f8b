"""The comparison table: for both models, the original's metrics beside ours on a random and on the grouped split.

The report, the README and the model card all use it. Proportions have Wilson intervals, other metrics have bootstrap
intervals if the metrics file contains them, and unknown values are dashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from face_mask.schema import MODELS, TITLES
from pipeline.core import params
from pipeline.core.values import flatten
from pipeline.explain import focus
from pipeline.reporting import inputs, verdicts
from pipeline.reporting.cells import UNKNOWN, percentage
from pipeline.reporting.original import PUBLISHED
from pipeline.scoring.metrics import wilson

GROUPED, RANDOM, ORIGINAL = "grouped", "random split", "original"
Metrics = dict[str, float | int | str | None]  # of one model in one column; flat keys as in the files: test.accuracy


@dataclass(frozen=True)
class Row:
    """A row of the table: its title, the metric that it shows, and the format."""

    title: str
    key: str
    kind: str = "percent"  # percent, number (four decimals), small (two decimals), count or words
    of: str = ""  # key of the denominator: for a proportion without an interval in the file, or for "n of total"
    brief: bool = False  # whether the README shows it too


ROWS = (
    Row("train accuracy", "train.accuracy", of="train.n", brief=True),
    Row("validation accuracy", "val.accuracy", of="val.n"),
    Row("**test accuracy**", "test.accuracy", brief=True),
    Row("test images", "test.n", "count"),
    Row("train minus test accuracy", "overfit_gap", "number"),
    Row("precision, with mask", "test.precision_with_mask", of="test.predicted_with_mask"),
    Row("precision, without mask", "test.precision_without_mask", of="test.predicted_without_mask"),
    Row("recall, with mask", "test.recall_with_mask", of="test.n_with_mask"),
    Row("recall, without mask", "test.recall_without_mask", of="test.n_without_mask"),
    Row("F1, with mask", "test.f1_with_mask"),
    Row("F1, without mask", "test.f1_without_mask"),
    Row("false positives: without_mask predicted as with_mask", "test.false_positives", "count", brief=True),
    Row("false negatives: with_mask predicted as without_mask", "test.false_negatives", "count", brief=True),
    Row("ROC AUC", "test.roc_auc", "number", brief=True),
    Row("average precision", "test.average_precision", "number"),
    Row("Brier score", "test.brier", "number"),
    Row("expected calibration error", "test.ece"),
    Row("prediction set contains the class, with mask", "conformal.coverage_with_mask"),
    Row("prediction set contains the class, without mask", "conformal.coverage_without_mask"),
    Row("unsure", "conformal.unsure"),
    Row("accuracy where sure", "conformal.sure_accuracy"),
    Row("**unseen accuracy**", "unseen.accuracy", brief=True),
    Row("unseen images", "unseen.n", "count"),
    Row("unseen, balanced accuracy", "unseen.balanced_accuracy"),
    Row("unseen, recall with mask", "unseen.recall_with_mask", of="unseen.n_with_mask"),
    Row("unseen, recall without mask", "unseen.recall_without_mask", of="unseen.n_without_mask"),
    Row("unseen, ROC AUC", "unseen.roc_auc", "number"),
    Row("unseen, mean confidence with mask", "unseen.mean_confidence_with_mask"),
    Row("unseen, mean confidence without mask", "unseen.mean_confidence_without_mask"),
    Row(
        "incorrectly worn masks predicted as with_mask",
        "unseen.incorrect_called_mask",
        "count",
        of="unseen.n_incorrect",
    ),
    Row("unseen, prediction set contains the class, with mask", "unseen.conformal.coverage_with_mask"),
    Row("unseen, prediction set contains the class, without mask", "unseen.conformal.coverage_without_mask"),
    Row("unseen, unsure", "unseen.conformal.unsure"),
    Row("unseen, accuracy where sure", "unseen.conformal.sure_accuracy"),
    Row("unseen faces detected and classified correctly", "end_to_end.end_to_end_accuracy", brief=True),
    Row("unseen faces in held-out images: annotated with mask", "end_to_end.prevalence.annotated"),
    Row("unseen faces in held-out images: predicted with mask", "end_to_end.prevalence.naive"),
    Row("unseen faces in held-out images: with mask, corrected", "end_to_end.prevalence.corrected"),
    Row("webcam confidence, with mask", "live.mean_confidence_with_mask"),
    Row("webcam confidence, without mask", "live.mean_confidence_without_mask"),
    Row("webcam, frames with the face classified correctly", "live.face_correct"),
    Row("webcam, frames with the face classified incorrectly", "live.face_incorrect"),
    Row("hard cases, accuracy", "hard_cases.test.accuracy", brief=True),
    Row("hard cases, worst group", "hard_cases.test.worst_group", "words"),
    Row("hard cases, accuracy on the worst group", "hard_cases.test.worst_accuracy"),
    Row("hard cases, accuracy on the best minus the worst group", "hard_cases.test.group_gap"),
    Row("hard cases, prediction set contains the class", "hard_cases.test.coverage"),
    Row("hard cases, unsure", "hard_cases.test.unsure"),
    Row("test, worst subset", "hard_cases.subsets.test.worst_group", "words"),
    Row("test, balanced accuracy on the worst subset", "hard_cases.subsets.test.worst_accuracy"),
    Row("test, difference between skin subsets", "hard_cases.subsets.test.by.skin.gap"),
    Row("unseen, worst subset", "hard_cases.subsets.unseen.worst_group", "words"),
    Row("unseen, balanced accuracy on the worst subset", "hard_cases.subsets.unseen.worst_accuracy"),
    Row("unseen, difference between skin subsets", "hard_cases.subsets.unseen.by.skin.gap"),
    Row("attribution gain, face", "xai.face_gain", "small"),
    Row("attribution gain, lower half of the face", "xai.lower_face_gain", "small"),
    Row("insertion AUC", "xai.insertion_auc", "number"),
    Row("insertion AUC, random order", "xai.insertion_auc_random", "number"),
    Row("deletion AUC", "xai.deletion_auc", "number"),
    Row("deletion AUC, random order", "xai.deletion_auc_random", "number"),
    Row("rank correlation after weight randomization", "xai.randomization_spearman", "small"),
    Row("overfitting observed?", "overfitting", "words"),
    Row("XAI insight", "insight", "words"),
)


def model_metrics(folder: Path, model: str, split: Mapping | None) -> Metrics:
    """Read all metrics of a model in `folder`, flat, with the image counts that the intervals need."""
    metrics: Metrics = {}
    for name, prefix in (
        (model, ""),
        (f"unseen_{model}", "unseen."),
        (f"xai_{model}", "xai."),
        (f"end_to_end_{model}", "end_to_end."),
        (f"live_{model}", "live."),
        (f"hard_cases_{model}", "hard_cases."),
    ):
        if (path := folder / f"{name}.json").is_file():
            metrics |= flatten(inputs.read_json(path), prefix)
    if split is not None and metrics:
        metrics |= {f"{name}.n": sum(split[name].values()) for name in ("train", "val")}
        with_mask, without_mask = (int(split["test"][label]) for label in ("with_mask", "without_mask"))
        false_positives, false_negatives = (
            int(metrics[f"test.{key}"] or 0) for key in ("false_positives", "false_negatives")
        )
        metrics |= {
            "test.n_with_mask": with_mask,
            "test.n_without_mask": without_mask,
            "test.predicted_with_mask": with_mask - false_negatives + false_positives,
            "test.predicted_without_mask": without_mask - false_positives + false_negatives,
        }
    return metrics


def columns(
    metrics: Path = Path("metrics"), random_split: Path = inputs.RANDOM_SPLIT
) -> dict[tuple[str, str], Metrics]:
    """Our metrics by (model, column). Those of the random split are omitted if they are of another data set."""
    data = metrics / "data.json"
    same = (
        (random_split / "data.json").is_file()
        and data.is_file()
        and (inputs.read_json(random_split / "data.json").get("sha256") == inputs.read_json(data).get("sha256"))
    )
    found = {}
    for column, folder in ((RANDOM, random_split if same else Path("nowhere")), (GROUPED, metrics)):
        split = inputs.read_json(folder / "split.json") if (folder / "split.json").is_file() else None
        for model in MODELS:
            found[model, column] = model_metrics(folder, model, split)
    return found


def collect(p: params.Params) -> dict[tuple[str, str], Metrics]:
    """Our metrics by (model, column), with the two verdicts in words for the grouped split."""
    found = columns()
    for model in MODELS:
        own = found[model, GROUPED]
        own["overfitting"] = verdicts.overfitting(own, p.report.overfit_gap)
        if own.get("xai.face_gain") is not None:
            own["insight"] = focus.insight(own)
    return found


def cell(row: Row, metrics: Metrics, confidence: float) -> str:
    """Format one metric as the table shows it, with its interval if there is one."""
    value = metrics.get(row.key)
    if value is None:
        return UNKNOWN
    if row.kind == "words":
        return str(value)
    if row.kind == "count":
        total = metrics.get(row.of)
        return f"{value:,}" if total is None else f"{value:,} of {total:,}"
    number = float(value)
    low, high = metrics.get(f"{row.key}_low"), metrics.get(f"{row.key}_high")
    if low is None and (n := metrics.get(row.of)):
        low, high = wilson(round(number * int(n)), int(n), confidence)
    shown = {"percent": percentage, "number": "{:.4f}".format, "small": "{:.2f}".format}[row.kind]
    unit = " %" if row.kind == "percent" else ""
    if low is None or high is None:
        return shown(number) + unit
    return f"{shown(number)}{unit} ({shown(float(low))}–{shown(float(high))})"


def table(
    found: Mapping[tuple[str, str], Metrics], *, brief: bool = False, confidence: float = 0.95
) -> list[list[str]]:
    """Build the header and the rows of cells. A row is omitted if we have none of its metrics."""
    order = [(model, column) for model in MODELS for column in (ORIGINAL, RANDOM, GROUPED)]
    lines = [["", *(f"{TITLES[model]}, {f'**{column}**' if column == GROUPED else column}" for model, column in order)]]
    for row in ROWS:
        if (brief and not row.brief) or not any(metrics.get(row.key) is not None for metrics in found.values()):
            continue
        cells = [
            PUBLISHED[model].get(row.key, UNKNOWN)
            if column == ORIGINAL
            else cell(row, found[model, column], confidence)
            for model, column in order
        ]
        lines.append([row.title, *cells])
    return lines


def disagreement(versus: Mapping[str, float], split: str = "grouped") -> str:
    """State McNemar's test in a sentence; `versus` is that of metrics/mobilenet.json."""
    return (
        f"Of the {split} test set's images, {versus['only_this_correct']} are classified correctly by MobileNetV2 alone"
        f" and {versus['only_other_correct']} by the CNN alone (McNemar's exact test: p = {versus['mcnemar_p']:.2g})."
    )
