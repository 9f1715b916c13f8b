"""Decode image files to RGB arrays, and resize them to squares.

A hostile file holds neither a thread nor the memory for long: its pixels, scans and blocks are limited before they are
decoded, and reading it is limited in steps and processor time. 50 megapixels take 250 to 700 MB, as WebP 900 MB, and
up to three seconds.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from face_mask.errors import printable

MAX_PIXELS = 50_000_000  # a larger image is refused as an attack or a mistake; it would take 200 MB
# Of a JPEG; libjpeg writes 10, other encoders up to about 20. libtiff allows 100.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 30 * MAX_PIXELS  # scans times pixels: a scan of MAX_PIXELS may take 0.1 s
MAX_BLOCK_BYTES = 4 * MAX_PIXELS  # of a TIFF's strip or tile, which is decoded as a whole
MAX_TIFF_VALUES = 200_000  # of one tag; Pillow makes objects of some 100 bytes of each
MAX_READS = 1_000_000  # by Pillow's parsers; a 64 MB PNG of 8 kB pieces has 40,000
MAX_SECONDS = 10  # of processor time, which a busy machine does not change
MAX_EXIF_BYTES = 4 << 20  # larger EXIF data are ignored: each value becomes an object
MAX_EXIF_SEGMENTS = 100  # Pillow joins them in quadratic time
STRIP_PIXELS = 1 << 20  # converted at a time
IMAGE_WIDTH, IMAGE_HEIGHT, BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, ROWS_PER_STRIP = 256, 257, 258, 277, 278  # TIFF tags
TILE_WIDTH, TILE_HEIGHT = 322, 323
BYTE_TYPES = (1, 2, 7)  # of TIFF values, which stay one object
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
JPEG, PNG = b"\xff\xd8", b"\x89PNG"  # how files begin
START_OF_SCAN, END_OF_IMAGE, EXIF = b"\xff\xda", b"\xff\xd9", b"Exif\0\0"
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG segment with a length, or of the image's end
UPRIGHT: dict[object, Image.Transpose] = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(ValueError):
    """A file that is not a complete image; the message is the reason, in a few words."""


class LimitedReader(io.BytesIO):
    """The bytes of an image; reading raises BadImage after MAX_READS calls or MAX_SECONDS of processor time."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__(encoded)
        self.reads = 0
        self.deadline = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        # The clock takes a microsecond, so that most of the small reads of headers do without.
        look = size is None or not 0 <= size < 4096 or self.reads % 32 == 0
        if self.reads > MAX_READS or (look and time.thread_time() > self.deadline):
            raise BadImage("takes too long to decode")
        return super().read(size)


@dataclass(frozen=True)
class DecodedImage:
    pixels: np.ndarray  # (size, size, 3) uint8, RGB
    width: int  # of the encoded image, in pixels
    height: int
    format: str  # by its bytes, whatever its file name
    content_hash: str  # SHA-256 of the encoded bytes


def decode(encoded: bytes, size: int) -> DecodedImage:
    """Decode one image to `size`×`size` RGB: EXIF orientation applied, transparency on white, aspect ratio ignored.

    The published notebooks ignore the aspect ratio as well; cropping instead could cut off part of the face.
    Raises BadImage as `open_rgb` does.
    """
    # A JPEG decodes at 1/2, 1/4 or 1/8 of its size for free; at least twice the target size is kept.
    rgb, width, height, kind = open_rgb(encoded, draft=2 * size)
    return DecodedImage(to_square(rgb, size), width, height, kind, hashlib.sha256(encoded).hexdigest())


def to_square(rgb: Image.Image, size: int) -> np.ndarray:
    """Resize an RGB image of any shape to (size, size, 3) uint8."""
    return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR))


