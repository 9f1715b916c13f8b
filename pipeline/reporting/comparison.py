"""The comparison table: both models, the original's figures beside ours under its random split and under ours.

One place for the report, the README and the model card. A share has its Wilson interval, the other figures have the
bootstrap's where the metrics file holds it, and a figure nobody knows is a dash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import params
from pipeline.explain import focus
from pipeline.reporting import inputs, verdicts
from pipeline.reporting.cells import UNKNOWN, share
from pipeline.reporting.inputs import MODELS
from pipeline.reporting.original import PUBLISHED
from pipeline.scoring.metrics import wilson
from pipeline.tracking import flatten

GROUPED, RANDOM, ORIGINAL = "grouped", "random split", "original"
Figures = dict[str, float | int | str | None]  # of one model in one column, keys as in the metrics files: test.accuracy


@dataclass(frozen=True)
class Row:
    """A line of the table: its title, the figure it shows, and how."""

    title: str
    key: str
    kind: str = "share"  # share (as per cent), number (four decimals), small (two significant digits), count, words
    of: str = ""  # of how many pictures a share is, where the metrics file has no interval
    brief: bool = False  # in the README too


ROWS = (
    Row("train accuracy", "train.accuracy", of="train.n", brief=True),
    Row("validation accuracy", "val.accuracy", of="val.n", brief=True),
    Row("**test accuracy**", "test.accuracy", brief=True),
    Row("test pictures", "test.n", "count", brief=True),
    Row("train less test accuracy", "overfit_gap", "number"),
    Row("precision, with mask", "test.precision_with_mask", of="test.called_with_mask", brief=True),
    Row("precision, without mask", "test.precision_without_mask", of="test.called_without_mask", brief=True),
    Row("recall, with mask", "test.recall_with_mask", of="test.n_with_mask", brief=True),
    Row("recall, without mask", "test.recall_without_mask", of="test.n_without_mask", brief=True),
    Row("F1, with mask", "test.f1_with_mask"),
    Row("F1, without mask", "test.f1_without_mask"),
    Row("false positives: bare faces called masked", "test.false_positives", "count", brief=True),
    Row("false negatives: masked faces called bare", "test.false_negatives", "count", brief=True),
    Row("ROC AUC", "test.roc_auc", "number", brief=True),
    Row("average precision", "test.average_precision", "number"),
    Row("Brier score", "test.brier", "number"),
    Row("expected calibration error", "test.ece", "share", brief=True),
    Row("**unseen accuracy**", "unseen.accuracy", brief=True),
    Row("unseen pictures", "unseen.n", "count", brief=True),
    Row("unseen, balanced accuracy", "unseen.balanced_accuracy"),
    Row("unseen, recall with mask", "unseen.recall_with_mask", of="unseen.n_with_mask", brief=True),
    Row("unseen, recall without mask", "unseen.recall_without_mask", of="unseen.n_without_mask", brief=True),
    Row("unseen, ROC AUC", "unseen.roc_auc", "number"),
    Row("unseen, mean confidence with mask", "unseen.mean_confidence_with_mask"),
    Row("unseen, mean confidence without mask", "unseen.mean_confidence_without_mask"),
    Row("incorrectly worn masks called masked", "unseen.incorrect_called_mask", "count"),
    Row("… of", "unseen.n_incorrect", "count"),
    Row("webcam confidence, with mask", "replay.mean_confidence_with_mask"),
    Row("webcam confidence, without mask", "replay.mean_confidence_without_mask"),
    Row("attribution inside the face, gain", "xai.face_gain", "small", brief=True),
    Row("attribution inside its lower half, gain", "xai.lower_face_gain", "small", brief=True),
    Row("insertion AUC", "xai.insertion_auc", "number"),
    Row("… in random order", "xai.insertion_auc_random", "number"),
    Row("deletion AUC", "xai.deletion_auc", "number"),
    Row("… in random order", "xai.deletion_auc_random", "number"),
    Row("rank correlation after randomising weights", "xai.randomization_spearman", "small"),
    Row("overfitting observed?", "overfitting", "words", brief=True),
    Row("XAI insight", "insight", "words", brief=True),
)


def model_figures(folder: Path, model: str, split: Mapping | None) -> Figures:
    """All figures of a model that `folder` holds, flat; with the numbers of pictures that intervals need."""
    figures: Figures = {}
    for name, prefix in (
        (model, ""),
        (f"unseen_{model}", "unseen."),
        (f"xai_{model}", "xai."),
        (f"replay_{model}", "replay."),
    ):
        if (path := folder / f"{name}.json").is_file():
            figures |= flatten(inputs.read_json(path), prefix)
    if split is not None and figures:
        figures |= {f"{name}.n": sum(split[name].values()) for name in ("train", "val")}
        masked, bare = (int(split["test"][label]) for label in ("with_mask", "without_mask"))
        wrong = {key: int(figures[f"test.{key}"] or 0) for key in ("false_positives", "false_negatives")}
        figures |= {
            "test.n_with_mask": masked,
            "test.n_without_mask": bare,
            "test.called_with_mask": masked - wrong["false_negatives"] + wrong["false_positives"],
            "test.called_without_mask": bare - wrong["false_positives"] + wrong["false_negatives"],
        }
    return figures


def columns(
    metrics: Path = Path("metrics"), random_split: Path = inputs.RANDOM_SPLIT
) -> dict[tuple[str, str], Figures]:
    """(model, column) → figures, of ours. The random split's are left out when they are of another data set."""
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
            found[model, column] = model_figures(folder, model, split)
    return found


