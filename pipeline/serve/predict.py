"""Masked or bare? Every face in pictures, films, folders of both, and web addresses.

    python -m pipeline.serve.predict photo.jpg
    python -m pipeline.serve.predict holiday/ film.mp4 https://example.org/street.jpg --format csv > faces.csv
    python -m pipeline.serve.predict film.mp4 --every 0.5 --annotate seen/

A line a face: class, its probability, the detector's score, the box in pixels and, in films, the time. A picture in
which no face is found says so; it is judged as a whole only with --faces whole. Answers go to standard output, all else
to standard error. Exit code 0: everything was read; 2: some of it was not; 1: nothing was, or a mistake in the command.

Reads models/exported/MODEL.float32.tflite, as the stage `export` writes it, and params.yaml: here, or else where this
file's repository is. TensorFlow is not needed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from pipeline import errors, params
from pipeline.errors import UserError
from pipeline.serve import annotating, answers, inputs, judging, litert

SOME_UNREAD = 2
Judge = Callable[[np.ndarray], list[judging.Judged]]


class Parser(argparse.ArgumentParser):
    """argparse's exit code for a mistake is 2, which here says that some files could not be read."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see --help")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        "python -m pipeline.serve.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="FILE|FOLDER|VIDEO|URL")
    add("--model", choices=litert.NAMES, help="default: live.model of params.yaml")
    add("--faces", choices=("auto", "whole"), default="auto", help="find the faces, or judge the whole picture as one")
    add("--format", choices=answers.FORMATS, default="table")
    add(
        "--every",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="of a film, judge a frame each so often; default: all",
    )
    add("--annotate", type=Path, metavar="DIR", help="write copies there with boxes and classes drawn; films as MP4")
    add("--models", type=Path, metavar="DIR", help="where the models are; default: models/exported/ of the repository")
    return parser.parse_args(arguments)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def home() -> Path:
    """The folder of params.yaml and models/: this one where it is such a repository, else that of this file."""
    here = Path.cwd()
    known = (here / "params.yaml").is_file() and (here / "dvc.yaml").is_file()
    return here if known else Path(__file__).resolve().parents[2]


def judge_with(model: Path, faces: str, p: params.Params) -> Judge:
    """What finds and judges the faces of a picture (h, w, 3) uint8 RGB; UserError where the model does not fit."""
    classify = litert.load(model)
    try:
        classify(np.zeros((1, p.image_size, p.image_size, 3), np.uint8))
    except ValueError:
        raise UserError(f"{model} is not for pictures of image_size = {p.image_size}: run `dvc repro export`") from None
    if faces == "whole":
        return lambda image: [judging.judge_whole(image, classify, size=p.image_size)]
    return partial(judging.judge_faces, classify=classify, size=p.image_size, margin=p.unseen.margin)


def predict(args: argparse.Namespace) -> None:
    """Judge all inputs, write the answers, and exit with 2 where some could not be read."""
    root = home()
    p = params.load(root / "params.yaml")
    model = litert.path_of(args.model or p.live.model, folder=args.models or root / litert.MODELS)
    found, faults = inputs.expand(args.inputs, outside=args.annotate)
    copies = annotating.targets(found, args.annotate, args.inputs) if args.annotate else [None] * len(found)
    judge = judge_with(model, args.faces, p)
    describe = partial(answers.described, threshold=p.evaluate.threshold, detected=args.faces == "auto")
    limits = (args.every, round(p.unseen.url_megabytes * 1e6), p.unseen.url_seconds)

    films = any(one.is_film for one in found)
    read = 0
    with progress(len(found), films) as bar, answers.writing(args.format, sys.stdout, films) as write:
        for name, reason in faults:
            complain(bar, name, reason)
        for place, (one, copy) in enumerate(zip(found, copies, strict=True)):
            bar.set_description_str(one.name, refresh=False)
            try:
                with annotating.keeping(copy, one.is_film) as keep:
                    for number, shot in enumerate(inputs.shots(one, *limits)):
                        faces = [describe(face) for face in judge(shot.image)]
                        if sys.stdout.isatty():
                            make_room(bar)
                        write(one.name, shot.frame, shot.seconds, faces)
                        keep(shot.image, shot.seconds or 0.0, faces)
                        read += number == 0
                        bar.update(place + shot.share - bar.n)
            except inputs.Unreadable as error:
                faults.append((one.name, str(error)))
                complain(bar, *faults[-1])
            bar.update(place + 1 - bar.n)
    if not read:
        raise UserError(f"nothing could be read of what was named ({len(faults)}): correct the names")
    if faults:
        sys.exit(SOME_UNREAD)


def progress(files: int, films: bool) -> tqdm:
    """A bar from a second on, where there is something to wait for; a film counts as far as it is judged."""
    shape = "{percentage:3.0f}%|{bar:20}| {desc} [{elapsed}<{remaining}]"
    return tqdm(total=files, delay=1, miniters=0, bar_format=shape, leave=False, disable=files < 2 and not films)


def make_room(bar: tqdm) -> None:
    """Clear the bar's line for another, if it is shown already."""
    if not bar.disable and time.time() > bar.start_t + bar.delay:
        bar.clear()


def complain(bar: tqdm, name: str, reason: str) -> None:
    """Say what cannot be read, clear of the bar."""
    make_room(bar)
    print(f"predict: {name}: {reason}", file=sys.stderr)


def main() -> None:
    try:
        predict(parse())
    except BrokenPipeError:  # the reader has seen enough, as `head` has; Python's own flush at the end would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    errors.run(main)
