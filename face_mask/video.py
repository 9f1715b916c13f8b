"""Read the frames of a video file as arrays, and write arrays as a video, with FFmpeg (PyAV)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from face_mask import files
from face_mask.decoding import MAX_PIXELS

# PyAV is imported where it is used: `predict` on an image need not load FFmpeg.

# Playlists are not allowed: FFmpeg would open whatever files and addresses they name.
FORMATS = "mov,matroska,avi,mpeg,mpegts,ogg,yuv4mpegpipe"
DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
DEFAULT_FPS = 25  # for a stream without timestamps that states no frame rate
TOLERANCE = 1e-4  # seconds; a frame's time is rarely an exact multiple of the interval
TICK = Fraction(1, 90000)  # seconds; the time base of MPEG


class BadVideo(ValueError):
    """A file that is not a video, or is damaged; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Frame:
    """A frame of a video, or a still image."""

    image: np.ndarray  # (h, w, 3) uint8 RGB, upright
    number: int | None = None  # in the video, from 0; None for a still image
    seconds: float | None = None  # since the video's first frame; None for a still image
    progress: float = 0.0  # fraction of the video up to here, 0 if its length is unknown


def read_frames(file: BinaryIO, interval: float = 0) -> Iterator[Frame]:
    """The frames of a video, upright, one every `interval` seconds, or all of them if it is 0.

    Raises BadVideo if the file is not a video, or once it has reached a damaged part.
    """
    import av
    import av.error

    number, start, next_time = -1, 0.0, 0.0
    try:
        # FFmpeg decodes the first frames already when it opens the file.
        with av.open(file, "r", options={"format_whitelist": FORMATS, **DECODER_OPTIONS}) as container:
            if not container.streams.video:
                raise BadVideo("not a video: it has only sound")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadVideo("its codec is not known")
            check_size(stream.width, stream.height)  # before anything is decoded; FFmpeg checks each frame
            stream.codec_context.options = DECODER_OPTIONS
            stream.thread_type = "AUTO"
            duration = container.duration / av.time_base if container.duration else 0.0
            for number, frame in enumerate(container.decode(stream)):
                check_size(frame.width, frame.height)
                time = number / float(stream.average_rate or DEFAULT_FPS) if frame.time is None else frame.time
                start = time if number == 0 else start
                seconds = max(0.0, time - start)
                if seconds < next_time - TOLERANCE:
                    continue
                if interval:
                    next_time = ((seconds + TOLERANCE) // interval + 1) * interval
                upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                progress = min(1.0, seconds / duration) if duration else 0.0
                yield Frame(np.ascontiguousarray(upright), number, seconds, progress)
    except (av.error.FFmpegError, OSError) as error:
        # EINVAL: a cut or hostile file sends FFmpeg to an offset before its start, which Python refuses.
        if not isinstance(error, av.error.FFmpegError) and error.errno != errno.EINVAL:
            raise
        unreadable = f"not a video, damaged, or of more than {MAX_PIXELS // 10**6} megapixels"
        reason = f"damaged after {number + 1} frames" if number >= 0 else unreadable
        raise BadVideo(f"{reason} ({error.strerror or type(error).__name__})") from None
    if number < 0:
        raise BadVideo("a video without frames")


def check_size(width: int, height: int) -> None:
    """Raise BadVideo for a frame of more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise BadVideo(f"{width}x{height} pixels are too many")


class Output:
    """A file for FFmpeg, which would hide why a write failed and fail once more when it is closed.

    After a failed write nothing more is written, and `check` raises the OSError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        return self.attempt(lambda: self.file.write(data), len(data))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.attempt(lambda: self.file.seek(offset, whence), offset)

    def tell(self) -> int:
        return self.attempt(self.file.tell, 0)

    def attempt(self, act: Callable[[], int], otherwise: int) -> int:
        if self.error is None:
            try:
                return act()
            except OSError as error:
                self.error = error
        return otherwise

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@contextmanager
def writer(path: Path) -> Iterator[Callable[[np.ndarray, float], None]]:
    """A function that appends an image (h, w, 3) uint8 RGB, shown from the given seconds on, to the MP4 file `path`.

    H.264, in the size of the first image, rounded down to even numbers. The file is complete, or not created at all;
    it needs at least one image.
    """
    import av

    with files.replacing(path) as aside, aside.open("wb") as file:
        output = Output(file)
        stream: Any = None
        last = -1

        def append(image: np.ndarray, seconds: float) -> None:
            nonlocal stream, last
            if stream is None:
                height, width = image.shape[:2]
                stream = container.add_stream("libx264", options={"crf": "20", "preset": "veryfast"})
                stream.width, stream.height = (max(2, side // 2 * 2) for side in (width, height))
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = TICK
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            last = max(last + 1, round(seconds / TICK))  # FFmpeg refuses two frames with the same time
            frame.pts, frame.time_base = last, TICK
            container.mux(stream.encode(frame))
            output.check()

        with av.open(output, "w", format="mp4") as container:
            yield append
            container.mux(stream.encode())
        output.check()
