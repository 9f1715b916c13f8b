"""Everything that the stage `xai` computes for one model: attributions, their metrics, and the data of the panels."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import memory, params
from pipeline.dataset import unseen
from pipeline.explain import faithfulness, focus, panels, randomization, summary
from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.integrated_gradients import gradients_of, integrated_gradients
from pipeline.models import saving


def explain(
    name: str, chosen: pd.DataFrame, images: np.ndarray, p: params.Params, seconds: dict[str, float]
) -> tuple[pd.DataFrame, list[panels.View]]:
    """Explain one model: its rows of xai.csv, for the sampled images, and its views in the panels, for all images.

    `chosen` is the table from sampling.choose, `images` its images in the same order. The durations of the parts are
    added to `seconds`.
    """
    memory.release()  # of the model before
    model = saving.load(name)
    predicted = (chosen[name] >= p.evaluate.threshold).to_numpy()
    options: dict[str, Any] = {key: getattr(p.xai, key) for key in ("baseline", "completeness", "max_steps")}

    started = time.time()
    found = integrated_gradients(gradients_of(model), images, **options)
    towards = focus.towards_predicted(found.attributions, predicted)
    seconds["attributions"] += time.time() - started

    boxes = chosen[unseen.BOX].to_numpy(float)
    table = chosen[["path", "set", "label"]].assign(
        model=name,
        probability=chosen[name],
        completeness_error=found.completeness_error,
        steps=found.steps,
        face_gain=[focus.gain(one, box) for one, box in zip(towards, boxes, strict=True)],
        lower_face_gain=[focus.gain(one, focus.lower_half(box)) for one, box in zip(towards, boxes, strict=True)],
    )

    memory.release()
    started = time.time()
    sampled = np.flatnonzero(chosen["sampled"])
    areas = faithfulness.areas_table(
        model, images[sampled], towards[sampled], predicted[sampled], steps=p.xai.faithfulness_steps, seed=p.seed
    )
    table.loc[sampled, areas.columns] = areas.to_numpy()
    seconds["faithfulness"] += time.time() - started

    started = time.time()
    # Evenly spaced, because the sample is ordered by set and class.
    subset = sampled[:: max(1, len(sampled) // p.xai.randomization_images)]
    # Not the training's seed: a short training hardly moves the weights from their initial values.
    random_model = randomization.randomized(model, p.seed + 1)
    random = integrated_gradients(gradients_of(random_model), images[subset], **options)
    table.loc[subset, summary.RANKS] = randomization.rank_correlations(found.attributions[subset], random.attributions)
    seconds["randomization"] += time.time() - started

    cams = grad_cam(model, images, np.where(predicted, 1, -1))
    views = [
        panels.View(chosen[name][i], bool(predicted[i]), found.completeness_error[i], found.attributions[i], cams[i])
        for i in range(len(images))
    ]
    return table.iloc[sampled].round(6), views