def open_rgb(encoded: bytes, draft: int | None = None) -> tuple[Image.Image, int, int, str]:
    """Decode an image to RGB, upright; returns it with the width, height and format as encoded.

    With `draft` the result may be downscaled, to no less than `draft` pixels a side.

    Raises BadImage if the bytes are not an image, are damaged or truncated, or hold more than MAX_PIXELS.
    """
    with only_bad_images(encoded):
        image = open_header(encoded)
        width, height, kind = image.width, image.height, image.format
        check_scans(image, encoded)
        if draft:
            image.draft("RGB", (draft, draft))
        return to_rgb(upright(image)), width, height, str(kind)


def open_header(encoded: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Read an image's header, not its pixels. Raises BadImage if it is not an image or has more than MAX_PIXELS."""
    with only_bad_images(encoded):
        check_tiff(encoded)
        crowded = encoded.startswith(JPEG) and encoded.count(EXIF) > MAX_EXIF_SEGMENTS
        readable = without_exif(encoded) if crowded else encoded
        try:
            image = Image.open(LimitedReader(readable), formats=formats)
        except Image.UnidentifiedImageError:
            # Pillow takes the resolution from the EXIF data of a JPEG, and fails where that is damaged. It refuses a
            # PNG whose EXIF data have another checksum.
            readable = without_exif(encoded)
            if readable == encoded:
                raise
            image = Image.open(LimitedReader(readable), formats=formats)
        if image.width * image.height > MAX_PIXELS:
            raise BadImage(f"{image.width}x{image.height} pixels are too many")
        return image


def without_exif(encoded: bytes) -> bytes:
    """The same JPEG with its EXIF data marked as something else, which Pillow skips; or the same PNG without them."""
    if encoded.startswith(PNG):
        before, _, after = encoded.partition(b"eXIf")
        length = int.from_bytes(before[-4:], "big")
        return before[:-4] + after[length + 4 :] if after else encoded
    return encoded.replace(EXIF, b"none\0\0") if encoded.startswith(JPEG) else encoded


def check_scans(image: Image.Image, encoded: bytes) -> None:
    """Raise BadImage if a JPEG, or a TIFF of JPEG data, has so many scans that decoding takes long."""
    if image.format == "JPEG" or image.format == "MPO":
        pixels = image.width * image.height
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        pixels, block_bytes = tiff_block(image)
        if block_bytes > MAX_BLOCK_BYTES:
            raise BadImage(f"a strip or tile of {block_bytes >> 20} MB is too large")
        if "jpeg" not in str(image.info.get("compression")):
            return
    else:
        return
    allowed = MAX_SCANNED_PIXELS // max(pixels, 1)
    if image.format != "TIFF":
        allowed = min(allowed, MAX_SCANS)
    # Metadata and appended files may contain the two bytes by chance: then the segments are followed.
    if encoded.count(START_OF_SCAN) > allowed and (image.format == "TIFF" or has_more_scans(encoded, allowed)):
        raise BadImage(f"more than {allowed} scans are too many")


def has_more_scans(encoded: bytes, allowed: int) -> bool:
    """Whether libjpeg, which reads up to the image's end, would decode more than `allowed` scans of a JPEG."""
    position = 2
    for _ in range(MAX_READS):
        marker = MARKER.search(encoded, position)
        if marker is None or marker[0] == END_OF_IMAGE:
            return False
        allowed -= marker[0] == START_OF_SCAN
        if allowed < 0:
            return True
        position = marker.end() + int.from_bytes(encoded[marker.end() : marker.end() + 2], "big")
    return True


def check_tiff(encoded: bytes) -> None:
    """Raise BadImage if a tag of a TIFF's first image has more than MAX_TIFF_VALUES values."""
    order = {b"II": "<", b"MM": ">"}.get(encoded[:2])
    if order is None or len(encoded) < 16:
        return
    large = encoded[2] == 43  # BigTIFF, as Pillow decides it
    (start,) = struct.unpack_from(f"{order}Q" if large else f"{order}I", encoded, 8 if large else 4)
    count_size, entry = (8, f"{order}HHQQ") if large else (2, f"{order}HHII")
    entries = encoded[start + count_size : start + count_size + 65535 * struct.calcsize(entry)]
    (count,) = struct.unpack_from(f"{order}Q" if large else f"{order}H", encoded, start)
    whole = len(entries) // struct.calcsize(entry)
    tags = struct.iter_unpack(entry, entries[: min(count, whole) * struct.calcsize(entry)])
    if any(values > MAX_TIFF_VALUES and kind not in BYTE_TYPES for _, kind, values, _ in tags):
        raise BadImage(f"a TIFF tag of more than {MAX_TIFF_VALUES} values is too large")


def tiff_block(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """Pixels and bytes of a strip or tile of a TIFF, the largest piece that is decoded at once."""
    tags = image.tag_v2
    width, height = tags.get(TILE_WIDTH, tags[IMAGE_WIDTH]), tags.get(TILE_HEIGHT, 0)
    height = height or min(tags.get(ROWS_PER_STRIP, tags[IMAGE_HEIGHT]), tags[IMAGE_HEIGHT])
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    return width * height, width * height * max(bits) * tags.get(SAMPLES_PER_PIXEL, len(bits)) // 8


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. Damaged EXIF data are ignored: the pixels are good.

    ImageOps.exif_transpose also rewrites the EXIF data, which fails where any of them are damaged.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        for group in TiffTags.TAGS_V2_GROUPS:  # Pillow would load them, however large, and they are not needed
            image.getexif().pop(group, None)
    image.load()
    if len(image.info.get("exif", b"")) > MAX_EXIF_BYTES:
        return image
    try:
        method = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except BadImage:  # of the time limit; it is a ValueError
        raise
    # What fuzzing raised: of an unknown byte order, data that are cut, and those in the text of a PNG.
    except (SyntaxError, struct.error, ValueError, TypeError):
        return image
    return image if method is None else image.transpose(method)


def format_of(encoded: bytes) -> str:
    """The format of an image by its bytes; the pixels are not decoded. Raises BadImage if they are not an image."""
    with only_bad_images(encoded):
        return str(open_header(encoded).format)


@contextmanager
def only_bad_images(encoded: bytes) -> Iterator[None]:
    """Turn whatever Pillow raises on these bytes into a BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about EXIF and palettes; only the pixels matter
            yield
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage("too many pixels") from None
    except Image.UnidentifiedImageError:
        raise BadImage("not an image" if encoded else "empty file") from None
    # Pillow's decoders raise many types on damaged files (OSError, SyntaxError, struct.error, …).
    except Exception as error:
        raise BadImage(printable(f"damaged: {error or type(error).__name__}")) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; transparent parts become white, as in an image viewer."""
    if image.mode == "RGB":
        return image
    convert: Callable[[Image.Image], Image.Image]
    if "A" in image.getbands() or "transparency" in image.info:
        convert = on_white
    elif image.mode.startswith(("I", "F")):  # 16-bit and float grey values: convert() would clip, not scale
        peak = np.max([np.asarray(strip, np.float64).max() for _, strip in strips(image)])
        convert = partial(scaled, scale=255 / (65535 if peak > 255 else 255))
    else:
        return image.convert("RGB")
    # In strips: the intermediate images would take four to eight times the memory of the result.
    rgb = Image.new("RGB", image.size)
    for top, strip in strips(image):
        rgb.paste(convert(strip).convert("RGB"), (0, top))
    return rgb


def on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def scaled(grey: Image.Image, scale: float) -> Image.Image:
    return Image.fromarray((np.asarray(grey, np.float64) * scale).clip(0, 255).astype(np.uint8))


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in horizontal strips of about STRIP_PIXELS, each with its top."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def to_array(rgb: Image.Image) -> np.ndarray:
    """The pixels (h, w, 3) uint8 of an RGB image. np.asarray would hold them twice meanwhile."""
    array = np.empty((rgb.height, rgb.width, 3), np.uint8)
    for top, strip in strips(rgb):
        array[top : top + strip.height] = np.asarray(strip)
    return array
