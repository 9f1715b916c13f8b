"""Encoded pictures to square RGB arrays: decoded once, here, and nowhere else."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 50_000_000  # a larger picture is taken for an attack or a mistake; it would need 150 MB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


class BadPicture(ValueError):
    """A file that is no whole picture; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Picture:
    pixels: np.ndarray  # (size, size, 3) uint8, RGB
    width: int  # of the encoded picture, in pixels
    height: int
    format: str  # as its bytes say, whatever its name says
    content_hash: str  # SHA-256 of the encoded bytes


def decode(encoded: bytes, size: int) -> Picture:
    """Decode one picture to `size`×`size` RGB: EXIF orientation applied, transparency laid on white, sides squashed.

    Squashing, not cropping, is what the published notebooks do, and keeps the whole face in every picture.
    Raises BadPicture as `open_rgb` does.
    """
    # A JPEG decodes at 1/2, 1/4 or 1/8 of its size for free, as long as twice the wanted size is left.
    rgb, width, height, kind = open_rgb(encoded, draft=2 * size)
    return Picture(to_square(rgb, size), width, height, kind, hashlib.sha256(encoded).hexdigest())


def to_square(rgb: Image.Image, size: int) -> np.ndarray:
    """An RGB picture of any shape to (size, size, 3) uint8."""
    return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR))


def open_rgb(encoded: bytes, draft: int | None = None) -> tuple[Image.Image, int, int, str]:
    """The picture as RGB, upright, and width, height and format as encoded; with `draft` perhaps smaller, at least so.

    Raises BadPicture where the bytes are no picture, a broken or cut-off one, or one of more than MAX_PIXELS.
    """
    with only_bad_pictures(encoded):
        picture = Image.open(io.BytesIO(encoded), formats=FORMATS)
        width, height, kind = picture.width, picture.height, picture.format
        if width * height > MAX_PIXELS:
            raise BadPicture(f"{width}x{height} pixels are too many")
        if draft:
            picture.draft("RGB", (draft, draft))
        return to_rgb(ImageOps.exif_transpose(picture)), width, height, str(kind)


def format_of(encoded: bytes) -> str:
    """A picture's format as its bytes say; BadPicture where they are none. The pixels are not looked at."""
    with only_bad_pictures(encoded):
        return str(Image.open(io.BytesIO(encoded), formats=FORMATS).format)


@contextmanager
def only_bad_pictures(encoded: bytes) -> Iterator[None]:
    """Whatever Pillow raises on these bytes becomes a BadPicture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts about EXIF and palettes; the pixels are what counts
            yield
    except BadPicture:
        raise
    except Image.DecompressionBombError:
        raise BadPicture("too many pixels") from None
    except Image.UnidentifiedImageError:
        raise BadPicture("no picture" if encoded else "empty file") from None
    # Pillow's decoders raise a zoo of types on damaged files (OSError, SyntaxError, struct.error, …).
    except Exception as error:
        raise BadPicture(f"damaged: {error or type(error).__name__}") from None


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to RGB; transparent parts become white, as a viewer shows them."""
    if picture.mode == "RGB":
        return picture
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if picture.mode.startswith(("I", "F")):  # 16-bit and float greys: convert() would clip, not scale
        grey = np.asarray(picture, np.float64)
        top = max(grey.max(initial=0.0), 1.0)
        return Image.fromarray((grey * (255 / (65535 if top > 255 else 255))).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    return picture.convert("RGB")
