"""Integrated Gradients of ours and of its peers at the same completeness error, on the same images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from bench.measure import ROOT, Options
from bench.peers import looped_gradients as peers
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.explain import integrated_gradients as ours
from pipeline.explain.logits import logits_model
from pipeline.models import saving

IMAGES = 4
MOST_STEPS = 800

LOOP, CAPTUM = "original loop", "Captum's algorithm"


def measures(name: str, options: Options) -> tuple[dict[str, Callable[[], float]], dict[str, list[int]], int]:
    """Return functions that measure images per second, the steps of each for each image, and the peers' limit."""
    options.path(f"models/{name}.weights.h5")
    xai = params.load(ROOT / params.PATH).xai
    os.chdir(options.workspace)  # where the model and the images are
    rows, _ = packing.rows_of(packing.read_manifest(), "val")
    chosen = np.random.default_rng(0).choice(rows, 2 if options.quick else IMAGES, replace=False)
    images = packing.open_images()[np.sort(chosen)]
    most = 50 if options.quick else MOST_STEPS
    timed = options.scaled(peers.FIRST_STEPS)
    model = saving.load(name)
    logits, gradients = logits_model(model), ours.gradients_of(model)
    captum = peers.batched(logits, "gausslegendre")
    # The loop's number of steps is found by a faster function with the same points.
    rules = {LOOP: peers.batched(logits, "trapezoid"), CAPTUM: captum}
    ends = [peers.margin(logits(np.stack([0 * image, image]).astype(np.float32))).numpy() for image in images]
    steps = {
        peer: [
            peers.steps_needed(of, image, end[1] - end[0], xai.completeness, most)
            for image, end in zip(images, ends, strict=True)
        ]
        for peer, of in rules.items()
    }

    attribute_ours = partial(
        ours.integrated_gradients,
        gradients,
        images,
        baseline="black",
        completeness=xai.completeness,
        max_steps=xai.max_steps,
    )
    steps = {"ours": attribute_ours().steps.tolist(), **steps}

    def run_ours() -> float:
        started = time.perf_counter()
        attribute_ours()
        return len(images) / (time.perf_counter() - started)

    def run_peer(attribute: Callable[[np.ndarray, int], np.ndarray], counts: list[int]) -> float:
        started = time.perf_counter()
        attribute(images[0], timed)
        per_step = (time.perf_counter() - started) / timed
        return 1 / (per_step * float(np.mean(counts)))

    def loop(image: np.ndarray, count: int) -> np.ndarray:
        return peers.loop(logits, image, count)

    return (
        {
            "ours": run_ours,
            LOOP: lambda: run_peer(loop, steps[LOOP]),
            CAPTUM: lambda: run_peer(captum, steps[CAPTUM]),
        },
        steps,
        most,
    )
