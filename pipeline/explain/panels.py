"""Panels: one row per image with the image and each model's heat map, overlay and Grad-CAM.

Heat map and overlay show the same attribution of the margin, summed over channels, smoothed by a Gaussian of 1/64 of
the side (2 pixels of 128) and scaled to its 99th percentile: red is evidence for with_mask, blue for without_mask.
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

from face_mask import files
from face_mask.schema import LABELS, TITLES

SMOOTHING = 1 / 64
PERCENTILE = 99
HEADING: dict[str, Any] = {"fontsize": 7.5, "loc": "left", "pad": 2.5}
NOTE = (
    "Heat map and overlay: Integrated Gradients of the margin between the logits, smoothed; red is evidence for"
    " with_mask, blue for without_mask.\nGrad-CAM explains the predicted class. A red heading marks an incorrect"
    " prediction."
)


@dataclass
class View:
    """One model's prediction and explanation of one image."""

    probability: float  # P(with_mask)
    predicted: bool  # whether with_mask is predicted
    completeness_error: float
    attribution: np.ndarray  # (s, s, 3), of the margin
    cam: np.ndarray  # (s, s), 0…1


def panel_title(panel: str) -> str:
    """Return the title of a panel named SET_LABEL_OUTCOME by sampling.choose."""
    where, _, rest = panel.partition("_")
    label, _, outcome = rest.rpartition("_")
    correct = "both models correct" if outcome == "correct" else "at least one model incorrect"
    return f"{where.capitalize()} images {label.replace('_', ' ')}, {correct}"


def scaled(attribution: np.ndarray) -> np.ndarray:
    """Convert (s, s, 3) attributions to the (s, s) map in -1…1 that is shown; 0 is no attribution."""
    smooth = gaussian_filter(attribution.sum(axis=-1), SMOOTHING * len(attribution))
    limit = np.percentile(np.abs(smooth), PERCENTILE)
    return np.clip(smooth / limit, -1, 1) if limit else np.zeros_like(smooth)


def heat_map(shown: np.ndarray) -> np.ndarray:
    """Colour a map (s, s) in -1…1 from blue over white (0) to red: (s, s, 3) in 0…1."""
    return matplotlib.colormaps["bwr"]((shown + 1) / 2)[..., :3]


def overlay(image: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Blend the map into the greyscale image (s, s, 3) uint8, with its strength as opacity: (s, s, 3) in 0…1."""
    opacity = np.abs(shown)[..., None]
    return np.clip((1 - opacity) * (0.3 + 0.7 * grey(image)) + opacity * heat_map(np.sign(shown)), 0, 1)


def cam_overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Blend a Grad-CAM map (s, s) in 0…1 with the greyscale image: (s, s, 3) in 0…1."""
    return (grey(image) + matplotlib.colormaps["viridis"](cam)[..., :3]) / 2


def grey(image: np.ndarray) -> np.ndarray:
    """Convert (s, s, 3) uint8 to greyscale, (s, s, 1) in 0…1."""
    return image.mean(axis=-1, keepdims=True) / 255


def heading(name: str, view: View) -> str:
    """State the model, the predicted class with its probability, and the completeness error."""
    probability = view.probability if view.predicted else 1 - view.probability
    percent = min(np.floor(probability * 1000) / 10, 99.9)  # truncated, not rounded: 100 % would claim too much
    error = 100 * view.completeness_error
    return f"{TITLES[name]}: {LABELS[view.predicted]} {percent:.1f} %, completeness error {error:.1f} %"


def draw(
    path: Path, title: str, images: Sequence[np.ndarray], labels: Sequence[str], views: Mapping[str, Sequence[View]]
) -> None:
    """Write one PNG with a row per image (s, s, 3) uint8; `views` has each model's views in the order of the images."""
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
            for j, (part, drawing) in enumerate(parts.items()):
                axes = figure.add_subplot(grid[row, 1 + 3 * i + j])
                axes.imshow(drawing, interpolation="nearest")
                if j == 0:
                    colour = "black" if LABELS[view.predicted] == label else "#c00000"
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
    with files.replacing(path) as aside:
        # 256 colours, dithered, halve the file size.
        drawn.quantize(256, palette=drawn.quantize(256)).save(aside, optimize=True)
