"""Measure the throughput and latency of the live page's server, over a real WebSocket, detection included.

    python -m bench.live [--archive data/raw/unseen.zip] [--seconds 20] [--model mobilenet]

The frames are the unseen images with exactly three annotated faces of which the detector detects three, at 640×480, as
JPEG. The client behaves like the page: at most two frames in flight, the next one when one is answered. The server runs
in its own process on the same machine. The same run measures, before and after, the bare detector on the same frames in
one thread, and the steps of a frame. The CPU time per frame is the server's cost even if the machine is busy. Needs
models/exported/*.float32.tflite.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import aiohttp
import numpy as np
import psutil

from face_mask import classifier, decoding, detector, errors, litert, settings
from face_mask.errors import UserError
from face_mask.live.connection import MAX_FRAMES_PER_SECOND
from face_mask.live.frames import HEADER, decode
from face_mask.schema import MODELS
from pipeline.sources import annotated_images, archives
from tools.live_server import serving

SIZE = 640, 480
FACES = 3
FPS = 30  # of the video, which sets the frames' times
IN_FLIGHT = 2


def load_frames(archive: Path, max_side: int, count: int = 24) -> list[bytes]:
    """At most `count` frames as JPEG. Raises UserError if the archive is missing or has no suitable image."""
    if not archive.exists():
        raise UserError(f"{archive} is missing: run `dvc repro unseen_download`, or give another one with --archive")
    frames: list[bytes] = []
    with zipfile.ZipFile(archive) as zf:
        for annotated in annotated_images.read(archive).images:
            if annotated.image and len(annotated.faces) == FACES and len(frames) < count:
                image = decoding.open_rgb(archives.read_member(zf, annotated.image))[0].resize(SIZE)
                if len(detector.detect(np.asarray(image), max_side=max_side)) == FACES:
                    buffer = io.BytesIO()
                    image.save(buffer, "JPEG", quality=85)
                    frames.append(buffer.getvalue())
    if not frames:
        raise UserError(f"{archive} has no image with {FACES} annotated and detected faces: give another --archive")
    return frames


async def drive(address: str, frames: list[bytes], seconds: float) -> tuple[float, list[float], list[float], int]:
    """Frames per second, round trips and server latencies in ms, and the number of answers with three faces."""
    round_trips, latencies, complete, sent = [], [], 0, dict[int, float]()
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{address}frames") as socket:
        await socket.receive_json()  # hello
        number, started = 0, time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            while len(sent) < IN_FLIGHT:
                # The server refuses more frames per second than this, so no higher rate can be measured.
                await asyncio.sleep(max(0.0, started + number / MAX_FRAMES_PER_SECOND - time.perf_counter()))
                # Each image is shown for a second, as a camera shows the same people in many frames.
                encoded = frames[number // FPS % len(frames)]
                sent[number] = time.perf_counter()
                await socket.send_bytes(HEADER.pack(number, number / FPS) + encoded)
                number += 1
            answer = await socket.receive_json()
            now = time.perf_counter()
            sent_at = sent.pop(answer["frame"])
            if answer["type"] == "dropped":
                continue
            if answer["type"] != "faces":
                raise RuntimeError(json.dumps(answer))
            round_trips.append((now - sent_at) * 1000)
            latencies.append(answer["latency_ms"])
            complete += sum(face["detected"] for face in answer["faces"]) == FACES
    return len(latencies) / (now - started), round_trips, latencies, complete


def mean_ms(function: Callable, items: list) -> float:
    """Mean time of `function` on the items, after a first call."""
    function(items[0])
    started = time.perf_counter()
    for item in items:
        function(item)
    return (time.perf_counter() - started) / len(items) * 1000


def time_steps(frames: list[bytes], model: str, values: settings.Settings) -> dict[str, float]:
    """Milliseconds of each step of a frame, in one thread without a server."""
    max_side, size, margin = values.live.detector_side, values.image_size, values.unseen.margin
    classify = litert.load(litert.path_of(model))
    images = [decode(encoded) for encoded in frames]
    boxes = [detector.detect(image, max_side=max_side)[:, :4] for image in images]
    pairs = list(zip(images, boxes, strict=True))
    return {
        "decode": mean_ms(decode, frames),
        "detect": mean_ms(lambda image: detector.detect(image, max_side=max_side), images),
        "crop and classify": mean_ms(
            lambda pair: classify(classifier.crop_faces(pair[0], pair[1], size, margin)), pairs
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("data/raw/unseen.zip"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", choices=MODELS, help="default: live.model of params.yaml")
    args = parser.parse_args()
    values = settings.load()
    model = args.model or values.live.model
    frames = load_frames(args.archive, values.live.detector_side)
    before = time_steps(frames, model, values)
    with serving("--model", model) as address:
        asyncio.run(drive(address, frames, 2))  # each thread loads its model at its first frame
        [process] = psutil.Process().children()
        cpu = sum(process.cpu_times()[:2])
        rate, round_trips, latencies, complete = asyncio.run(drive(address, frames, args.seconds))
        cpu_ms = (sum(process.cpu_times()[:2]) - cpu) / len(latencies) * 1000
    after = time_steps(frames, model, values)
    mean = {step: (before[step] + after[step]) / 2 for step in before}
    total, detector_rate = sum(mean.values()), 1000 / mean["detect"]

    def percentiles(values: list[float]) -> str:
        return " · ".join(f"{value:.0f}" for value in np.percentile(values, [50, 90, 99]))

    size = "x".join(map(str, SIZE))
    print(f"{len(frames)} images of {FACES} faces at {size}, {model}, live.detector_side = {values.live.detector_side}")
    print(f"server: {rate:.1f} frames/s; {FACES} faces in {complete / len(latencies):.0%} of {len(latencies)} frames")
    print(f"CPU time: {cpu_ms:.1f} ms per frame in all threads, or {2000 / cpu_ms:.0f} frames/s on two idle cores")
    print(f"latency p50 · p90 · p99: server {percentiles(latencies)} ms, round trip {percentiles(round_trips)} ms")
    print("one thread: " + ", ".join(f"{step} {ms:.1f} ms ({ms / total:.0%})" for step, ms in mean.items()))
    print(
        f"detector alone in one thread: {detector_rate:.1f} frames/s; the server: {rate / detector_rate:.2f} times that"
    )


if __name__ == "__main__":
    errors.run(main)
