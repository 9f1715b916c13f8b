"""A pool of threads that decode frames and run the models, so that the server stays responsive.

Pillow, the detector and LiteRT release the GIL while they compute: two threads use two cores.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from face_mask import detector, litert
from face_mask.classifier import FaceClassifier, Prediction
from face_mask.live import frames
from face_mask.schema import MODELS
from face_mask.settings import Settings

THREADS = max(1, min(4, os.cpu_count() or 1))


class InferencePool:
    """The available models, and worker threads that each load their own copy of a model at its first frame."""

    def __init__(self, settings: Settings, folder: Path = litert.MODELS, threads: int = THREADS) -> None:
        """Raises UserError if the model live.model is missing, or any model is damaged or takes another image size."""
        self.settings = settings
        self.folder = folder
        self.names = [
            name for name in MODELS if name == settings.live.model or litert.path_of(name, folder=folder).exists()
        ]
        for name in self.names:
            self.load(name)
        # libfacedetection builds its tables in the first call, which is not thread-safe.
        detector.detect(np.zeros((64, 64, 3), np.uint8))
        self.thread_local = threading.local()
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self.free = asyncio.Semaphore(threads)  # threads without work

    def load(self, name: str) -> FaceClassifier:
        return FaceClassifier.load(
            litert.path_of(name, folder=self.folder),
            name=name,
            size=self.settings.image_size,
            margin=self.settings.unseen.margin,
            threshold=self.settings.evaluate.threshold,
        )

    def predict(self, frame: frames.Frame, model: str) -> tuple[list[Prediction], int, int]:
        """Predictions for the faces in a frame, and its width and height in pixels. Runs in a worker thread.

        Raises BadFrame if the image is invalid or has too many pixels.
        """
        image = frames.decode(frame.encoded)
        loaded = self.thread_local.__dict__
        if model not in loaded:
            loaded[model] = self.load(model)
        predictions = loaded[model].predict_faces(image, max_side=self.settings.live.detector_side)
        return predictions, image.shape[1], image.shape[0]

    def submit(self, frame: frames.Frame, model: str) -> asyncio.Future[tuple[list[Prediction], int, int]]:
        """Call `predict` in a worker thread. The caller has acquired `free`, so that no frame waits in a queue.

        `free` is released when the thread is done, even if the returned future was cancelled before.
        """
        loop = asyncio.get_running_loop()
        future = self.executor.submit(self.predict, frame, model)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.free.release))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for the frames in progress, a fraction of a second, and end the threads."""
        self.executor.shutdown(cancel_futures=True)
