"""Read live streams with FFmpeg (PyAV): RTSP and HTTP addresses, and cameras of this machine by number.

A thread of its own reads and decodes; whoever takes frames gets the newest one, and those in between are dropped. So
memory stays small and nothing lags behind, however long a frame's predictions take.
"""

from __future__ import annotations

import errno
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from face_mask.errors import UserError, printable
from face_mask.video import DECODER_OPTIONS, BadVideo, Frame, check_size

SCHEMES = ("rtsp", "rtsps")  # always a stream; http and https may also be an image
HTTP = ("http", "https")
# FFmpeg must open nothing but the stream itself: no file, and no playlist, which names further addresses.
PROTOCOLS = "rtsp,rtsps,rtp,rtcp,srtp,http,https,tcp,udp,tls,crypto,httpproxy"
HTTP_FORMATS = "mpjpeg,mjpeg,mpegts,flv,matroska,mov"
CONNECT_SECONDS = 10.0  # to connect and get the stream's description, and to get the first frame
SILENT_SECONDS = 10.0  # without a frame, after which the connection counts as lost
UNDECODED_SECONDS = 30.0  # of packets without a frame; some cameras send a key frame only every 20 s
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before reconnecting; doubled after each failure
CLOSE_SECONDS = 1.0  # to close the connection; the end of the program does not wait longer
GIVE_UP_SECONDS = 600.0  # without a frame, after which the stream counts as ended
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
SECRET = re.compile("pass|pwd|token|secret|key|auth", re.IGNORECASE)  # in the path of some cameras' addresses


class BadStream(Exception):
    """A stream that cannot be read; the message is the reason, in a few words, without the address."""


@dataclass(frozen=True)
class Source:
    """A camera of this machine, by its number, or the address of a stream."""

    location: int | str

    @property
    def name(self) -> str:
        """What may be printed: the address without user name, password and query."""
        if isinstance(self.location, int):
            return f"camera {self.location}"
        from face_mask import web  # it loads TLS, which cameras and files do not need

        scheme, separator, rest = web.redact(self.location).partition("://")
        if not separator:
            return scheme  # "an invalid address"
        host, _, path = rest.partition("/")
        return printable(f"{scheme}://{host}/{'…' if SECRET.search(path) else path}")


def parse(argument: str, http: bool) -> Source | None:
    """The stream that a command-line argument names, None if it names none.

    A number is a camera, unless a file has that name. With `http` an http or https address is a stream too.
    """
    if argument.isascii() and argument.isdigit() and len(argument) < 4 and not Path(argument).exists():
        return Source(int(argument))
    scheme = argument.partition("://")[0].lower() if "://" in argument else ""
    return Source(argument) if scheme in (*SCHEMES, *(HTTP if http else ())) else None


def read_frames(
    source: Source, interval: float, report: Callable[[str], None], limit: float = math.inf
) -> Iterator[Frame]:
    """The newest frame of a stream, again and again, at most one every `interval` seconds, for `limit` seconds.

    A frame's `seconds` is the time since the first frame by this machine's clock, its `number` counts the frames that
    arrived. A connection that is lost is made anew, after longer and longer waits; `report` gets one line when it is
    lost and one when it is back. Raises BadStream if the first connection fails, or without any frame for
    GIVE_UP_SECONDS.
    """
    reader = Reader(source, report)
    try:
        start = next_time = None
        while True:
            newest = reader.newest(math.inf if start is None else start + limit)
            if newest is None:
                return
            image, number, arrived = newest
            start = arrived if start is None else start
            yield Frame(to_array(image), number, arrived - start)
            if interval:
                next_time = max(arrived if next_time is None else next_time + interval, arrived)
                reader.stopped.wait(max(0.0, next_time + interval - time.monotonic()))
    finally:
        reader.stopped.set()
        reader.thread.join(CLOSE_SECONDS)


