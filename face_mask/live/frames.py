"""The binary message of a frame: a 12-byte header, then one encoded image.

The header is big-endian: the frame's number (uint32), which the answer repeats, and its time in seconds (float64) from
any origin. A time before the previous frame's means that the video was rewound.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from face_mask import decoding

HEADER = struct.Struct("!Id")
MAX_BYTES = 2 * 1024 * 1024  # of a message; the page's have about 60 kB
MAX_PIXELS = 1920 * 1080
FORMATS = ("JPEG", "PNG", "WEBP")


class BadFrame(ValueError):
    """An invalid frame; the message is the reason, for the client."""


@dataclass(frozen=True)
class Frame:
    number: int
    time: float  # seconds
    encoded: bytes


def parse(message: bytes) -> Frame:
    """Parse a binary message without decoding its image. Raises BadFrame if the header or the size is invalid."""
    if len(message) < HEADER.size:
        raise BadFrame(f"a frame starts with a header of {HEADER.size} bytes, got {len(message)}")
    number, time = HEADER.unpack_from(message)
    if not math.isfinite(time):
        raise BadFrame(f"the frame's time is {time}, not a finite number of seconds")
    if len(message) > MAX_BYTES:
        raise BadFrame(f"the frame has {len(message):,} bytes, more than the maximum of {MAX_BYTES:,}")
    return Frame(number, time, message[HEADER.size :])


def number_of(message: bytes) -> int | None:
    """The frame number of a message, valid or not, if it is long enough to have one."""
    return HEADER.unpack_from(message)[0] if len(message) >= HEADER.size else None


def decode(encoded: bytes) -> np.ndarray:
    """Decode a frame's image to RGB (h, w, 3) uint8. Raises BadFrame if it is invalid or has too many pixels."""
    try:
        width, height = decoding.open_header(encoded, FORMATS).size
        if width * height > MAX_PIXELS:
            raise BadFrame(f"the frame has {width}x{height} pixels, more than the maximum of {MAX_PIXELS:,}")
        return np.asarray(decoding.open_rgb(encoded)[0])
    except decoding.BadImage as error:
        raise BadFrame(f"the frame cannot be decoded: {error}") from None
