"""A session of frames from a camera or a video: the tracked faces of each frame, and running metrics of all frames.

No pixels are kept, and memory does not grow with the number of frames. The module reads no clock: times and latencies
are passed in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from face_mask import conformal
from face_mask.classifier import Prediction
from face_mask.conformal import Calibration
from face_mask.prevalence import Rates, corrected, shorter_side
from face_mask.schema import WITH_MASK, WITHOUT_MASK
from face_mask.settings import Live
from face_mask.tracker import UNSURE, Face, FaceTracker

PAUSE = 1.0  # seconds; a longer gap between two frames is a pause, which the frame rate leaves out
MAX_FPS = 1000  # a higher rate is a matter of the times that a client sends, down to 5e-324 s apart
PERCENTILES = (50, 90, 99)


class Session:
    """Tracks faces through the frames of one camera or video, and keeps the metrics of each model used in it."""

    def __init__(
        self,
        live: Live,
        threshold: float,
        calibrations: Mapping[str, Calibration | None] | None = None,
        rates: Mapping[str, Rates | None] | None = None,
    ) -> None:
        """`threshold` is evaluate.threshold: the metrics count a face as with_mask from this probability on.

        `calibrations` by model say which faces are labelled unsure; those of a model without one never are. `rates` by
        model correct the proportion of people with a mask; without them it is left out.
        """
        self.tracker = FaceTracker(live)
        self.threshold = threshold
        self.calibrations = calibrations or {}
        self.rates = rates or {}
        self.model: str | None = None
        self.metrics: dict[str, SessionMetrics] = {}

    def update(self, predictions: Sequence[Prediction], time: float, model: str) -> list[Face]:
        """The tracked faces after a frame at `time` seconds, given the predictions of `model`; see FaceTracker.update.

        When the model changes, the metrics of the new model start, or continue if it was used before, and smoothing
        starts anew; the faces keep their numbers.
        """
        if model != self.model:
            self.tracker.reset_smoothing()
            self.model = model
            calibration = self.calibrations.get(model)
            surely = calibration.limits if calibration else conformal.surely
            self.tracker.limits = surely(self.threshold)
        faces = self.tracker.update(predictions, time)
        self.metrics.setdefault(model, SessionMetrics(self.threshold, self.rates.get(model))).add(faces, time)
        return faces

    def add_latency(self, milliseconds: float, model: str) -> None:
        """Count the latency of one frame of `model`."""
        if model in self.metrics:
            self.metrics[model].latency.add(milliseconds)

    def summary(self, model: str | None = None) -> dict[str, str | int | float | None]:
        """The metrics of `model`, or of the model used last, as a flat dict; {} if it has seen no frame.

        `faces` counts face-frames, one face detected in one frame. Each counts as with or without a mask by its
        probability in that frame, without smoothing, so faces = faces_with_mask + faces_without_mask. `unsure` counts
        those that were labelled unsure. `mean_confidence_*` is the mean probability of the predicted class over the
        face-frames of that class, 0…1, or None if there are none. `fps` leaves pauses out; it is None
        without two frames, or above MAX_FPS.

        Frames are not independent, so `people_*` count each tracked face once, by its mean probability over the frames
        in which it is at least as large as the faces that the rates were measured on. `proportion_with_mask` is what
        they make; `proportion_corrected`, with its 95 % interval, corrects it as face_mask.prevalence does, by the
        rates of single images, and is left out where it is undefined.
        """
        model = model or self.model
        return {"model": model, **self.metrics[model].summary()} if model in self.metrics else {}

    def summaries(self) -> list[dict[str, str | int | float | None]]:
        """One summary per model that was used, in the order of first use."""
        return [self.summary(model) for model in self.metrics]


class SessionMetrics:
    """Running metrics of the frames that one model classified."""

    def __init__(self, threshold: float, rates: Rates | None = None) -> None:
        self.threshold = threshold
        self.rates = rates
        self.people: Counter[str] = Counter()  # tracked faces that are gone, by label
        self.tracks: dict[int, tuple[float, int]] = {}  # of the others: sum of the probabilities, and frames
        self.frames = self.frames_without_face = self.unsure = self.distinct = 0
        self.faces: Counter[str] = Counter()
        self.confidence = {WITH_MASK: 0.0, WITHOUT_MASK: 0.0}  # sums
        self.counted: set[int] = set()  # numbers of tracked faces that are counted as distinct
        self.last_time = math.nan
        self.seconds, self.intervals = 0.0, 0
        self.latency = LatencyHistogram()

    def add(self, faces: Sequence[Face], time: float) -> None:
        detected = [face for face in faces if face.detected]
        self.frames += 1
        self.frames_without_face += not detected
        for face in detected:
            with_mask = face.probability >= self.threshold
            label = WITH_MASK if with_mask else WITHOUT_MASK
            self.faces[label] += 1
            self.confidence[label] += face.probability if with_mask else 1 - face.probability
            self.unsure += face.label == UNSURE
            if not self.rates or shorter_side(face.box) >= self.rates.min_face:
                total, frames = self.tracks.get(face.number, (0.0, 0))
                self.tracks[face.number] = (total + face.probability, frames + 1)
        for number in self.tracks.keys() - {face.number for face in faces}:
            self.people[self.label_of_track(*self.tracks.pop(number))] += 1
        new = {face.number for face in detected} - self.counted
        self.distinct += len(new)
        self.counted = (self.counted | new) & {face.number for face in faces}
        if 0 <= time - self.last_time <= PAUSE:
            self.seconds += time - self.last_time
            self.intervals += 1
        self.last_time = time

    def label_of_track(self, total: float, frames: int) -> str:
        return WITH_MASK if total >= frames * self.threshold else WITHOUT_MASK

    def proportion(self) -> dict[str, int | float | None]:
        """People by label, a tracked face being one person, and the proportion with a mask as in Session.summary."""
        people = self.people + Counter(self.label_of_track(*track) for track in self.tracks.values())
        with_mask, without_mask = people[WITH_MASK], people[WITHOUT_MASK]
        found = corrected(with_mask, without_mask, self.rates)
        interval = {"": found.corrected, "_low": found.low, "_high": found.high}
        return {
            "people_with_mask": with_mask,
            "people_without_mask": without_mask,
            "proportion_with_mask": None if found.predicted is None else round(found.predicted, 6),
            **{f"proportion_corrected{name}": round(value, 6) for name, value in interval.items() if value is not None},
        }

    def summary(self) -> dict[str, int | float | None]:
        def mean_confidence(label: str) -> float | None:
            return round(self.confidence[label] / self.faces[label], 6) if self.faces[label] else None

        return {
            "frames": self.frames,
            "frames_without_face": self.frames_without_face,
            "faces": self.faces.total(),
            "faces_with_mask": self.faces[WITH_MASK],
            "faces_without_mask": self.faces[WITHOUT_MASK],
            "unsure": self.unsure,
            "distinct_faces": self.distinct,
            **self.proportion(),
            "mean_confidence_with_mask": mean_confidence(WITH_MASK),
            "mean_confidence_without_mask": mean_confidence(WITHOUT_MASK),
            "seconds": round(self.seconds, 3),
            "fps": round(self.intervals / self.seconds, 2) if 0 < self.intervals <= MAX_FPS * self.seconds else None,
            **{f"latency_ms_p{percent}": self.latency.percentile(percent) for percent in PERCENTILES},
        }


class LatencyHistogram:
    """Percentiles of any number of latencies in little memory: a histogram with bins that are 2 % wide."""

    BIN_WIDTH = math.log(1.02)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        self.counts[math.floor(math.log(min(max(milliseconds, 0.01), 1e6)) / self.BIN_WIDTH)] += 1

    def percentile(self, percent: float) -> float | None:
        """The percentile in milliseconds, accurate to 1 %; None without any latency."""
        remaining = math.ceil(self.counts.total() * percent / 100)
        for index in sorted(self.counts):
            remaining -= self.counts[index]
            if remaining <= 0:
                return round(math.exp((index + 0.5) * self.BIN_WIDTH), 2)
        return None
