"""Every kind of file in a class folder is decoded correctly, or rejected with a reason."""

from __future__ import annotations

import hashlib
import io
import os
import struct

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from face_mask import decoding
from tests.faults import made_images

RED, WHITE = (200, 30, 30), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """Red on the left, white on the right, 60×40."""
    image = Image.new("RGB", (60, 40), WHITE)
    image.paste(RED, (0, 0, 30, 40))
    return image.convert(mode)


def is_halves(pixels: np.ndarray, tolerance: int = 0) -> bool:
    left, right = pixels[:, :12].astype(int), pixels[:, -12:].astype(int)
    return bool(np.abs(left - RED).max() <= tolerance and np.abs(right - WHITE).max() <= tolerance)


def test_an_image_is_decoded_to_square_rgb_with_its_metadata():
    content = encoded(halves())
    image = decoding.decode(content, 32)
    assert image.pixels.shape == (32, 32, 3) and image.pixels.dtype == np.uint8
    assert is_halves(image.pixels)
    assert (image.width, image.height, image.format) == (60, 40, "PNG")
    assert image.content_hash == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        (encoded(halves().quantize(4)), 0),  # a palette, as some of Kaggle's files have
        (encoded(halves("RGBA")), 0),
        (encoded(halves(), "JPEG", quality=95, subsampling=0), 6),
        (encoded(halves("CMYK"), "JPEG", quality=95), 6),
        (encoded(halves(), "WEBP", lossless=True), 0),
        (encoded(halves(), "BMP"), 0),
        (encoded(halves().quantize(4), "GIF"), 0),
    ],
    ids=["palette", "rgba", "jpeg", "cmyk", "webp", "bmp", "gif"],
)
def test_every_encoding_gives_the_same_pixels(content, tolerance):
    assert is_halves(decoding.decode(content, 32).pixels, tolerance)


def test_transparent_parts_become_white():
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 20, 40))
    assert is_halves(decoding.decode(encoded(image), 32).pixels)
    palette = image.convert("P")
    pixels = decoding.decode(encoded(palette, transparency=palette.getpixel((39, 0))), 32).pixels
    assert (pixels[:, -12:] == 255).all()


def test_grey_images_keep_their_range():
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    pixels = decoding.decode(encoded(Image.fromarray(ramp)), 64).pixels
    assert pixels[0, 0, 0] == 0 and pixels[0, -1, 0] == 255
    assert abs(int(pixels[0, 32, 0]) - 130) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = halves()
    # What a camera stores: an image that is upright once it is transformed as the tag says.
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif.tobytes())
    assert is_halves(decoding.decode(content, 32).pixels, tolerance=6)


