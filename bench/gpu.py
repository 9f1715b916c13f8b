"""Time training steps on a GPU: on a waiting batch, and with the input pipeline beside it.

    python -m bench.gpu [--workspace FOLDER] [--out FILE]

For both models, both precisions and two batch sizes, prints one JSON line with the median seconds of a step of each
kind and `supplied`, the first divided by the second: the fraction of the time for which the GPU does not wait for the
input pipeline. That is not its utilization.
Before them, the rate of the matrix product in both precisions. The workspace is one in which `dvc repro` has run.
docs/training_devices.md has the figures of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from bench import trainers
from bench.measure import ROOT
from face_mask import cores, errors
from face_mask.errors import UserError
from pipeline.core import params
from pipeline.models import cnn, mobilenet
from pipeline.training import batches, fit, optimizer

REPEATS, STEPS = 5, 30
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def seconds_each(call: Callable[[], tf.Tensor], count: int = STEPS) -> float:
    """Median over REPEATS of the seconds of one of `count` calls, of which only the last is waited for."""
    medians = []
    for _ in range(REPEATS + 1):  # the first one compiles
        started = time.perf_counter()
        for _ in range(count):
            last = call()
        last.numpy()
        medians.append((time.perf_counter() - started) / count)
    return statistics.median(medians[1:])


def product_rate(dtype: str, n: int = 8192) -> float:
    """TFLOP/s of the product of two (n, n) matrices."""
    a = tf.cast(tf.random.stateless_normal((n, n), (0, 1)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.cast(tf.matmul(a, a)[:1], tf.float32)))
    return 2 * n**3 / seconds_each(product, 10) / 1e12


def of_model(name: str, p: params.Params, precision: Precision, batch_size: int) -> tuple[keras.Model, tf.data.Dataset]:
    """A compiled model, as the stage trains it, and its batches."""
    own = p.cnn if name == "cnn" else p.mobilenet
    schedule = optimizer.cosine_schedule(1e-4, 100_000)
    with fit.computing_in(precision):
        if name == "cnn":
            model, make = cnn.for_training(cnn.build(p.image_size, p.model.dropout)), optimizer.muon
        else:
            backbone = mobilenet.starting_backbone(p.image_size)
            head = mobilenet.build_head(p.model.dropout)
            model, make = mobilenet.assemble(backbone, head, p.image_size), optimizer.adamw
            mobilenet.unfreeze(backbone, p.mobilenet.fine_tune_blocks)
    made = make(schedule, weight_decay=own.weight_decay, ema_momentum=own.ema_momentum, precision=precision)
    trainers.compile_model(model, made, own.label_smoothing)
    model.make_train_function()
    augmented = batches.training_batches(
        batches.read("train"),
        batch_size=batch_size,
        seed=p.seed,
        changes=p.augment.model_dump(exclude={"incorrect_as"}) | {"downscale_prob": own.downscale_prob},
        counterfactual_prob=own.counterfactual_prob,
    )
    return model, fit.without_autotune(augmented)


def of_steps(name: str, p: params.Params, precision: Precision, batch_size: int) -> dict:
    """Seconds of a step on a waiting batch, and with the input pipeline beside it."""
    model, dataset = of_model(name, p, precision, batch_size)
    made = iter(dataset)
    waiting = iter(tf.data.Dataset.from_tensors(next(made)).repeat().prefetch(4))
    alone = seconds_each(lambda: model.train_function(waiting)["loss"])
    beside = seconds_each(lambda: model.train_function(made)["loss"])
    return {
        "model": name,
        "batch": batch_size,
        "precision": precision,
        "step": alone,
        "step with input": beside,
        "supplied": alone / beside,
        "images/s": batch_size / beside,
    }


def rows(p: params.Params) -> Iterator[dict]:
    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    yield {"device": details.get("device_name", "processor"), "cores": cores.available(), "tensorflow": tf.__version__}
    for dtype in PRECISIONS:
        yield {"matrix product": dtype, "TFLOP/s": product_rate(dtype)}
    for name, usual in (("cnn", p.cnn.batch_size), ("mobilenet", p.mobilenet.batch_size)):
        for batch_size in (usual, 512):
            for precision in PRECISIONS:
                yield of_steps(name, p, precision, batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=ROOT)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if not (args.workspace / "data/split/images.npy").exists():
        raise UserError(f"{args.workspace} has no data/split/images.npy: run `dvc repro` there")
    p = params.load(ROOT / params.PATH)
    os.chdir(args.workspace)
    fit.make_repeatable(p.seed)
    lines = []
    for one in rows(p):
        lines.append(json.dumps(one))
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    errors.run(main)