def to_array(frame: Any) -> np.ndarray:
    """An av.VideoFrame as an upright image (h, w, 3) uint8 RGB."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


class Reader:
    """A thread that reads a stream and keeps its newest frame."""

    def __init__(self, source: Source, report: Callable[[str], None]) -> None:
        self.source = source
        self.report = report
        self.changed = threading.Condition()
        self.frame: tuple[Any, int, float] | None = None  # av.VideoFrame, its number, and when it arrived
        self.failure: BaseException | None = None
        self.count = 0
        self.stopped = threading.Event()
        # A daemon: FFmpeg may wait for the network for SILENT_SECONDS, and the end of the program must not.
        self.thread = threading.Thread(target=self.run, name="stream", daemon=True)
        self.thread.start()

    def newest(self, end: float) -> tuple[Any, int, float] | None:
        """Wait for a frame that was not taken yet, and take it; None at `end`, a time of time.monotonic.

        Raises BadStream once the stream has ended.
        """
        with self.changed:
            while time.monotonic() < end:
                if self.frame is not None:
                    frame, self.frame = self.frame, None
                    return frame
                if self.failure is not None:
                    raise self.failure
                self.changed.wait(min(1.0, end - time.monotonic()))  # Windows delivers Ctrl-C only between waits
        return None

    def run(self) -> None:
        try:
            self.keep_reading()
        except BaseException as error:  # handed to the thread that takes the frames
            with self.changed:
                self.failure = error
                self.changed.notify_all()

    def keep_reading(self) -> None:
        """Read until `stopped`, and reconnect after each failure but the first. Raises BadStream as `read_frames`."""
        wait, last, lost = FIRST_WAIT, time.monotonic(), False
        while not self.stopped.is_set():
            reason = "the stream has ended"
            try:
                for frame in packets_to_frames(self.source, self.stopped):
                    if lost:
                        self.report(f"{self.source.name}: connected again")
                    wait, last, lost = FIRST_WAIT, time.monotonic(), False
                    with self.changed:
                        self.frame = frame, self.count, last
                        self.count += 1
                        self.changed.notify_all()
            except BadStream as error:
                reason = str(error)
            if self.stopped.is_set():
                return
            if not self.count:
                raise BadStream(reason)
            if time.monotonic() - last > GIVE_UP_SECONDS:
                raise BadStream(f"{reason}, and no frame for {GIVE_UP_SECONDS / 60:.0f} minutes")
            if not lost:
                self.report(f"{self.source.name}: {reason}; reconnecting until it is back")
            lost = True
            self.stopped.wait(wait)
            wait = min(LONGEST_WAIT, 2 * wait)


def packets_to_frames(source: Source, stopped: threading.Event) -> Iterator[Any]:
    """Open a stream and decode it until `stopped`: av.VideoFrame after av.VideoFrame. Raises BadStream."""
    import av
    import av.error

    seen, last = False, time.monotonic()
    try:
        with open_container(source) as container:
            if not container.streams.video:
                raise BadStream("it has no video")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadStream("its codec is not known")
            check_size(stream.width, stream.height)
            stream.codec_context.options = DECODER_OPTIONS
            stream.thread_type = "SLICE"  # threads for whole frames would delay each by several
            for packet in container.demux(stream):
                if stopped.is_set():
                    return
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    frames = []  # a packet that was damaged on its way; the picture recovers with the next key frame
                for frame in frames:
                    check_size(frame.width, frame.height)
                    seen, last = True, time.monotonic()
                    yield frame
                if time.monotonic() - last >= UNDECODED_SECONDS:
                    raise BadStream(f"no picture in what arrived for {UNDECODED_SECONDS:g} s")
    except BadVideo as error:
        raise BadStream(str(error)) from None
    except (av.error.FFmpegError, OSError) as error:
        # The error's text may have the address, with the password; strerror has not.
        limit = SILENT_SECONDS if seen else CONNECT_SECONDS
        if time.monotonic() - last >= limit:  # what FFmpeg reports then depends on where it was
            raise BadStream(f"no frame for {limit:g} s" if seen else f"no answer within {limit:g} s") from None
        if error.errno == errno.EINVAL and not isinstance(source.location, int):
            raise BadStream("it is not a stream of a known format; playlists are not opened") from None
        raise BadStream(error.strerror or type(error).__name__) from None


def open_container(source: Source) -> Any:
    """Open a stream. Raises FFmpegError, OSError, or UserError if a camera cannot be opened by its number here."""
    import av

    timeout = (CONNECT_SECONDS, SILENT_SECONDS)
    options = {**DECODER_OPTIONS, "protocol_whitelist": PROTOCOLS, "analyzeduration": "1000000", "fpsprobesize": "0"}
    if isinstance(source.location, int):
        form, location = camera(source.location)
        return av.open(location, "r", format=form, options=dict(DECODER_OPTIONS), timeout=timeout)
    if source.location.partition("://")[0].lower() in SCHEMES:
        # TCP first: over UDP lost packets smear the picture. Cameras that have only UDP still work.
        options |= {"rtsp_flags": "prefer_tcp", "allowed_media_types": "video"}
        return av.open(source.location, "r", format="rtsp", options=options, timeout=timeout)
    return av.open(source.location, "r", options=options | {"format_whitelist": HTTP_FORMATS}, timeout=timeout)


def camera(number: int) -> tuple[str, str]:
    """FFmpeg's format and location for a camera of this machine. Raises UserError if Windows has no such camera."""
    if sys.platform != "win32":
        form, location = CAMERAS.get(sys.platform, CAMERAS["linux"])
        return form, location.format(number)
    try:
        from av.device import enumerate_input_devices  # DirectShow has names, not numbers

        devices = [one for one in enumerate_input_devices("dshow") if "video" in one.media_types]
    except (ImportError, AttributeError):  # an earlier PyAV, or a build without FFmpeg's devices
        raise UserError("this PyAV cannot list cameras: run `pip install --upgrade av`") from None
    if number >= len(devices):
        names = ", ".join(f"{i} = {one.description}" for i, one in enumerate(devices)) or "none"
        raise UserError(f"there is no camera {number}: use one of these numbers: {names}")
    return "dshow", f"video={devices[number].name}"
