"""What the page sends, and what may be in it: 12 bytes, then one encoded picture.

The 12 bytes are big-endian: the frame's number (uint32), which comes back with the answer, and its time in seconds
(float64) from any zero, never less than the last frame's unless a film was wound back.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.data import decoding

HEADER = struct.Struct("!Id")
MAX_BYTES = 2 * 1024 * 1024  # of a frame; the page's have some 60 kB
MAX_PIXELS = 1920 * 1080
FORMATS = ("JPEG", "PNG", "WEBP")


class BadFrame(ValueError):
    """A frame that is not judged; the message says why, for the one who sent it."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True)
class Frame:
    number: int
    time: float  # seconds
    encoded: bytes


def parse(message: bytes) -> Frame:
    """A frame of a binary message, not yet decoded; BadFrame where it is cut off, too large, or has no time."""
    if len(message) < HEADER.size:
        raise BadFrame("a frame starts with its number and time, 12 bytes")
    number, time = HEADER.unpack_from(message)
    if not math.isfinite(time):
        raise BadFrame("the frame's time is no number of seconds", number)
    if len(message) > MAX_BYTES:
        raise BadFrame(f"the frame has {len(message):,} bytes, and {MAX_BYTES:,} are the most", number)
    return Frame(number, time, message[HEADER.size :])


def pixels(frame: Frame) -> np.ndarray:
    """The frame as (h, w, 3) uint8 RGB; BadFrame where it is none or too large, before it is decoded."""
    try:
        with decoding.only_bad_pictures(frame.encoded):
            width, height = Image.open(io.BytesIO(frame.encoded), formats=FORMATS).size
        if width * height > MAX_PIXELS:
            raise BadFrame(f"the frame has {width}x{height} pixels, and {MAX_PIXELS:,} are the most", frame.number)
        return np.asarray(decoding.open_rgb(frame.encoded)[0])
    except decoding.BadPicture as error:
        raise BadFrame(f"the frame is no picture: {error}", frame.number) from None
