"""Run the live page's detection, classification and tracking on a video or a stream, and print the session's metrics.

    face-mask replay VIDEO [--model cnn|mobilenet] [--models DIR] [--log-to-mlflow]
    face-mask replay rtsp://camera.local/stream --seconds 600
    face-mask replay 0 --on-unmasked "notify-send 'No mask'" --after 5

A number is a camera of this machine; http and https addresses are streams too. A camera or a stream runs until Ctrl-C
or for --seconds, and always its newest frame is taken.

Prints JSON: frames, faces, mean confidences, the proportion of people with a mask, each tracked face being one person,
and latencies of detection and classification together; Session.summary in face_mask/session.py describes the keys.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from face_mask import ahead, classifier, cores, errors, events, models, streams, video
from face_mask.classifier import FaceClassifier
from face_mask.cropping import intersection_over_union
from face_mask.schema import MODELS, WITH_MASK, WITHOUT_MASK
from face_mask.session import Session
from face_mask.tracker import Face

DETECTING = min(4, cores.available()) - 1  # threads, beside the one that reads, classifies and tracks


def replay_video(
    path: Path, classifiers: Sequence[FaceClassifier], sessions: Mapping[str, Session], detector_side: int
) -> Iterator[dict[str, list[Face]]]:
    """For each frame of a video the tracked faces of each classifier, as `replay_frames` returns them.

    Raises BadVideo.
    """
    with path.open("rb") as file:
        yield from replay_frames(video.read_frames(file), classifiers, sessions, detector_side, DETECTING)


def replay_frames(
    frames: Iterable[video.Frame],
    classifiers: Sequence[FaceClassifier],
    sessions: Mapping[str, Session],
    detector_side: int,
    threads: int = 0,
) -> Iterator[dict[str, list[Face]]]:
    """For each frame the tracked faces of each classifier, by its name; updates `sessions`, by name too.

    Faces are detected and cropped once, so all classifiers must take the same size and margin. A frame's latency is
    that time plus the classifier's own. With `threads`, that many detect faces in further frames meanwhile; a stream
    has none, so that always its newest frame is taken.
    """

    def detect(frame: video.Frame) -> tuple[video.Frame, np.ndarray, np.ndarray, float]:
        start = time.perf_counter()
        detections = classifiers[0].detect(frame.image, detector_side)
        crops = classifiers[0].crop(frame.image, detections[:, :4])
        return frame, detections, crops, time.perf_counter() - start

    for frame, detections, crops, shared in ahead.ordered(detect, frames, threads, video.BadVideo):
        faces = {}
        for one in classifiers:
            start = time.perf_counter()
            predictions = classifier.to_predictions(detections, one.classify(crops))
            faces[one.name] = sessions[one.name].update(predictions, frame.seconds or 0.0, one.name)
            sessions[one.name].add_latency(1000 * (shared + time.perf_counter() - start), one.name)
        yield faces


class FrameAccuracy:
    """How often the tracked label of the one annotated face in a frame is correct."""

    def __init__(self, iou_threshold: float) -> None:
        """A tracked face is the annotated one from this intersection over union on."""
        self.iou_threshold = iou_threshold
        self.frames: dict[str, int] = dict.fromkeys((WITH_MASK, WITHOUT_MASK), 0)
        self.counts: dict[tuple[str, str], int] = {}  # of frames, by true and tracked label

    def add(self, faces: Sequence[Face], label: str, box: tuple[float, ...]) -> None:
        """Count a frame in which the annotated face has this label, and this box in pixels of the frame."""
        self.frames[label] += 1
        detected = [face for face in faces if face.detected]
        if detected:
            iou = intersection_over_union(np.array([face.box for face in detected]), np.array([box]))[:, 0]
            if iou.max() >= self.iou_threshold:
                predicted = detected[int(iou.argmax())].label
                self.counts[label, predicted] = self.counts.get((label, predicted), 0) + 1

    def summary(self) -> dict[str, float | None]:
        """Fractions of the frames in which the annotated face is detected, labelled correctly, incorrectly, unsure."""
        total = sum(self.frames.values())
        detected = sum(self.counts.values())
        correct = sum(n for (label, predicted), n in self.counts.items() if label == predicted)
        incorrect = sum(n for (label, predicted), n in self.counts.items() if predicted in self.frames) - correct
        counts = {
            "detected": detected, "correct": correct, "incorrect": incorrect, "unsure": detected - correct - incorrect
        }  # fmt: skip
        return {f"face_{name}": n / total if total else None for name, n in counts.items()}


def mlflow_logger() -> Callable[..., str]:
    """The function that logs session summaries to MLflow. Raises UserError if it is missing or the store fails."""
    try:
        from pipeline.tracking import check, sessions  # the only use of pipeline: MLflow is optional
    except ImportError as error:
        raise errors.UserError(f"--log-to-mlflow needs the whole repository and its requirements ({error})") from None
    check()
    return sessions.log


def say(line: str) -> None:
    print(f"replay: {line}", file=sys.stderr, flush=True)


def follow(
    argument: str, stream: streams.Source | None, limit: float, one: FaceClassifier, session: Session, side: int
) -> Iterator[list[Face]]:
    """The tracked faces of each frame of a stream, or of the video file `argument`, for `limit` seconds.

    Raises UserError if the first frame cannot be read, or a later one of a file.
    """
    sessions = {one.name: session}
    if stream is None:
        try:
            with Path(argument).open("rb") as file:
                frames = takewhile(lambda frame: (frame.seconds or 0.0) < limit, video.read_frames(file))
                for faces in replay_frames(frames, [one], sessions, side, DETECTING):
                    yield faces[one.name]
        except video.BadVideo as error:
            raise errors.UserError(f"{argument} cannot be read ({error}): name another video") from None
        return
    try:
        for faces in replay_frames(streams.read_frames(stream, 0, say, limit), [one], sessions, side):
            yield faces[one.name]
    except streams.BadStream as error:
        if session.model is None:
            raise errors.UserError(f"{stream.name} cannot be read ({error}): check the address or the number") from None
        say(f"{stream.name}: {error}")


def main() -> None:
    parser = errors.Parser(
        prog="face-mask replay",
        description="Run the live page's detection, classification and tracking on a video file, a stream or a camera;"
        " print the metrics.",
    )
    parser.add_argument("video", help="a file, the address of a stream (rtsp, http), or the number of a camera")
    parser.add_argument("--seconds", type=events.seconds, default=math.inf, help="stop after this time; default: never")
    parser.add_argument("--model", choices=MODELS, help="default: live.model of params.yaml")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of models; default: see face_mask.models")
    parser.add_argument("--log-to-mlflow", action="store_true", help="log the metrics as a run of the experiment")
    events.add_arguments(parser)
    args = parser.parse_args()
    model = models.find(args.model, folder=args.models)
    name, values = model.name, model.settings
    log = mlflow_logger() if args.log_to_mlflow else None
    stream = streams.parse(args.video, http=True)
    if stream is None and not Path(args.video).is_file():
        raise errors.UserError(f"{args.video} is not a file: name a video")
    one = model.load()
    notifier = events.from_arguments(args, say)
    watch = events.Watch(notifier, stream.name if stream else errors.printable(args.video)) if notifier else None
    session = Session(values.live, values.evaluate.threshold, {name: one.calibration}, {name: model.rates})
    try:
        for faces in follow(args.video, stream, args.seconds, one, session, values.live.detector_side):
            if watch and faces:
                watch.update(faces, now=max(face.time for face in faces))
    except KeyboardInterrupt:  # the usual end of a stream
        if stream is None or session.model is None:
            raise
    if notifier:
        notifier.close()
    print(f"replay: {model}", file=sys.stderr)
    if uncalibrated := models.uncalibrated(one):
        print(f"replay: {uncalibrated}", file=sys.stderr)
    json.dump(session.summary(), sys.stdout, indent=2)
    print()
    if log:
        print(f"logged to MLflow: {log(session.summaries())}", file=sys.stderr)


if __name__ == "__main__":
    errors.run(main)
