"""Integrated Gradients: the original notebooks' loop against our implementation, on the same images and models.

    python -m bench.integrated_gradients [--images 32] [--loop-images 4] [--baseline black]

The loop explains the softmax output, one image at a time, in 50 steps with one eager GradientTape each. Ours runs as in
the stage `xai`, on validation images. Needs data/split/ and models/. Completeness errors are relative to the difference
that the attributions must add up to: of P(with_mask) for the loop, of the margin between the logits for ours. For
comparison, the loop's completeness errors for the margin are shown as well.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from pipeline.core import params
from pipeline.dataset import packing
from pipeline.explain import integrated_gradients as ours
from pipeline.explain.baselines import baselines
from pipeline.explain.logits import logits_model
from pipeline.models import saving

STEPS = 50


def loop(model: keras.Model, image: np.ndarray, start: np.ndarray, *, margin: bool) -> tuple[np.ndarray, float]:
    """Compute attributions (s, s, 3) as the original does, from STEPS + 1 points, and their completeness error."""
    pixels, baseline = tf.constant(image, tf.float32), tf.constant(start, tf.float32)

    def score(outputs):
        return outputs[:, 1] - outputs[:, 0] if margin else outputs[:, 1]

    gradients = []
    for alpha in np.linspace(0, 1, STEPS + 1):
        point = (baseline + alpha * (pixels - baseline))[None]
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = score(model(point))
        gradients.append(tape.gradient(value, point)[0])
    mean = tf.reduce_mean(tf.stack(gradients), axis=0)
    attribution = ((pixels - baseline) * mean).numpy()
    ends = score(model(tf.stack([baseline, pixels]))).numpy()
    difference = ends[1] - ends[0]
    return attribution, abs(attribution.sum() - difference) / max(abs(difference), 1e-6)


def run_loop(model: keras.Model, images: np.ndarray, baseline: str, *, margin: bool) -> tuple[list[float], list[float]]:
    """Return seconds and completeness errors of the loop for each image."""
    seconds, errors = [], []
    for image in images:
        started = time.perf_counter()
        errors.append(loop(model, image, baselines(baseline, image)[0], margin=margin)[1])
        seconds.append(time.perf_counter() - started)
    return seconds, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--loop-images", type=int, default=4, help="number of images for the loop, which is slow")
    parser.add_argument("--baseline", default="black", help="of both; the original uses black")
    args = parser.parse_args()
    xai = params.load().xai
    rows, _ = packing.rows_of(packing.read_manifest(), "val")
    chosen = np.sort(np.random.default_rng(0).choice(rows, args.images, replace=False))
    images = packing.open_images()[chosen]
    few = images[: args.loop_images]

    for name in ("cnn", "mobilenet"):
        model = saving.load(name)
        gradients = ours.gradients_of(model)
        started = time.perf_counter()
        ours.integrated_gradients(gradients, images[:1], baseline=args.baseline)
        tracing = time.perf_counter() - started
        run_loop(model, few[:1], args.baseline, margin=False)  # its first call is also slower

        # Half of the loop's images before ours and half after, so that load on the machine slows both.
        before, errors_before = run_loop(model, few[::2], args.baseline, margin=False)
        started = time.perf_counter()
        found = ours.integrated_gradients(
            gradients, images, baseline=args.baseline, completeness=xai.completeness, max_steps=xai.max_steps
        )
        took = (time.perf_counter() - started) / args.images
        after, errors_after = run_loop(model, few[1::2], args.baseline, margin=False)
        looped = float(np.mean(before + after))
        print(
            f"{name}: loop {looped:.3f} s per image, ours {took:.3f} s with {found.steps.mean():.0f} steps (first call"
            f" {tracing:.1f} s): {looped / took:.1f} times as fast"
        )
        errors = {
            "loop": errors_before + errors_after,
            "loop, margin": run_loop(logits_model(model), few, args.baseline, margin=True)[1],
            "ours": found.completeness_error.tolist(),
        }
        for which, values in errors.items():
            print(f"    completeness error, {which}: median {np.median(values):.2%}, maximum {np.max(values):.2%}")


if __name__ == "__main__":
    main()
