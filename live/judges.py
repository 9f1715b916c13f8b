"""Frames judged in worker threads, so that the server answers meanwhile. Each thread has interpreters of its own.

Decoding, the detector and LiteRT let go of Python's lock while they compute: two threads use two cores.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from live import frames
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.serve import face_detection, judging, litert

THREADS = max(1, min(4, os.cpu_count() or 1))


@dataclass(frozen=True)
class Answer:
    """What was found in one frame."""

    judged: list[judging.Judged]
    width: int  # of the frame, in pixels
    height: int


class Judges:
    """The models that are there, and threads that ask them."""

    def __init__(self, params: Params, folder: Path = litert.MODELS, threads: int = THREADS) -> None:
        """UserError where the model live.model is missing, or one that is there is damaged or of another image size."""
        self.params = params
        self.folder = folder
        self.kept = threading.local()
        self.names = [
            name for name in litert.NAMES if name == params.live.model or litert.path_of(name, folder=folder).exists()
        ]
        for name in self.names:
            try:
                self.classifier(name)(np.zeros((1, params.image_size, params.image_size, 3), np.uint8))
            except ValueError:
                path = litert.path_of(name, folder=folder)
                raise UserError(
                    f"{path} does not take pictures of image_size = {params.image_size}: run `dvc repro export`"
                ) from None
        # libfacedetection makes its tables at the first call; two threads must not both.
        face_detection.detect(np.zeros((64, 64, 3), np.uint8))
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="judge")
        self.free = asyncio.Semaphore(threads)

    def classifier(self, name: str) -> litert.Classify:
        """This thread's own: an interpreter is not for two threads at once."""
        kept = self.kept.__dict__
        if name not in kept:
            kept[name] = litert.load(litert.path_of(name, folder=self.folder))
        return kept[name]

    def judge(self, frame: frames.Frame, model: str) -> Answer:
        """Find and judge the faces of a frame; BadFrame where it is no picture. For a worker thread."""
        image = frames.pixels(frame)
        judged = judging.judge_faces(
            image,
            self.classifier(model),
            size=self.params.image_size,
            margin=self.params.unseen.margin,
            largest=self.params.live.detector_side,
        )
        return Answer(judged, image.shape[1], image.shape[0])

    def judge_soon(self, frame: frames.Frame, model: str) -> asyncio.Future[Answer]:
        """The same in a worker thread. The caller has acquired `free`, so that nothing queues up before the threads.

        The thread is free again when it is done, even where nobody waits for the answer any more.
        """
        judging = asyncio.get_running_loop().run_in_executor(self.pool, self.judge, frame, model)
        judging.add_done_callback(self.done)
        return judging

    def done(self, judging: asyncio.Future[Answer]) -> None:
        self.free.release()
        if not judging.cancelled():
            judging.exception()  # looked at, so that asyncio does not complain where nobody waits

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
