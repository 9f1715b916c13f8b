"""How fast is the live page's server? Frames of three real faces over a real WebSocket, detection included.

    python -m bench.live [--archive data/raw/unseen.zip] [--seconds 20] [--model mobilenet]

The film: the foreign pictures with exactly three annotated faces of which the detector finds three, at 640x480, as
JPEG. The client does as the page does: two frames under way at most, the next when one is answered. It has a process of
its own on the same machine. In the same run, before and after: the bare detector on the same frames, in one thread, and
what the parts of a frame take. The processor time a frame says what the
server costs where other work slows it down. Needs models/exported/*.float32.tflite.
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

from live.frames import HEADER, Frame, pixels
from pipeline import errors, params
from pipeline.data import annotated_pictures, archives, decoding
from pipeline.errors import UserError
from pipeline.serve import face_detection, judging, litert
from tools.live_server import serving

SIZE = 640, 480
FACES = 3
FPS = 30  # of the film, which sets the frames' times
UNDER_WAY = 2


def film(archive: Path, side: int, most: int = 24) -> list[bytes]:
    """Frames as JPEG, one a picture; UserError where the archive is missing or shows no such picture."""
    if not archive.exists():
        raise UserError(f"{archive} is missing: run `dvc repro unseen_download`, or name it with --archive")
    frames: list[bytes] = []
    with zipfile.ZipFile(archive) as zf:
        for one in annotated_pictures.read(archive).pictures:
            if one.picture and len(one.faces) == FACES and len(frames) < most:
                picture = decoding.open_rgb(archives.read_member(zf, one.picture))[0].resize(SIZE)
                if len(face_detection.detect(np.asarray(picture), largest=side)) == FACES:
                    buffer = io.BytesIO()
                    picture.save(buffer, "JPEG", quality=85)
                    frames.append(buffer.getvalue())
    if not frames:
        raise UserError(f"{archive} has no picture with {FACES} annotated faces that are found: name another")
    return frames


async def drive(address: str, frames: list[bytes], seconds: float) -> tuple[float, list[float], list[float], int]:
    """Frames a second, round trips and the server's latencies in ms, and how many answers had three faces."""
    round_trips, server, three, sent = [], [], 0, dict[int, float]()
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{address}frames") as socket:
        await socket.receive_json()  # hello
        number, started, answered = 0, time.perf_counter(), 0
        while (now := time.perf_counter()) < started + seconds:
            while len(sent) < UNDER_WAY:
                # Each picture is shown for a second, as a camera shows the same people from frame to frame.
                shown = frames[number // FPS % len(frames)]
                sent[number] = time.perf_counter()
                await socket.send_bytes(HEADER.pack(number, number / FPS) + shown)
                number += 1
            answer = await socket.receive_json()
            now = time.perf_counter()
            taken = sent.pop(answer["frame"])
            if answer["type"] == "dropped":
                continue
            if answer["type"] != "faces":
                raise RuntimeError(json.dumps(answer))
            answered += 1
            round_trips.append((now - taken) * 1000)
            server.append(answer["milliseconds"])
            three += sum(face["found"] for face in answer["faces"]) == FACES
        took = now - started
    return answered / took, round_trips, server, three


def milliseconds(do: Callable, items: list) -> float:
    """The mean time that `do` takes on one of `items`, after a first call."""
    do(items[0])
    started = time.perf_counter()
    for item in items:
        do(item)
    return (time.perf_counter() - started) / len(items) * 1000


def parts(frames: list[bytes], model: str, values: params.Params) -> dict[str, float]:
    """Milliseconds of a frame's parts in one thread, without a server."""
    side, size, margin = values.live.detector_side, values.image_size, values.unseen.margin
    classify = litert.load(litert.path_of(model))
    images = [pixels(Frame(0, 0.0, encoded)) for encoded in frames]
    boxes = [face_detection.detect(image, largest=side)[:, :4] for image in images]
    pairs = list(zip(images, boxes, strict=True))
    return {
        "decode": milliseconds(lambda encoded: pixels(Frame(0, 0.0, encoded)), frames),
        "detect": milliseconds(lambda image: face_detection.detect(image, largest=side), images),
        "cut and classify": milliseconds(lambda pair: classify(judging.cut(pair[0], pair[1], size, margin)), pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("data/raw/unseen.zip"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", choices=litert.NAMES, help="live.model by default")
    args = parser.parse_args()
    values = params.load()
    model = args.model or values.live.model
    frames = film(args.archive, values.live.detector_side)
    before = parts(frames, model, values)
    with serving("--model", model) as address:
        asyncio.run(drive(address, frames, 2))  # each thread loads its model at its first frame
        [process] = psutil.Process().children()
        used = sum(process.cpu_times()[:2])
        rate, round_trips, server, three = asyncio.run(drive(address, frames, args.seconds))
        used = (sum(process.cpu_times()[:2]) - used) / len(server) * 1000
    after = parts(frames, model, values)
    mean = {part: (before[part] + after[part]) / 2 for part in before}
    whole, bare = sum(mean.values()), 1000 / mean["detect"]

    def percentiles(values: list[float]) -> str:
        return " · ".join(f"{value:.0f}" for value in np.percentile(values, [50, 90, 99]))

    share = three / len(server)
    size = "x".join(map(str, SIZE))
    print(f"{len(frames)} pictures of {FACES} faces at {size}, {model}, detector at {values.live.detector_side}")
    print(f"server: {rate:.1f} frames/s; {FACES} faces found in {share:.0%} of {len(server)} frames")
    print(f"processor time: {used:.1f} ms a frame, all threads together: {2000 / used:.0f} frames/s of two idle cores")
    print(f"latency p50 · p90 · p99: server {percentiles(server)} ms, round trip {percentiles(round_trips)} ms")
    print("one thread: " + ", ".join(f"{part} {ms:.1f} ms ({ms / whole:.0%})" for part, ms in mean.items()))
    print(f"bare detector in one thread: {bare:.1f} frames/s; the whole server does {rate / bare:.2f} times as many")


if __name__ == "__main__":
    errors.run(main)
