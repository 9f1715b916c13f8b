"""Decode image files to RGB arrays, and resize them to squares."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 50_000_000  # a larger image is refused as an attack or a mistake; it would take 150 MB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


class BadImage(ValueError):
    """A file that is not a complete image; the message is the reason, in a few words."""


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
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        width, height, kind = image.width, image.height, image.format
        if width * height > MAX_PIXELS:
            raise BadImage(f"{width}x{height} pixels are too many")
        if draft:
            image.draft("RGB", (draft, draft))
        return to_rgb(ImageOps.exif_transpose(image)), width, height, str(kind)


def format_of(encoded: bytes) -> str:
    """The format of an image by its bytes; the pixels are not decoded. Raises BadImage if they are not an image."""
    with only_bad_images(encoded):
        return str(Image.open(io.BytesIO(encoded), formats=FORMATS).format)


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
        raise BadImage(f"damaged: {error or type(error).__name__}") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; transparent parts become white, as in an image viewer."""
    if image.mode == "RGB":
        return image
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode.startswith(("I", "F")):  # 16-bit and float grey values: convert() would clip, not scale
        grey = np.asarray(image, np.float64)
        peak = max(grey.max(initial=0.0), 1.0)
        return Image.fromarray((grey * (255 / (65535 if peak > 255 else 255))).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    return image.convert("RGB")
