"""Where the processor time of a training step goes: of the CNN's step, and of making a batch for it, by operation.

    python -m bench.step_profile [--workspace FOLDER] [--steps 10]

Both run on one thread, because TensorFlow's profiler does not see which operation a second thread works for. Prints
milliseconds per batch, the share of the total, and for convolutions, dense layers and Muon's products the GFLOP/s,
beside those of a large matrix product on one thread.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from bench import limits
from bench.measure import ROOT
from bench.trainers import Training, cnn_training
from face_mask import errors

# What an operation belongs to, by its name and kind; the first that matches.
OF_STEP = {
    "convolution 2, kernel gradient": r"convolution_1_2/.*BackpropFilter",
    "convolution 2, input gradient": r"convolution_1_2/.*BackpropInput",
    "convolution 2, forward": r"convolution_1_2/convolution:",
    "convolution 1, kernel gradient": r"convolution_1/.*BackpropFilter",
    "convolution 1, forward": r"convolution_1/convolution:",
    "dense layers": r"/(dense|probabilities)[^/]*/.*MatMul",
    "Muon, products": r"/muon/.*MatMul",
    "Muon, other": r"/muon/",
    "pooling": r"MaxPool",
    "bias and ReLU": r"Bias|Relu",
}
OF_BATCH = {
    "rotate, zoom, shift, shear, flip": r"ImageProjectiveTransform",
    "reading of images": r"PyFunc",
    "copies of a batch with changed images": r"TensorScatterUpdate",
    "downscaling, JPEG, blur": r"Resize|ScaleAndTranslate|Jpeg|JPEG|AvgPool|TensorList",
}
OP = re.compile(r"[\w/]+:_?[A-Z]\w+$")  # what the profiler calls the run of an operation


def profile(call: Callable[[], object], calls: int) -> Counter[str]:
    """Milliseconds per call of each operation, without those that it starts."""
    for _ in range(3):
        call()
    space = xplane_pb2.XSpace()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(calls):
            call()
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space.ParseFromString(path.read_bytes())
    taken: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            names = plane.event_metadata
            spans = [(e.offset_ps, -e.duration_ps, names[e.metadata_id].name) for e in line.events]
            open_spans: list[tuple[int, str]] = []  # ends and names, the innermost last
            for start, minus, name in sorted(span for span in spans if OP.match(span[2])):
                while open_spans and open_spans[-1][0] <= start:
                    open_spans.pop()
                if open_spans:
                    taken[open_spans[-1][1]] += minus / 1e9 / calls
                taken[name] -= minus / 1e9 / calls
                open_spans.append((start - minus, name))
    return taken


def grouped(taken: Counter[str], groups: dict[str, str]) -> Counter[str]:
    """The milliseconds of each group of operations; those of none are `other`."""
    sums: Counter[str] = Counter()
    for name, milliseconds in taken.items():
        sums[next((group for group, pattern in groups.items() if re.search(pattern, name)), "other")] += milliseconds
    return sums


def flops(training: Training) -> dict[str, float]:
    """Operations of a step in each of the groups that have some."""
    model, n = training.model, training.phases[0].batch_size
    first, second, *dense = (n * count for count in limits.forward_flops(model).values())
    products = sum(limits.muon_flops(one) for one in model.trainable_variables if limits.is_hidden_kernel(one))
    counts = {"dense layers": 3.0 * sum(dense), "Muon, products": float(products)}
    for kind in ("forward", "kernel gradient"):
        counts |= {f"convolution 1, {kind}": first, f"convolution 2, {kind}": second}
    return counts | {"convolution 2, input gradient": second}


def show(title: str, sums: Counter[str], operations: dict[str, float]) -> None:
    """Print a table. Raises RuntimeError if a group with operations has no time: then its pattern fits no name."""
    for group in operations:
        if not sums[group]:
            raise RuntimeError(f"no operation of {group} was found: correct its pattern")
    total = sum(sums.values())
    print(f"\n{title}: {total:.0f} ms\n\n| operation | ms | share | GFLOP/s |\n|---|---:|---:|---:|")
    for group, milliseconds in sums.most_common():
        rate = f"{operations[group] / milliseconds / 1e6:.0f}" if group in operations else ""
        print(f"| {group} | {milliseconds:.1f} | {milliseconds / total:.0%} | {rate} |")


def product_rate(side: int = 2048) -> float:
    """GFLOP/s of a matrix product on one thread, the best of several."""
    matrix = tf.random.uniform((side, side))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)[0]))
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        product().numpy()
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=ROOT)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    training = cnn_training(args.workspace.resolve())
    (phase,) = training.phases
    alone = iter(tf.data.Dataset.from_tensors(phase.next_batch()).cache().repeat())
    of_step = grouped(profile(lambda: training.step_on(alone), args.steps), OF_STEP)
    show(f"a step of the CNN, {phase.batch_size} images", of_step, flops(training))
    print(f"\nmatrix product: {product_rate():.0f} GFLOP/s")
    show("a batch for it", grouped(profile(phase.next_batch, 2 * args.steps), OF_BATCH), {})


if __name__ == "__main__":
    errors.run(main)
