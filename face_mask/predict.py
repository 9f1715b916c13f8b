"""Detect and classify faces, with or without a mask, in images, videos, folders of both, and web addresses.

    face-mask predict photo.jpg
    face-mask predict holiday/ video.mp4 https://example.org/street.jpg --format csv > faces.csv
    face-mask predict video.mp4 --every 0.5 --annotate annotated/

Prints a row per face: the class, its probability, the detector's score, the box in pixels and, for videos, the time.
An image without a detected face is reported as such; --faces whole classifies whole images instead. Results go to
standard output, everything else to standard error. Exit code: 0 if every input was read, 2 if some could not be read,
1 if none could or the command is invalid.

Uses the trained model of the repository, models/exported/MODEL.float32.tflite and params.yaml, or else the one that is
shipped with this package: see face_mask/models.py. Needs no TensorFlow.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from face_mask import annotate, errors, inputs, models, outputs
from face_mask.classifier import FaceClassifier, Prediction
from face_mask.errors import UserError, printable
from face_mask.schema import MODELS

SOME_UNREADABLE = 2


class Parser(argparse.ArgumentParser):
    """Raises UserError, which exits with 1: argparse would exit with 2, which means unreadable inputs here."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see --help")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("face-mask predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("inputs", nargs="+", metavar="FILE|FOLDER|URL", help="images, videos, or folders of both")
    add("--model", choices=MODELS, help="default: live.model of params.yaml, or the packaged model")
    add(
        "--faces", choices=("auto", "whole"), default="auto",
        help="auto detects faces and classifies each (default); whole classifies each whole image as one face",
    )  # fmt: skip
    add("--format", choices=outputs.FORMATS, default="table", help="default: %(default)s")
    add(
        "--every", type=seconds, default=0.0, metavar="SECONDS",
        help="classify one frame of a video in this many seconds; default: every frame",
    )  # fmt: skip
    add("--annotate", type=Path, metavar="DIR", help="save copies with boxes and classes drawn; videos as MP4")
    add("--models", type=Path, metavar="DIR", help="folder of the models; default: see above")
    return parser.parse_args(arguments)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def predictor(classifier: FaceClassifier, faces: str) -> Callable[[np.ndarray], list[Prediction]]:
    """The function from an image (h, w, 3) uint8 RGB to its predictions; `faces` is auto or whole."""
    if faces == "whole":
        return lambda image: [classifier.predict_whole(image)]
    return classifier.predict_faces


def predict(args: argparse.Namespace) -> None:
    """Classify all inputs and write the results; exit with 2 if some could not be read."""
    model = models.find(args.model, folder=args.models)
    values, threshold = model.settings, model.threshold
    resolved, problems = inputs.resolve(args.inputs, exclude=args.annotate)
    copies = annotate.output_paths(resolved, args.annotate, args.inputs) if args.annotate else [None] * len(resolved)
    classifier = model.load()
    to_predictions = predictor(classifier, args.faces)
    to_dict = partial(outputs.to_dict, threshold=threshold, detected=args.faces == "auto")
    limits = (args.every, round(values.unseen.url_megabytes * 1e6), values.unseen.url_seconds)

    has_video = any(one.is_video for one in resolved)
    read = 0
    with (
        progress_bar(len(resolved), has_video) as bar,
        outputs.writer(args.format, sys.stdout, has_video) as write,
    ):
        for problem in problems:
            report_unreadable(bar, *problem)
        for index, (one, copy) in enumerate(zip(resolved, copies, strict=True)):
            bar.set_description_str(one.name, refresh=False)
            try:
                with annotate.writer(copy, one.is_video) as save_annotated:
                    for count, frame in enumerate(inputs.read_frames(one, *limits)):
                        faces = [to_dict(face) for face in to_predictions(frame.image)]
                        if sys.stdout.isatty():
                            clear_line(bar)
                        if not read and args.models is None:
                            report_model(bar, model)
                        write(one.name, frame.number, frame.seconds, faces)
                        save_annotated(frame.image, frame.seconds or 0.0, faces)
                        read += count == 0
                        bar.update(index + frame.progress - bar.n)
            except inputs.UnreadableInput as error:
                problems.append((one.name, str(error)))
                report_unreadable(bar, *problems[-1])
            bar.update(index + 1 - bar.n)
    if not read:
        raise UserError(f"none of the inputs could be read ({len(problems)} failed): check their names and contents")
    if problems:
        sys.exit(SOME_UNREADABLE)


def progress_bar(total: int, has_video: bool) -> tqdm:
    """A bar that appears after a second, for several inputs or a video, which counts by its progress."""
    bar_format = "{percentage:3.0f}%|{bar:20}| {desc} [{elapsed}<{remaining}]"
    disable = total < 2 and not has_video
    return tqdm(total=total, delay=1, miniters=0, bar_format=bar_format, leave=False, disable=disable)


def clear_line(bar: tqdm) -> None:
    """Clear the bar's line before other output, if the bar is shown."""
    if not bar.disable and time.time() > bar.start_t + bar.delay:
        bar.clear()


def report_model(bar: tqdm, model: models.Model) -> None:
    """Say which model is used, once there is something to predict: an invalid command ends in one line."""
    clear_line(bar)
    print(f"predict: {model}", file=sys.stderr)


def report_unreadable(bar: tqdm, name: str, reason: str) -> None:
    clear_line(bar)
    print(f"predict: {name}: {printable(reason)}", file=sys.stderr)


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