def collect(p: params.Params) -> dict[tuple[str, str], Figures]:
    """All figures of ours with the two answers in words, which are given for the grouped split."""
    found, histories = columns(), inputs.histories()
    for model in MODELS:
        own = found[model, GROUPED]
        losses = verdicts.last_phase(histories[model])
        own["overfitting"] = verdicts.overfitting(own, losses, p.report.overfit_loss_rise)
        if own.get("xai.face_gain") is not None:
            own["insight"] = focus.insight(own)
    return found


def cell(row: Row, figures: Figures, confidence: float) -> str:
    """One figure as the table shows it, with its interval where there is one."""
    value = figures.get(row.key)
    if value is None:
        return UNKNOWN
    if row.kind == "words":
        return str(value)
    if row.kind == "count":
        return f"{value:,}"
    number = float(value)
    low, high = figures.get(f"{row.key}_low"), figures.get(f"{row.key}_high")
    if low is None and (n := figures.get(row.of)):
        low, high = wilson(round(number * int(n)), int(n), confidence)
    shown = {"share": share, "number": "{:.4f}".format, "small": "{:.2f}".format}[row.kind]
    if low is None or high is None:
        return shown(number) + (" %" if row.kind == "share" else "")
    unit = " %" if row.kind == "share" else ""
    return f"{shown(number)}{unit} ({shown(float(low))}–{shown(float(high))})"


def table(
    found: Mapping[tuple[str, str], Figures], *, brief: bool = False, confidence: float = 0.95
) -> list[list[str]]:
    """Heading and lines of cells. A line none of whose figures of ours is known is left out."""
    order = [(model, column) for model in MODELS for column in (ORIGINAL, RANDOM, GROUPED)]
    lines = [["", *(f"{MODELS[model]}, {f'**{column}**' if column == GROUPED else column}" for model, column in order)]]
    for row in ROWS:
        if (brief and not row.brief) or not any(figures.get(row.key) is not None for figures in found.values()):
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
    """McNemar's test in a sentence; `versus` is that of metrics/mobilenet.json."""
    return (
        f"On the {split} test set only MobileNetV2 is right on {versus['only_this_right']} pictures and only the CNN on"
        f" {versus['only_other_right']}; McNemar's exact p = {versus['mcnemar_p']:.2g}."
    )
