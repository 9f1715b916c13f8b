"""A session of frames, from a camera or a film: the faces of each as they are shown, and running figures of all.

Nothing of a picture is kept, and the memory taken does not grow with the frames. There is no clock in here: times and
latencies are passed in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pipeline.params import Live
from pipeline.serve.following import UNSURE, WITH_MASK, WITHOUT_MASK, Face, Follower
from pipeline.serve.judging import Judged

PAUSE = 1.0  # seconds; a longer gap between two frames is a pause, and no part of the frames per second
PERCENTILES = (50, 90, 99)


class Session:
    """Follows faces through the frames of one camera or film, and keeps figures of each model that judged any."""

    def __init__(self, live: Live, threshold: float) -> None:
        """`threshold` is evaluate.threshold: from it on a face counts as with_mask in the figures."""
        self.follower = Follower(live)
        self.threshold = threshold
        self.model: str | None = None
        self.figures: dict[str, Figures] = {}

    def follow(self, judged: Sequence[Judged], time: float, model: str) -> list[Face]:
        """The faces known after the frame of `time` seconds, whose detections `model` judged; see Follower.follow.

        Another model than the last frame's starts figures of its own, or goes on with those that it has, and each
        face's averaged probability starts again; the faces keep their numbers.
        """
        if model != self.model:
            self.follower.judge_anew()
            self.model = model
        faces = self.follower.follow(judged, time)
        self.figures.setdefault(model, Figures(self.threshold)).add(faces, time)
        return faces

    def answered(self, milliseconds: float, model: str) -> None:
        """Count the latency of one frame that `model` judged; not known in a replay, which leaves it out."""
        if model in self.figures:
            self.figures[model].latency.add(milliseconds)

    def summary(self, model: str | None = None) -> dict[str, str | int | float | None]:
        """The figures of `model`, or of the one that judged last, flat; {} before it judged any frame.

        `faces` are face-frames, one face found in one frame; each is called by its probability of that frame at the
        threshold, as the original does, without smoothing: faces = faces_with_mask + faces_without_mask. `unsure`
        counts those of them that were labelled so. `mean_confidence_*` is the mean probability of the called class
        over the face-frames called so, 0…1, None where there are none. `fps` leaves pauses out.
        """
        model = model or self.model
        return {"model": model, **self.figures[model].summary()} if model in self.figures else {}

    def summaries(self) -> list[dict[str, str | int | float | None]]:
        """One summary a model that judged a frame, in the order in which they were first used."""
        return [self.summary(model) for model in self.figures]


class Figures:
    """Running figures of the frames that one model judged."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.frames = self.empty = self.unsure = self.distinct = 0
        self.faces: Counter[str] = Counter()
        self.confidence = {WITH_MASK: 0.0, WITHOUT_MASK: 0.0}  # sums
        self.counted: set[int] = set()  # numbers of faces that are known and counted as distinct
        self.last = math.nan
        self.seconds, self.steps = 0.0, 0
        self.latency = Latencies()

    def add(self, faces: Sequence[Face], time: float) -> None:
        found = [face for face in faces if face.found]
        self.frames += 1
        self.empty += not found
        for face in found:
            masked = face.probability >= self.threshold
            self.faces[WITH_MASK if masked else WITHOUT_MASK] += 1
            self.confidence[WITH_MASK if masked else WITHOUT_MASK] += (
                face.probability if masked else 1 - face.probability
            )
            self.unsure += face.label == UNSURE
        new = {face.number for face in found} - self.counted
        self.distinct += len(new)
        self.counted = (self.counted | new) & {face.number for face in faces}
        if 0 <= time - self.last <= PAUSE:
            self.seconds += time - self.last
            self.steps += 1
        self.last = time

    def summary(self) -> dict[str, int | float | None]:
        def mean(label: str) -> float | None:
            return round(self.confidence[label] / self.faces[label], 6) if self.faces[label] else None

        return {
            "frames": self.frames,
            "frames_without_face": self.empty,
            "faces": self.faces.total(),
            "faces_with_mask": self.faces[WITH_MASK],
            "faces_without_mask": self.faces[WITHOUT_MASK],
            "unsure": self.unsure,
            "distinct_faces": self.distinct,
            "mean_confidence_with_mask": mean(WITH_MASK),
            "mean_confidence_without_mask": mean(WITHOUT_MASK),
            "seconds": round(self.seconds, 3),
            "fps": round(self.steps / self.seconds, 2) if self.seconds else None,
            **{f"latency_ms_p{percent}": self.latency.percentile(percent) for percent in PERCENTILES},
        }


class Latencies:
    """Percentiles of any number of latencies in little memory: counted in classes that are 2 % wide."""

    WIDTH = math.log(1.02)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        self.counts[math.floor(math.log(min(max(milliseconds, 0.01), 1e6)) / self.WIDTH)] += 1

    def percentile(self, percent: float) -> float | None:
        """The latency in milliseconds, right within 1 %, that `percent` of them do not exceed; None without any."""
        left = math.ceil(self.counts.total() * percent / 100)
        for place in sorted(self.counts):
            left -= self.counts[place]
            if left <= 0:
                return round(math.exp((place + 0.5) * self.WIDTH), 2)
        return None
