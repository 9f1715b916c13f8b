"""Films by FFmpeg (PyAV): their frames as arrays, and arrays as a film."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.error
import numpy as np

from pipeline import atomic
from pipeline.data.decoding import MAX_PIXELS
from pipeline.serve.inputs import Shot, Unreadable

# Play lists are left out: they make FFmpeg open whatever files and addresses they name.
FORMATS = "mov,matroska,avi,mpeg,mpegts,ogg,yuv4mpegpipe"
TOLERANCE = 1e-4  # seconds; times are multiples of something else than --every
TICK = Fraction(1, 90000)  # seconds; MPEG's


def frames(file: BinaryIO, every: float = 0) -> Iterator[Shot]:
    """A film's frames, upright, one each `every` seconds (0: all); Unreadable, perhaps midway, where it is damaged."""
    number, first, following = -1, 0.0, 0.0
    try:
        with av.open(file, "r", options={"format_whitelist": FORMATS}) as film:
            if not film.streams.video:
                raise Unreadable("no film: it has sound alone")
            stream = film.streams.video[0]
            stream.thread_type = "AUTO"
            length = film.duration / av.time_base if film.duration else 0.0
            for number, frame in enumerate(film.decode(stream)):
                if frame.width * frame.height > MAX_PIXELS:
                    raise Unreadable(f"{frame.width}x{frame.height} pixels are too many")
                time = number / float(stream.average_rate or 25) if frame.time is None else frame.time
                first = time if number == 0 else first
                seconds = max(0.0, time - first)
                if seconds < following - TOLERANCE:
                    continue
                if every:
                    following = ((seconds + TOLERANCE) // every + 1) * every
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                share = min(1.0, seconds / length) if length else 0.0
                yield Shot(np.ascontiguousarray(turned), number, seconds, share)
    except av.error.FFmpegError as error:
        kind = f"damaged after {number + 1} frames" if number >= 0 else "no film, or a damaged one"
        raise Unreadable(f"{kind} ({error.strerror or type(error).__name__})") from None
    if number < 0:
        raise Unreadable("a film without frames")


@contextmanager
def writing(path: Path) -> Iterator[Callable[[np.ndarray, float], None]]:
    """A function that appends a picture (h, w, 3) uint8 RGB, shown from these seconds on, to the MP4 at `path`.

    H.264, as wide and high as the first picture, rounded to even; whole, or not there at all. At least one is needed.
    """
    with atomic.replacing(path) as aside, av.open(str(aside), "w", format="mp4") as film:
        stream: Any = None
        last = -1

        def append(image: np.ndarray, seconds: float) -> None:
            nonlocal stream, last
            if stream is None:
                height, width = image.shape[:2]
                stream = film.add_stream("libx264", options={"crf": "20", "preset": "veryfast"})
                stream.width, stream.height = (max(2, side // 2 * 2) for side in (width, height))
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = TICK
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            last = max(last + 1, round(seconds / TICK))  # two frames of one time would not be taken
            frame.pts, frame.time_base = last, TICK
            film.mux(stream.encode(frame))

        yield append
        film.mux(stream.encode())
