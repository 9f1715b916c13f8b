"""What the live page would show and count while it watches a film, without a page.

    python -m pipeline.serve.replay FILM [--model cnn|mobilenet] [--models DIR] [--log-to-mlflow]

Prints the session's summary as JSON: frames, faces, mean confidences, latencies of detection and classification.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pipeline import errors, params
from pipeline.data.framing import intersection_over_union
from pipeline.serve import face_detection, films, judging, litert
from pipeline.serve.following import WITH_MASK, WITHOUT_MASK, Face
from pipeline.serve.inputs import Shot, Unreadable
from pipeline.serve.session import Session


def watch(
    film: Path, sessions: Mapping[str, Session], p: params.Params, folder: Path = litert.MODELS
) -> Iterator[tuple[Shot, dict[str, list[Face]]]]:
    """Each frame of a film, and the faces that the session of each model, by its name, shows after it.

    Faces are found and cut out once for all models; a frame's latency is that and the model's own time.
    """
    classify = {name: litert.load(litert.path_of(name, folder=folder)) for name in sessions}
    with film.open("rb") as file:
        for shot in films.frames(file):
            started = time.perf_counter()
            found = face_detection.detect(shot.image, largest=p.live.detector_side)
            faces = judging.cut(shot.image, found[:, :4], p.image_size, p.unseen.margin)
            detected = time.perf_counter()
            shown = {}
            for name in sessions:
                begun = time.perf_counter()
                judged = judging.judged(found, classify[name](faces))
                shown[name] = sessions[name].follow(judged, shot.seconds or 0.0, name)
                sessions[name].answered(1000 * (detected - started + time.perf_counter() - begun), name)
            yield shot, shown


class Truth:
    """How often a session's labels were right about the face that was filmed."""

    def __init__(self, overlap: float) -> None:
        self.overlap = overlap
        self.frames: dict[str, int] = dict.fromkeys((WITH_MASK, WITHOUT_MASK), 0)
        self.counts: dict[tuple[str, str], int] = {}

    def add(self, faces: list[Face], label: str, box: tuple[float, ...]) -> None:
        """Count a frame whose filmed face has this label and this box, in the frame's pixels."""
        self.frames[label] += 1
        found = [face for face in faces if face.found]
        if found:
            shared = intersection_over_union(np.array([face.box for face in found]), np.array([box]))[:, 0]
            if shared.max() >= self.overlap:
                called = found[int(shared.argmax())].label
                self.counts[label, called] = self.counts.get((label, called), 0) + 1

    def summary(self) -> dict[str, float | None]:
        """Shares of the frames in which the filmed face was found, labelled right, labelled wrong, and unsure."""
        total = sum(self.frames.values())
        right = sum(n for (label, called), n in self.counts.items() if label == called)
        wrong = sum(n for (label, called), n in self.counts.items() if called in self.frames and label != called)
        found = sum(self.counts.values())
        shares = {"found": found, "right": right, "wrong": wrong, "unsure": found - right - wrong}
        return {f"filmed_face_{name}": n / total if total else None for name, n in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.serve.replay", description="What the live page would count while it watches a film."
    )
    parser.add_argument("film", type=Path)
    parser.add_argument("--model", choices=litert.NAMES, help="default: live.model of params.yaml")
    parser.add_argument("--models", type=Path, default=litert.MODELS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--log-to-mlflow", action="store_true", help="as a run `live` below the current experiment")
    arguments = parser.parse_args()
    p = params.load()
    name = arguments.model or p.live.model
    if not arguments.film.is_file():
        raise errors.UserError(f"{arguments.film} is no file: name a film")
    session = Session(p.live, p.evaluate.threshold)
    try:
        for _ in watch(arguments.film, {name: session}, p, arguments.models):
            pass
    except Unreadable as error:
        raise errors.UserError(f"{arguments.film} cannot be read: {error}") from None
    json.dump(session.summary(), sys.stdout, indent=2)
    print()
    if arguments.log_to_mlflow:
        from pipeline.serve import session_log

        print(f"logged to MLflow: {session_log.log(session.summaries())}", file=sys.stderr)


if __name__ == "__main__":
    errors.run(main)
