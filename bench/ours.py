"""What the benchmarks of prediction measure of this project, each in a process of its own.

    python -m bench.ours decode FOLDER
    python -m bench.ours video FOLDER WORKSPACE MODEL

FOLDER is what bench/samples.py writes; models are those of the workspace.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench import worker

# The package is imported where it is used: memory is measured, and decoding starts further processes.

SIZE = 128
Measure = Callable[[], float | dict[str, float]]


def decode(folder: str) -> Measure:
    """Images per second of the stage `decode`: it also hashes, and checks every file as no peer does."""
    from pipeline.dataset.decode_archive import decode_all
    from pipeline.sources import archives

    archive = Path(folder) / "images.zip"
    members = sorted(member for listed in archives.list_images(archive).values() for member in listed)

    def measure() -> float:
        with tempfile.TemporaryDirectory() as name:
            start = time.perf_counter()
            decode_all(archive, members, SIZE, Path(name) / "images.npy")
            return len(members) / (time.perf_counter() - start)

    return measure


def one_image(workspace: str, model: str, calls: str) -> Measure:
    """Latencies of the exported model on one array (128, 128, 3) uint8."""
    from bench.latency import latency
    from face_mask import litert

    classify = litert.load(exported(workspace) / f"{model}.float32.tflite")
    image = np.random.default_rng(0).integers(256, size=(1, SIZE, SIZE, 3), dtype=np.uint8)
    return latency(lambda: classify(image), int(calls))


def exported(workspace: str) -> Path:
    return Path(workspace) / "models/exported"


def batches(workspace: str, model: str, count: str) -> Measure:
    """Arrays classified per second, on all cores: a copy of the model per thread, as in the API."""
    from face_mask import cores, litert

    copies = [litert.load(exported(workspace) / f"{model}.float32.tflite") for _ in range(cores.available())]
    images = np.random.default_rng(0).integers(256, size=(int(count), SIZE, SIZE, 3), dtype=np.uint8)
    parts = np.array_split(images, len(copies))
    pool = ThreadPoolExecutor(len(copies))

    def measure() -> float:
        start = time.perf_counter()
        np.concatenate(list(pool.map(lambda copy, part: copy(part), copies, parts)))
        return len(images) / (time.perf_counter() - start)

    return measure


def image_files(folder: str, workspace: str, model: str) -> Measure:
    """JPEG files classified per second by the Python API, on all cores."""
    from face_mask import FaceMaskDetector

    detector = FaceMaskDetector(model, folder=exported(workspace))
    paths = sorted((Path(folder) / "images").glob("*/*"))

    def measure() -> float:
        start = time.perf_counter()
        detector.predict_batch(paths, faces="whole")
        return len(paths) / (time.perf_counter() - start)

    return measure


def video(folder: str, workspace: str, model: str) -> Measure:
    """Annotated faces detected in a video per second, by what `face-mask replay` runs; it also tracks them."""
    from bench import scenes
    from face_mask import models, replay
    from face_mask.session import Session

    found = models.find(model, root=Path(workspace))
    classifier, live = found.load(), found.settings.live
    annotated = json.loads((Path(folder) / "faces.json").read_text(encoding="utf-8"))

    def measure() -> dict[str, float]:
        sessions = {model: Session(live, found.threshold)}
        start = time.perf_counter()
        frames = replay.replay_video(Path(folder) / "video.mp4", [classifier], sessions, live.detector_side)
        faces = [[(face.label, *face.box) for face in tracked[model] if face.detected] for tracked in frames]
        return scenes.rates(faces, annotated, time.perf_counter() - start)

    return measure


MEASURES: dict[str, Callable[..., Measure]] = {
    "decode": decode,
    "one_image": one_image,
    "batches": batches,
    "image_files": image_files,
    "video": video,
}

if __name__ == "__main__":
    worker.serve(MEASURES[sys.argv[1]](*sys.argv[2:]))
