"""Stage `xai`: why both models decide as they do, on test and unseen pictures, and how far to believe it.

    python -m pipeline.xai

Reads data/split/, data/unseen/, both predictions.csv and models/; writes data/xai.csv (a row a picture and model),
from which metrics/xai_cnn.json and metrics/xai_mobilenet.json are computed, and the panels under plots/xai/.
Parameters: seed, evaluate.threshold, evaluate.confidence, xai.*.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline import atomic, errors, params, tracking
from pipeline.data import packing, unseen
from pipeline.explain import faithfulness, figures, focus, panels, randomization, sampling
from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.integrated_gradients import gradients_of, integrated_gradients
from pipeline.models import saving
from pipeline.models.predicting import MODELS
from pipeline.scoring.metrics import rounded
from pipeline.serve import face_detection

TABLE = Path("data/xai.csv")
PLOTS = Path("plots/xai")


def chosen_pictures(p: params.Params) -> tuple[pd.DataFrame, np.ndarray]:
    """The pictures to explain, see sampling.choose, with the box of each face, and their pixels (n, s, s, 3) uint8."""
    tables = [sampling.read_pictures(name, p.evaluate.threshold) for name in sampling.SOURCES]
    pictures = sampling.choose(pd.concat(tables), p.xai.pictures, p.seed)
    arrays = {name: packing.open_images(source[0]) for name, source in sampling.SOURCES.items()}
    images = np.stack([arrays[name][row] for name, row in zip(pictures["set"], pictures["row"], strict=True)])
    side = images.shape[1]
    for i in np.flatnonzero(pictures[unseen.BOX].isna().any(axis=1)):
        found = face_detection.detect(images[i])
        if len(found):
            pictures.loc[i, unseen.BOX] = found[0, :4] / side
    return pictures, images


def explain(
    name: str, pictures: pd.DataFrame, images: np.ndarray, p: params.Params, seconds: dict[str, float]
) -> tuple[pd.DataFrame, list[panels.View]]:
    """One model: its rows of xai.csv, of the sampled pictures, and what panels show of it, of every picture.

    `seconds` is told how long each part took.
    """
    model = saving.load(name)
    called = (pictures[name] >= p.evaluate.threshold).to_numpy()
    options: dict[str, Any] = {key: getattr(p.xai, key) for key in ("baseline", "completeness", "max_steps")}

    started = time.time()
    found = integrated_gradients(gradients_of(model), images, **options)
    towards = focus.towards_called(found.attributions, called)
    seconds["attributions"] += time.time() - started

    boxes = pictures[unseen.BOX].to_numpy(float)
    table = pictures[["path", "set", "label"]].assign(
        model=name,
        probability=pictures[name],
        completeness_error=found.completeness_error,
        steps=found.steps,
        face_gain=[focus.gain(one, box) for one, box in zip(towards, boxes, strict=True)],
        lower_face_gain=[focus.gain(one, focus.lower_half(box)) for one, box in zip(towards, boxes, strict=True)],
    )

    started = time.time()
    sampled = np.flatnonzero(pictures["sampled"])
    areas = faithfulness.table_of(
        model, images[sampled], towards[sampled], called[sampled], steps=p.xai.faithfulness_steps, seed=p.seed
    )
    table.loc[sampled, areas.columns] = areas.to_numpy()
    seconds["faithfulness"] += time.time() - started

    started = time.time()
    # Evenly from the sample, which stands in the order of sets and classes.
    some = sampled[:: max(1, len(sampled) // p.xai.randomization_pictures)]
    # Not the seed of the training, whose first weights a short training leaves much as they were.
    other = randomization.randomized(model, p.seed + 1)
    others = integrated_gradients(gradients_of(other), images[some], **options)
    table.loc[some, figures.RANKS] = randomization.rank_correlations(found.attributions[some], others.attributions)
    seconds["randomization"] += time.time() - started

    cams = grad_cam(model, images, np.where(called, 1, -1))
    views = [
        panels.View(pictures[name][i], bool(called[i]), found.completeness_error[i], found.attributions[i], cams[i])
        for i in range(len(images))
    ]
    return table.iloc[sampled].round(6), views


def draw_panels(pictures: pd.DataFrame, images: np.ndarray, views: dict[str, list[panels.View]]) -> list[Path]:
    """One PNG a set, class and outcome under plots/xai/; those of an earlier run are removed."""
    for stale in PLOTS.glob("*.png"):
        stale.unlink()
    paths = []
    for name, part in pictures[pictures["panel"] != ""].groupby("panel"):
        path = PLOTS / f"{name}.png"
        of_models = {model: [of_model[i] for i in part.index] for model, of_model in views.items()}
        panels.draw(path, panels.title(str(name)), list(images[part.index]), part["label"].to_list(), of_models)
        paths.append(path)
    return paths


def main() -> None:
    started = time.time()
    p = params.load()
    tracking.check()
    keras.utils.set_random_seed(p.seed)
    tf.config.experimental.enable_op_determinism()
    seconds = dict.fromkeys(("attributions", "faithfulness", "randomization"), 0.0)
    pictures, images = chosen_pictures(p)

    tables, views = {}, {}
    for name in MODELS:
        tables[name], views[name] = explain(name, pictures, images, p, seconds)
    table = pd.concat(tables.values())
    atomic.write_text(TABLE, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    results = {}
    for name, other in (MODELS, MODELS[::-1]):
        results[name] = rounded(figures.model_figures(tables[name], tables[other], p.evaluate.confidence, p.seed))
        atomic.write_json(Path("metrics") / f"xai_{name}.json", results[name])
    plots = draw_panels(pictures, images, views)

    for name in MODELS:
        tracking.log_model_metrics(
            name,
            digest=tracking.weights_digest(saving.weights_path(name)),
            metrics=tracking.flatten(results[name], "xai."),
            artifacts=[Path("metrics") / f"xai_{name}.json"],
        )
    tracking.log_stage(
        "xai",
        params={"seed": p.seed} | tracking.flatten({"xai": p.xai.model_dump()}),
        metrics={f"seconds.{part}": took for part, took in seconds.items()},
        artifacts=[TABLE, *plots],
        started=started,
    )
    for name in MODELS:
        print(f"xai: {name} {figures.in_words(results[name])}")
        print(f"xai: where {name} looks: {focus.insight(tracking.flatten(results[name], 'xai.'))}")
    parts = ", ".join(f"{part} {took:.0f}" for part, took in seconds.items())
    print(f"xai: {len(plots)} panels in {PLOTS}/; {time.time() - started:.0f} s ({parts})")


if __name__ == "__main__":
    errors.run(main)
