"""Stage `xai`: explanations of both models' predictions on test and unseen images, and metrics of their reliability.

    python -m pipeline.xai

Reads data/split/, data/unseen/, both predictions.csv and models/; writes data/xai.csv (a row per image and model), from
which metrics/xai_cnn.json and metrics/xai_mobilenet.json are computed, and the panels under plots/xai/.
Parameters: seed, detector.name, evaluate.threshold, evaluate.confidence, xai.*.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from face_mask import detector, errors, files
from face_mask.schema import MODELS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.core.values import flatten
from pipeline.dataset import packing, unseen
from pipeline.explain import focus, one_model, panels, sampling, summary
from pipeline.scoring.metrics import rounded
from pipeline.training import fit

TABLE = Path("data/xai.csv")
PLOTS = Path("plots/xai")


def choose_images(p: params.Params) -> tuple[pd.DataFrame, np.ndarray]:
    """Choose the images to explain: the table of sampling.choose with every face's box, and (n, s, s, 3) uint8."""
    tables = [sampling.read_set(name, p.evaluate.threshold) for name in sampling.SOURCES]
    chosen = sampling.choose(pd.concat(tables), p.xai.images, p.seed)
    arrays = {name: packing.open_images(source[0]) for name, source in sampling.SOURCES.items()}
    images = np.stack([arrays[name][row] for name, row in zip(chosen["set"], chosen["row"], strict=True)])
    side = images.shape[1]
    for i in np.flatnonzero(chosen[unseen.BOX].isna().any(axis=1)):
        detections = detector.detect(images[i], name=p.detector.name)
        if len(detections):
            chosen.loc[i, unseen.BOX] = detections[0, :4] / side
    return chosen, images


def draw_panels(chosen: pd.DataFrame, images: np.ndarray, views: dict[str, list[panels.View]]) -> list[Path]:
    """Draw one PNG per set, class and outcome under plots/xai/; others, of an earlier run, are removed at the end."""
    paths = []
    for name, part in chosen[chosen["panel"] != ""].groupby("panel"):
        path = PLOTS / f"{name}.png"
        of_models = {model: [of_model[i] for i in part.index] for model, of_model in views.items()}
        panels.draw(path, panels.panel_title(str(name)), list(images[part.index]), part["label"].to_list(), of_models)
        paths.append(path)
    for stale in {*PLOTS.glob("*.png")} - {*paths}:
        stale.unlink()
    return paths


def main() -> None:
    with tracking.stage("xai") as run:
        p = params.load()
        fit.make_repeatable(p.seed)
        seconds = dict.fromkeys(("attributions", "faithfulness", "randomization"), 0.0)
        chosen, images = choose_images(p)

        tables, views = {}, {}
        for name in MODELS:
            tables[name], views[name] = one_model.explain(name, chosen, images, p, seconds)
        files.write_csv(TABLE, pd.concat(tables.values()))
        for name, other in (MODELS, MODELS[::-1]):
            path = Path("metrics") / f"xai_{name}.json"
            result = rounded(summary.model_metrics(tables[name], tables[other], p.evaluate.confidence, p.seed))
            files.write_json(path, result)
            run.log_model(name, {"xai": result}, artifacts=[path])
            run.report(f"{TITLES[name]} {summary.in_words(result)}")
            run.report(f"{TITLES[name]} insight: {focus.insight(flatten(result, 'xai.'))}")
        plots = draw_panels(chosen, images, views)

        run.log({f"seconds.{part}": taken for part, taken in seconds.items()}, artifacts=[TABLE, *plots])
        parts = ", ".join(f"{part} {taken:.0f} s" for part, taken in seconds.items())
        run.report(f"{len(plots)} panels in {PLOTS}/ ({parts})")


if __name__ == "__main__":
    errors.run(main)