def test_a_large_jpeg_decodes_as_a_small_one():
    noise = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((2400, 2400), Image.Resampling.BICUBIC)
    quick = decoding.decode(encoded(large, "JPEG", quality=95), 64).pixels
    exact = np.asarray(large.resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(quick.astype(int) - exact).mean() < 3


whole = encoded(halves().resize((300, 300)), "JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>not an image</html>", "not an image"),
        (whole[: len(whole) // 2], "damaged"),
        (encoded(halves())[:60], "damaged"),
        (os.urandom(2000), "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),  # for which Pillow would start Ghostscript
    ],
    ids=["empty", "html", "cut jpeg", "cut png", "noise", "postscript"],
)
def test_a_file_that_is_not_an_image_has_a_reason(content, reason):
    with pytest.raises(decoding.BadImage, match=reason):
        decoding.decode(content, 32)


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    bomb = encoded(Image.new("1", (30_000, 30_000)))
    assert len(bomb) < 200_000
    with pytest.raises(decoding.BadImage, match="too many"):
        decoding.decode(bomb, 32)


def test_scans_are_limited_by_their_number_and_by_the_pixels_that_they_pass_over():
    with pytest.raises(decoding.BadImage, match="more than 100 scans"):
        decoding.decode(made_images.scan_bomb(101, 640, 480), 32)
    assert decoding.decode(made_images.scan_bomb(100, 640, 480), 32).width == 640
    with pytest.raises(decoding.BadImage, match="more than 33 scans"):
        decoding.decode(made_images.scan_bomb(34, 6700, 6700), 32)


def test_only_scans_of_the_image_itself_count():
    progressive = encoded(halves(), "JPEG", progressive=True, quality=95, subsampling=0)
    comment = b"\xff\xfe\x01\x90" + b"\xff\xda" * 199
    appended = progressive + b"\xff\xda\x00\x08" * 500  # as a phone appends a video
    for content in (progressive[:2] + comment + progressive[2:], appended):
        assert is_halves(decoding.decode(content, 32).pixels, 6)


def test_exif_data_in_many_segments_are_ignored():
    content = made_images.exif_bomb(large=3, small=200)
    assert (decoding.decode(content, 32).pixels == 255).all()


def test_damaged_exif_data_are_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6
    for offset, value in ((6, 0), (7, 1), (20, 99)):
        damaged = bytearray(exif.tobytes())
        damaged[offset] = value
        for kind in ("JPEG", "PNG", "WEBP"):
            rgb = decoding.open_rgb(encoded(halves(), kind, exif=bytes(damaged)))[0]
            assert sorted(rgb.size) == [40, 60]
    assert decoding.open_rgb(encoded(halves(), "PNG", exif=exif))[0].size == (40, 60)


@pytest.mark.parametrize(
    ("key", "text", "error"),
    [
        ("exif", "Exif\0\0nonsense", SyntaxError),
        ("exif", "Exif\0\0MM\0*\0\0", struct.error),
        ("Raw profile type exif", "\nexif\n 4\nnone", ValueError),
        ("xmp", "text, not bytes", TypeError),
    ],
)
def test_each_error_of_damaged_exif_data_is_ignored(key, text, error):
    info = PngInfo()
    info.add_text(key, text)
    content = encoded(halves(), pnginfo=info)
    with pytest.raises(error):
        Image.open(io.BytesIO(content)).getexif()
    assert is_halves(decoding.decode(content, 32).pixels)


def test_the_time_limit_also_ends_the_reading_of_exif_data(monkeypatch):
    def read_slowly(image):
        raise decoding.BadImage("takes too long to decode")

    monkeypatch.setattr(PngImageFile, "getexif", read_slowly)
    with pytest.raises(decoding.BadImage, match="too long"):
        decoding.decode(encoded(halves()), 32)


def test_a_png_with_a_wrong_checksum_is_used_if_only_that_of_the_exif_data_is_wrong():
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, good in ((b"eXIf", True), (b"IHDR", False)):
        content = bytearray(encoded(halves(), exif=exif))
        start = content.find(name)
        content[start + 4 + int.from_bytes(content[start - 4 : start], "big")] ^= 1
        if good:
            assert is_halves(decoding.decode(bytes(content), 32).pixels)
            assert decoding.format_of(bytes(content)) == "PNG"
        else:
            with pytest.raises(decoding.BadImage, match="not an image"):
                decoding.decode(bytes(content), 32)


def test_reading_is_limited_in_steps_and_time(monkeypatch):
    content = encoded(halves(), "JPEG", comment=b"x")
    for limit in ("MAX_READS", "MAX_SECONDS"):
        with monkeypatch.context() as patch, pytest.raises(decoding.BadImage, match="too long"):
            patch.setattr(decoding, limit, 0)
            decoding.decode(content, 32)


def test_an_array_in_strips_is_the_whole_array():
    image = halves().resize((3000, 1000))
    assert (decoding.to_array(image) == np.asarray(image)).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "F", "I", "I;16"])
def test_conversion_in_strips_is_that_of_the_whole_image(mode, monkeypatch):
    image = made_images.noise(100, 70, mode)
    if mode == "P":
        image.info["transparency"] = 0
    in_strips = []
    for pixels in (1 << 20, 1, 750):
        monkeypatch.setattr(decoding, "STRIP_PIXELS", pixels)
        in_strips.append(np.asarray(decoding.to_rgb(image)))
    assert (in_strips[0] == in_strips[1]).all() and (in_strips[0] == in_strips[2]).all()
