"""Benchmarks of training: the input pipeline, steps, time to an accuracy, memory, explanations, the machine's limit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from bench import curves, training_data
from bench.measure import Options, Row, Worker, benchmark, in_fresh_process, interleave, peer_interpreter, row
from face_mask.schema import TITLES as MODEL_TITLES

TITLES = {
    "keras_cnn": "Keras layers, images decoded every epoch",
    "keras_cnn_cached": "Keras layers, images in memory",
    "original_cnn": "original recipe",
    "torch_cnn": "PyTorch, images decoded every epoch",
    "torch_cnn_cached": "PyTorch, images in memory",
    "keras_mobilenet": "Keras, images in memory",
    "original_mobilenet": "original recipe",
    "torch_mobilenet": "PyTorch, images in memory",
}


@contextmanager
def peers_folder(options: Options) -> Iterator[Path]:
    """A temporary folder with the data set as peers read it."""
    peer_interpreter()
    with tempfile.TemporaryDirectory() as folder:
        yield training_data.prepare(options, Path(folder))


def worker(name: str, what: str, folder: Path, *arguments: object) -> Worker:
    python, _, module, *rest = curves.command(name, what, folder, *arguments)
    return Worker(module, *rest, peer_python=python == str(peer_interpreter()))


def warm(options: Options) -> tuple[object, ...]:
    return ("--warm", 1) if options.quick else ()


def workspace(options: Options) -> Path:
    options.path("data/split/images.npy")
    return options.workspace.resolve()


@benchmark("augmentation")
def augmentation(options: Options) -> list[Row]:
    names = ("keras_cnn", "keras_cnn_cached", "original_cnn", "torch_cnn", "torch_cnn_cached")
    count = ("--count", options.scaled(20, 4))
    with peers_folder(options) as folder, ExitStack() as stack:
        workers = {"ours": worker("ours_cnn", "batches", workspace(options), *count)}
        workers |= {TITLES[name]: worker(name, "batches", folder, *count) for name in names}
        for one in workers.values():
            stack.enter_context(one)
        measured = interleave(workers, options.repeats(5))
    values = {name: [one["images_per_second"] for one in listed] for name, listed in measured.items()}
    return [
        row(
            "augmented training images, input pipeline alone",
            "images/s",
            values,
            goal=5,
            how="Batches of 64 images of 128×128 pixels: flip, rotation, zoom, shift, shear, light, colour, blur,"
            " occlusion. Ours also downscales and JPEG-compresses a part of them and mixes in changed copies; the"
            " original recipe has no blur and no occlusion. Waiting batches are taken out before the timing.",
        )
    ]


@benchmark("training_cnn")
def training_cnn(options: Options) -> list[Row]:
    known = curves.read()
    names = ("keras_cnn_cached", "original_cnn", "torch_cnn_cached")
    count = ("--count", options.scaled(8, 2), *warm(options))
    with peers_folder(options) as folder, ExitStack() as stack:
        workers = {"ours_cnn": worker("ours_cnn", "steps", workspace(options), *count)}
        workers |= {name: worker(name, "steps", folder, *count) for name in names}
        for one in workers.values():
            stack.enter_context(one)
        measured = interleave(workers, options.repeats(5))
    of_step = {name: [one["seconds"] for one in listed] for name, listed in measured.items()}
    rows = [
        row(
            "training step of the CNN, 64 augmented images",
            "s",
            {"ours" if name == "ours_cnn" else TITLES[name]: values for name, values in of_step.items()},
            higher_is_better=False,
            how="Median of consecutive steps with the input pipeline running beside them.",
        )
    ]
    of_phase = {name: {"train": values} for name, values in of_step.items()}
    return rows + to_accuracy("seconds to 95.5 % validation accuracy, CNN", "ours_cnn", of_phase, known, goal=3)


@benchmark("training_mobilenet")
def training_mobilenet(options: Options) -> list[Row]:
    known, phases = curves.read(), ("features", "head", "fine-tune")
    names = ("keras_mobilenet", "original_mobilenet", "torch_mobilenet")
    count = ("--count", options.scaled(8, 2), *warm(options))
    with peers_folder(options) as folder, ExitStack() as stack:
        workers = {
            phase: worker("ours_mobilenet", "steps", workspace(options), *count, "--phase", phase) for phase in phases
        }
        workers |= {name: worker(name, "steps", folder, *count) for name in names}
        for one in workers.values():
            stack.enter_context(one)
        measured = interleave(workers, options.repeats(5))
    of_step = {name: [one["seconds"] for one in listed] for name, listed in measured.items()}
    of_phase = {name: {"train": of_step[name]} for name in names}
    of_phase["ours_mobilenet"] = {phase: of_step[phase] for phase in phases}
    rows = [
        row(
            "training step of MobileNetV2's head, 32 images",
            "s",
            {"ours": of_step["head"], **{TITLES[name]: of_step[name] for name in names}},
            higher_is_better=False,
            how="Ours is a step on features of the frozen backbone, which are computed once; the peers run the backbone"
            " on every batch of augmented images.",
        )
    ]
    title = "seconds from ImageNet weights to 99 % validation accuracy, MobileNetV2"
    return rows + to_accuracy(title, "ours_mobilenet", of_phase, known, goal=10)


def to_accuracy(
    title: str, ours: str, of_phase: dict[str, dict[str, list[float]]], known: dict, *, goal: float
) -> list[Row]:
    """The row of steps in the committed curves × seconds per step measured now; none if there is no curve of ours."""
    if ours not in known or not curves.reached(known[ours]):
        print(f"{title}: left out, there is no curve in bench/curves.json: python -m bench.curves {ours}")
        return []
    values, how, notes = {}, [], []
    for name, phases in of_phase.items():
        if name not in known:
            notes.append(f"There is no learning curve of {TITLES[name]}.")
            continue
        counts = curves.steps(known[name])
        shown = "ours" if name == ours else TITLES[name]
        values[shown] = list(np.sum([np.multiply(phases[phase], n) for phase, n in counts.items()], axis=0))
        how.append(f"{shown} {' + '.join(f'{n:,}' for n in counts.values())}")
        if not curves.reached(known[name]):
            best = max(epoch["val_accuracy"] or 0 for epoch in known[name]["epochs"])
            notes.append(
                f"{shown} did not reach it in {sum(counts.values()):,} steps (best: {100 * best:.1f} %):"
                " its value is a lower bound."
            )
    text = (
        "Steps of one whole run of each, in bench/curves.json, times the step time measured here, in turn:"
        f" {', '.join(how)} steps. The interval covers the step time, not the chance in that one run. Without starting,"
        " reading the data set and validation."
    )
    return [row(title, "s", values, higher_is_better=False, goal=goal, how=text, note=" ".join(notes))]


@benchmark("training_memory")
def training_memory(options: Options) -> list[Row]:
    names = ("keras_cnn", "keras_cnn_cached", "original_cnn", "torch_cnn", "torch_cnn_cached")
    count = ("--count", options.scaled(95, 2))
    values = {}
    with peers_folder(options) as folder:
        for name in ("ours_cnn", *names):
            of = workspace(options) if name == "ours_cnn" else folder
            _, peak, _ = in_fresh_process(curves.command(name, "memory", of, *count))
            values["ours" if name == "ours_cnn" else TITLES[name]] = [peak]
    return [
        row(
            "peak memory of training the CNN",
            "MB",
            values,
            higher_is_better=False,
            goal=3,
            how="Peak resident memory of a process that makes the first 95 steps, which is more than an epoch; of"
            " PyTorch without the two processes of its DataLoader. Ours includes pages of the memory-mapped images.",
        )
    ]


@benchmark("integrated_gradients")
def integrated_gradients(options: Options) -> list[Row]:
    from bench import explaining

    rows = []
    for model, title in MODEL_TITLES.items():
        measures, steps, most = explaining.measures(model, options)
        used = ", ".join(f"{peer} {np.mean(counts):.0f}" for peer, counts in steps.items())
        rows.append(
            row(
                f"Integrated Gradients of the {title}",
                "images/s",
                interleave(measures, options.repeats(5)),
                goal=10,
                how="Validation images from black, at the completeness error of the stage xai. Peers take the first of"
                f" 50, 100, 200, … steps that suffices for an image, at most {most}; finding it is not counted. Their"
                f" time is measured on 50 steps and multiplied. Mean steps: {used}.",
            )
        )
    return rows


@benchmark("limit")
def limit(options: Options) -> list[Row]:
    from bench import limits

    rows = []
    for precision in ("float32", "bfloat16"):
        measured = interleave(limits.measures(options, precision), options.repeats(7))
        matrix = measured.pop("matrix product")
        rows += [
            row(
                f"{name}, {precision}, beside the machine's matrix product",
                "GFLOP/s",
                {"ours": values, f"matrix product of {limits.SIDE}×{limits.SIDE}": matrix},
                goal=0.6,
                how="Operations of the layers and the optimizer, counted from their shapes. bfloat16 is the parameter"
                " cnn.precision; the optimizer computes in float32 then, too.",
            )
            for name, values in measured.items()
        ]
    return rows
