"""Detect and classify faces, with or without a mask, in images, videos, folders of both, web addresses and cameras.

    face-mask predict photo.jpg
    face-mask predict holiday/ video.mp4 https://example.org/street.jpg --format csv > faces.csv
    face-mask predict video.mp4 --every 0.5 --annotate annotated/
    face-mask predict rtsp://camera.local/stream --every 2
    face-mask predict 0 --frames 10

A number is a camera of this machine. A camera or a stream is predicted until Ctrl-C or --frames, always its newest
frame. Image files are predicted on all cores, in order.

Prints a row per face: the class, its probability, the detector's score, the box in pixels and, for videos, the time.
An image without a detected face is reported as such; --faces whole classifies whole images instead. Results go to
standard output, everything else to standard error; of several images the last line there is the proportion of people
with a mask, corrected for the known errors of detector and model (see face_mask/prevalence.py). Exit code: 0 if every
input was read, 2 if some could not be read, 1 if none could or the command is invalid.

Uses the trained model of the repository, models/exported/MODEL.float32.tflite and params.yaml, or else the one that is
shipped with this package: see face_mask/models.py. Needs no TensorFlow.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from face_mask import annotate, cores, errors, inputs, models, outputs, prevalence, quiet, workers
from face_mask.classifier import Prediction
from face_mask.errors import Parser, UserError, printable
from face_mask.prevalence import Rates
from face_mask.schema import MODELS
from face_mask.video import Frame

SOME_UNREADABLE = 2


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("face-mask predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "inputs", nargs="+", metavar="FILE|FOLDER|URL|CAMERA",
        help="images, videos, or folders of both; rtsp://… is a stream, a number a camera of this machine",
    )  # fmt: skip
    add("--model", choices=MODELS, help="default: live.model of params.yaml, or the packaged model")
    add(
        "--faces", choices=("auto", "whole"), default="auto",
        help="auto detects faces and classifies each (default); whole classifies each whole image as one face",
    )  # fmt: skip
    add("--format", choices=outputs.FORMATS, default="table", help="default: %(default)s")
    add(
        "--every", type=seconds, metavar="SECONDS",
        help="classify one frame of a video in this many seconds; default: every frame, and of a stream one a second",
    )  # fmt: skip
    add("--frames", type=positive, metavar="N", help="stop after N frames of each stream; default: go on until Ctrl-C")
    add("--stream", action="store_true", help="http and https addresses are live streams, not images or videos")
    add("--annotate", type=Path, metavar="DIR", help="save copies with boxes and classes drawn; videos as MP4")
    add("--models", type=Path, metavar="DIR", help="folder of the models; default: see above")
    return parser.parse_args(arguments)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def predictor(copies: workers.Copies, faces: str) -> Callable[[np.ndarray], list[Prediction]]:
    """The function from an image (h, w, 3) uint8 RGB to its predictions; `faces` is auto or whole. Thread-safe."""

    def to_predictions(image: np.ndarray) -> list[Prediction]:
        with copies.one() as classifier:
            return [classifier.predict_whole(image)] if faces == "whole" else classifier.predict_faces(image)

    return to_predictions


def frame_reader(
    args: argparse.Namespace, url_bytes: int, url_seconds: float, report: Callable[[str], None]
) -> Callable[[inputs.Input], Iterator[Frame]]:
    """The function from an input to its frames, with the limits of the arguments."""

    def read(one: inputs.Input) -> Iterator[Frame]:
        every = args.every if args.every is not None else float(one.is_stream)
        frames = inputs.read_frames(one, every, url_bytes, url_seconds, report)
        return itertools.islice(frames, args.frames) if one.is_stream else frames

    return read


def predict(args: argparse.Namespace) -> None:
    """Classify all inputs and write the results; exit with 2 if some could not be read."""
    model = models.find(args.model, folder=args.models)
    values, threshold = model.settings, model.threshold
    resolved, problems = inputs.resolve(args.inputs, exclude=args.annotate, http_streams=args.stream)
    if args.annotate and args.frames is None and any(one.is_stream for one in resolved):
        raise UserError("--annotate needs an end of the stream: add --frames N")
    copies = annotate.output_paths(resolved, args.annotate, args.inputs) if args.annotate else [None] * len(resolved)
    classifier = model.load()
    uncalibrated = models.uncalibrated(classifier)
    threads = min(cores.available(), max(1, sum(one.is_image_file for one in resolved)))
    to_predictions = predictor(workers.Copies(classifier, model.load), args.faces)
    to_dict = partial(
        outputs.to_dict, threshold=threshold, detected=args.faces == "auto", calibration=classifier.calibration
    )
    url_limits = (round(values.unseen.url_megabytes * 1e6), values.unseen.url_seconds)

    has_video = any(one.is_video for one in resolved)
    in_images: list[list[Prediction]] = []  # faces per image
    read = 0
    with (
        progress_bar(len(resolved), has_video, any(one.is_stream for one in resolved)) as bar,
        outputs.writer(args.format, sys.stdout, has_video) as write,
        workers.predicted(
            resolved, frame_reader(args, *url_limits, partial(report_line, bar)), to_predictions, threads
        ) as predicted,
    ):
        for problem in problems:
            report_line(bar, ": ".join(problem))
        for index, (one, copy, frames) in enumerate(zip(resolved, copies, predicted, strict=True)):
            bar.set_description_str(one.name, refresh=False)
            try:
                with annotate.writer(copy, one.is_video) as save_annotated:
                    for count, (frame, predictions) in enumerate(frames):
                        faces = [to_dict(face) for face in predictions]
                        if sys.stdout.isatty():
                            clear_line(bar)
                        if not read and args.models is None:
                            report_line(bar, str(model))
                        if not read and uncalibrated:
                            report_line(bar, uncalibrated)
                        write(one.name, frame.number, frame.seconds, faces)
                        save_annotated(frame.image, frame.seconds or 0.0, faces)
                        if frame.seconds is None:
                            in_images.append(predictions)
                        read += count == 0
                        bar.update(index + frame.progress - bar.n)
            except inputs.UnreadableInput as error:
                problems.append((one.name, str(error)))
                report_line(bar, ": ".join(problems[-1]))
            bar.update(index + 1 - bar.n)
    if len(in_images) > 1 and args.faces == "auto":
        report_proportion(in_images, threshold, model.rates)
    if not read:
        raise UserError(f"none of the inputs could be read ({len(problems)} failed): check their names and contents")
    if problems:
        sys.exit(SOME_UNREADABLE)


def progress_bar(total: int, has_video: bool, has_stream: bool) -> tqdm:
    """A bar that appears after a second, for several inputs or a video, which counts by its progress.

    With a stream, which has no end, there is none.
    """
    bar_format = "{percentage:3.0f}%|{bar:20}| {desc} [{elapsed}<{remaining}]"
    disable = has_stream or (total < 2 and not has_video)
    return tqdm(total=total, delay=1, miniters=0, bar_format=bar_format, leave=False, disable=disable)


def clear_line(bar: tqdm) -> None:
    """Clear the bar's line before other output, if the bar is shown."""
    if not bar.disable and time.time() > bar.start_t + bar.delay:
        bar.clear()


def report_line(bar: tqdm, text: str) -> None:
    """Write a line to standard error: which model is used, once there is something to predict, or what went wrong."""
    with quiet.lock:  # a thread that loads the model discards what is written meanwhile
        clear_line(bar)
        print(f"predict: {printable(text)}", file=sys.stderr, flush=True)


def report_proportion(in_images: list[list[Prediction]], threshold: float, rates: Rates | None) -> None:
    """Say what proportion of the faces in several images has a mask. Frames of a video are not independent: no part."""
    found = prevalence.estimate([(one.box, one.with_mask >= threshold) for faces in in_images for one in faces], rates)
    if found.n:
        faces = f"{found.n} faces" + (f" of at least {rates.min_face} pixels" if rates else "")
        print(f"predict: {faces} in {len(in_images)} images: {found}", file=sys.stderr)


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # Windows would use a code page, which lacks characters of names
    try:
        predict(parse())
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does; Python's flush at exit would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    errors.run(main)
