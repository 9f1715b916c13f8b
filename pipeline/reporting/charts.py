"""The report's figures as SVG, drawn from the tables under plots/.

Text is kept as text and the ink is a single colour, so the page can show the same figure on light and dark backgrounds.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from face_mask.schema import LABELS, MODELS, TITLES
from pipeline.reporting.inputs import read_json, read_plot

INK = "#1f2328"
COLOURS = {"cnn": "#d1600a", "mobilenet": "#2f7fd6"}  # safe for colour-blind readers, legible on white and black
STYLES = {"cnn": "-", "mobilenet": "--"}


def draw(name: str, panels: int, paint: Callable[..., None], height: float = 3.6) -> str:
    """Draw `panels` axes side by side with `paint(*axes)` and return the SVG. The same input gives the same bytes."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # ids derived from the name: reproducible, and different for each figure of the page
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(1, panels, figsize=(4.3 * panels, height), layout="constrained", squeeze=False)
        paint(*axes[0])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = buffer.getvalue()
    # Ids must be unique in the page, but matplotlib names its groups axes_1, line2d_3, … in every figure.
    svg = re.sub(r'\b(id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
    return re.sub(r"[ \t]+$", "", re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL), flags=re.MULTILINE)


def read_curves(name: str, x: str, y: str) -> dict[str, pd.DataFrame]:
    """Read plots/NAME.csv by model; each curve ends at x = 1, or has no rows if a class of unseen images is missing."""
    undefined = name.startswith("unseen_") and read_json("metrics/unseen_cnn.json").get("roc_auc") is None
    return read_plot(name, {x: float, y: float}, lambda one: one[x].tail(1).tolist(), may_be_empty=undefined)


def line(axes: Axes, table: pd.DataFrame, x: str, y: str, model: str, **options) -> None:
    axes.plot(table[x], table[y], color=COLOURS[model], linestyle=STYLES[model], label=TITLES[model], **options)


def finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def roc_and_pr(prefix: str = "") -> str:
    """ROC and precision-recall curves of both models; `prefix` is "" for the test images, "unseen_" for unseen ones."""

    roc, pr = read_curves(f"{prefix}roc", "fpr", "tpr"), read_curves(f"{prefix}pr", "recall", "precision")

    def paint(left: Axes, right: Axes) -> None:
        for model in MODELS:
            line(left, roc[model], "fpr", "tpr", model)
            line(right, pr[model], "recall", "precision", model)
        corner = left.inset_axes((0.3, 0.3, 0.65, 0.5), xlim=(0, 0.1), ylim=(0.9, 1.002))
        for drawn in left.get_lines():
            corner.plot(*drawn.get_data(), color=drawn.get_color(), linestyle=drawn.get_linestyle())
        corner.set_title("upper left corner, enlarged", size=8)
        corner.tick_params(labelsize=7)
        left.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        finish(left, "ROC curve", "false positive rate", "true positive rate")
        finish(right, "Precision-recall curve", "recall", "precision")

    return draw(f"{prefix}curves".replace("_", "-"), 2, paint)


def reliability() -> str:
    """Accuracy against predicted confidence, and the number of images in each bin."""

    bins = read_plot("reliability", {"confidence": float, "accuracy": float, "n": int}, lambda one: one["n"].sum())

    def paint(left: Axes, right: Axes) -> None:
        left.plot([0.5, 1], [0.5, 1], color=INK, linewidth=0.8, linestyle=":")
        for model, table in bins.items():
            line(left, table, "confidence", "accuracy", model, marker=".")
            line(right, table, "confidence", "n", model, marker=".")
        left.set_ylim(-0.05, 1.05)
        right.set_yscale("log")
        finish(left, "Reliability diagram", "predicted confidence", "accuracy")
        finish(right, "Images per bin", "predicted confidence", "images")

    return draw("reliability", 2, paint)


def confusion() -> str:
    """Confusion matrix of each model, in numbers of test images."""

    images = read_plot("confusion", {"actual": str, "predicted": str}, len)

    def paint(*panels: Axes) -> None:
        for axes, (model, table) in zip(panels, images.items(), strict=True):
            order = list(LABELS[::-1])
            counts = pd.crosstab(table["actual"], table["predicted"]).reindex(index=order, columns=order, fill_value=0)
            strength = counts.to_numpy() / max(1, counts.to_numpy().max())
            colour = matplotlib.colors.LinearSegmentedColormap.from_list(model, [COLOURS[model] + "00", COLOURS[model]])
            axes.imshow(strength * 0.7, cmap=colour, vmin=0, vmax=1)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                axes.text(j, i, f"{counts.iloc[i, j]:,}", ha="center", va="center", size=16)
            names = [name.replace("_", " ") for name in order]
            axes.set_xticks([0, 1], names)
            axes.set_yticks([0, 1], names, rotation=90, va="center")
            axes.set(title=TITLES[model], xlabel="predicted", ylabel="actual")
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)

    return draw("confusion", 2, paint)


def training() -> str:
    """Training loss, validation loss and validation accuracy of both models by epoch."""

    columns = {"epoch": int, "loss": float, "val_loss": float, "val_accuracy": float}
    epochs = read_plot("training", columns, lambda one: one.empty)

    def paint(left: Axes, right: Axes) -> None:
        for model, table in epochs.items():
            line(left, table, "epoch", "val_loss", model)
            left.plot(table["epoch"], table["loss"], color=COLOURS[model], linewidth=0.8, alpha=0.6, linestyle=":")
            line(right, table, "epoch", "val_accuracy", model)
        left.set_yscale("log")
        finish(left, "Validation loss, with changed copies (dotted: training)", "epoch", "loss")
        finish(right, "Validation accuracy, with changed copies", "epoch", "accuracy")

    return draw("training", 2, paint)


def hard_cases() -> str:
    """Error rate of both models with its interval in every hard case; false positives on the left."""
    columns = {"case": str, "label": str, "n": int, "error_rate": float, "low": float, "high": float}
    cases = read_json("metrics/hard_cases_cnn.json")["test"]["cases"]
    expected = [(name, label) for name, case in cases.items() for label in LABELS if f"n_{label}" in case]
    found = read_plot(
        "hard_cases",
        columns,
        lambda one: list(zip(one["case"], one["label"], strict=True)),
        expected,
        may_be_empty=True,
    )
    rows = max(((one["label"] == label).sum() for one in found.values() for label in LABELS), default=0)

    def paint(*panels: Axes) -> None:
        for axes, label in zip(panels, LABELS, strict=True):
            for offset, (model, table) in zip((-0.15, 0.15), found.items(), strict=True):
                table = table[table["label"] == label]
                place = [offset + number for number in range(len(table))]
                axes.hlines(place, table["low"], table["high"], color=COLOURS[model], linewidth=1.2)
                marker = "o" if model == "cnn" else "D"
                axes.plot(table["error_rate"], place, marker, markersize=4, color=COLOURS[model], label=TITLES[model])
                axes.set_yticks(range(len(table)), [name.replace("_", " ") for name in table["case"]])
            axes.invert_yaxis()
            axes.set_xlim(-0.02, 1.02)
        finish(panels[0], "Without a mask", "false positive rate", "")
        finish(panels[1], "With a mask", "1 - recall", "")

    return draw("hard-cases", 2, paint, height=max(2.0, 1.2 + 0.22 * rows))
