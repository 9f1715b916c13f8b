"""Panels: a picture, then of each model heat map, overlay and Grad-CAM, one row a picture.

Heat map and overlay show the same attribution of the margin, its channels added up, smoothed by a Gaussian of 1/64 of
the side (2 pixels of 128) and scaled to its 99th percentile: red speaks for with_mask, blue for without_mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline import atomic
from pipeline.data.packing import LABELS

TITLES = {"cnn": "CNN", "mobilenet": "MobileNetV2"}
SMOOTHING = 1 / 64
PERCENTILE = 99
HEADING: dict[str, Any] = {"fontsize": 7.5, "loc": "left", "pad": 2.5}
NOTE = (
    "Integrated Gradients of the margin between the logits, smoothed: red speaks for with_mask, blue for without_mask;"
    " heat map and overlay are the same.\nGrad-CAM is for the class that was called. In red: the model is wrong."
)


@dataclass
class View:
    """One model's view of one picture."""

    probability: float  # P(with_mask)
    called: bool  # with_mask
    completeness_error: float
    attribution: np.ndarray  # (s, s, 3), of the margin
    cam: np.ndarray  # (s, s), 0…1


def title(panel: str) -> str:
    """The heading of a panel that is named SET_LABEL_OUTCOME, as sampling.choose does."""
    where, _, rest = panel.partition("_")
    label, _, outcome = rest.rpartition("_")
    by_whom = "both models are right" if outcome == "right" else "at least one model is wrong"
    return f"{where.capitalize()} pictures {label}, {by_whom}"


def scaled(attribution: np.ndarray) -> np.ndarray:
    """(s, s, 3) attributions to the (s, s) map in -1…1 that is shown; 0 is no attribution."""
    smooth = gaussian_filter(attribution.sum(axis=-1), SMOOTHING * len(attribution))
    limit = np.percentile(np.abs(smooth), PERCENTILE)
    return np.clip(smooth / limit, -1, 1) if limit else np.zeros_like(smooth)


def heat_map(shown: np.ndarray) -> np.ndarray:
    """A map (s, s) in -1…1 in colours, (s, s, 3) in 0…1: blue, white for 0, red."""
    return matplotlib.colormaps["bwr"]((shown + 1) / 2)[..., :3]


def overlay(image: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The same over the grey picture (s, s, 3) uint8, the more opaque the stronger."""
    opacity = np.abs(shown)[..., None]
    return np.clip((1 - opacity) * (0.3 + 0.7 * grey(image)) + opacity * heat_map(np.sign(shown)), 0, 1)


def cam_overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """A Grad-CAM map (s, s) in 0…1 over the grey picture, (s, s, 3) in 0…1."""
    return (grey(image) + matplotlib.colormaps["viridis"](cam)[..., :3]) / 2


def grey(image: np.ndarray) -> np.ndarray:
    """(s, s, 3) uint8 to (s, s, 1) in 0…1."""
    return image.mean(axis=-1, keepdims=True) / 255


def heading(name: str, view: View) -> str:
    """Model, called class, its probability and the completeness error."""
    probability = view.probability if view.called else 1 - view.probability
    percent = min(np.floor(probability * 1000) / 10, 99.9)  # cut, not rounded: 100 % would claim too much
    error = view.completeness_error
    return f"{TITLES[name]}: {LABELS[view.called]} {percent:.1f} %, completeness error {error:.1%}"


def draw(
    path: Path, title: str, images: Sequence[np.ndarray], labels: Sequence[str], views: Mapping[str, Sequence[View]]
) -> None:
    """Write one PNG with a row a picture (s, s, 3) uint8; `views` holds each model's, in the pictures' order."""
    columns = 1 + 3 * len(views)
    figure = Figure(figsize=(1.32 * columns, 1.52 * len(images) + 0.9), dpi=88)
    grid = figure.add_gridspec(
        len(images), columns, left=0.01, right=0.99, wspace=0.05, hspace=0.22,
        top=1 - 0.52 / figure.get_figheight(), bottom=0.57 / figure.get_figheight(),
    )  # fmt: skip
    figure.text(0.01, 1 - 0.06 / figure.get_figheight(), title, fontsize=10, fontweight="bold", va="top")
    figure.text(0.01, 0.05 / figure.get_figheight(), NOTE, fontsize=7, va="bottom", color="0.35")
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        first = figure.add_subplot(grid[row, 0])
        first.imshow(image)
        first.set_title(label, **HEADING)
        for i, (name, of_model) in enumerate(views.items()):
            view = of_model[row]
            shown = scaled(view.attribution)
            parts = {
                "heat map": heat_map(shown),
                "overlay": overlay(image, shown),
                "Grad-CAM": cam_overlay(image, view.cam),
            }
            for j, (part, picture) in enumerate(parts.items()):
                axes = figure.add_subplot(grid[row, 1 + 3 * i + j])
                axes.imshow(picture, interpolation="nearest")
                if j == 0:
                    colour = "black" if LABELS[view.called] == label else "#c00000"
                    axes.set_title(heading(name, view), color=colour, **HEADING)
                if row == len(images) - 1:
                    axes.set_xlabel(part, fontsize=7.5, labelpad=2)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set(linewidth=0.4, color="0.6")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with atomic.replacing(path) as aside:
        # 256 colours, dithered, make half of the size.
        drawn.quantize(256, palette=drawn.quantize(256)).save(aside, optimize=True)
