"""Images that take long or much memory to decode, and images of every format to damage."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

SIDE = 7071  # squared 50 megapixels, just below the limit
# Mode, format and options: everything that Pillow opens in the formats that are accepted.
LARGE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("RGB", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    ("CMYK", "JPEG", {"progressive": True, "quality": 60}),
    ("L", "JPEG", {}),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("LA", "PNG", {}),
    ("P", "PNG", {"transparency": 0}),
    ("1", "PNG", {}),
    ("I;16", "PNG", {}),
    ("RGB", "WEBP", {"method": 0}),
    ("RGBA", "WEBP", {"method": 0}),
    ("P", "GIF", {}),
    ("P", "BMP", {}),
    ("F", "TIFF", {"compression": "tiff_lzw"}),
    ("I", "TIFF", {"compression": "tiff_lzw"}),
    ("CMYK", "TIFF", {"compression": "tiff_lzw"}),
    ("RGBA", "TIFF", {"compression": "tiff_lzw", "strip_size": 1 << 30}),
    ("RGB", "TIFF", {"compression": "jpeg", "quality": 50}),
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A tile of noise, repeated: it takes time to decode, and compresses."""
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    pixels = np.tile(tile, (height // 64 + 1, width // 64 + 1, 1))[:height, :width]
    depths = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    if mode in depths:
        return Image.fromarray(pixels[..., 0].astype(depths[mode]) * depths[mode](250))
    return Image.fromarray(pixels).convert(mode)


def large_images() -> Iterator[tuple[str, bytes]]:
    """A name and an image of 50 megapixels for each of LARGE."""
    for number, (mode, kind, options) in enumerate(LARGE):
        yield f"{number:02d}_{mode.replace(';', '')}.{kind.lower()}", encoded(noise(SIDE, SIDE, mode), kind, **options)


def segments(jpeg: bytes) -> tuple[list[bytes], bytes]:
    """The segments of a JPEG before its first scan, and the header of that scan."""
    found, position = [jpeg[:2]], 2
    while True:
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        if jpeg[position + 1] == 0xDA:
            return found, jpeg[position:end]
        found.append(jpeg[position:end])
        position = end


def scan_bomb(scans: int, width: int, height: int) -> bytes:
    """A progressive JPEG of 11 bytes per scan, each of which takes libjpeg a pass over all blocks."""
    found, first_scan = segments(encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True, subsampling=0))
    found = [one[:5] + struct.pack(">HH", height, width) + one[9:] if one[1] == 0xC2 else one for one in found]
    only_end_of_block = b"\xff\xc4\x00\x14\x10\x01" + bytes(15) + b"\0"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00"  # all AC coefficients of the first component
    return b"".join(found) + only_end_of_block + first_scan + b"\0" + scan * (scans - 1) + b"\xff\xd9"


def exif_bomb(large: int, small: int) -> bytes:
    """A JPEG of some large EXIF segments and then many small ones, which Pillow joins one by one."""
    jpeg = encoded(Image.new("RGB", (64, 64), "white"), "JPEG")
    sizes = [65000] * large + [1] * small
    joined = b"".join(b"\xff\xe1" + struct.pack(">H", size + 8) + b"Exif\0\0" + bytes(size) for size in sizes)
    return jpeg[:2] + joined + jpeg[2:]


def tiff(tags: dict[int, tuple[int, list[int]]], data: bytes = b"") -> bytes:
    """A TIFF of these tags: tag → type (3 short, 4 long) and values. `data` starts at byte 8."""
    values_at = 8 + len(data) + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        field = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", values_at + len(values))
        values += packed if len(packed) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + field
    header = b"II*\0" + struct.pack("<I", 8 + len(data))
    return header + data + struct.pack("<H", len(tags)) + entries + bytes(4) + values


def tile_bomb() -> bytes:
    """A TIFF of 10x10 pixels in one tile of 20,000x20,000 pixels of 8 bytes, empty when unpacked."""
    import zlib

    packed = zlib.compress(bytes(30_000_000), 9)
    shorts = {258: [16] * 4, 259: [8], 262: [2], 277: [4], 338: [2]}
    longs = {256: [10], 257: [10], 322: [20_000], 323: [20_000], 324: [8], 325: [len(packed)]}
    return tiff({tag: (3, v) for tag, v in shorts.items()} | {tag: (4, v) for tag, v in longs.items()}, packed)


def strips_bomb(strips: int) -> bytes:
    """A TIFF that states where millions of strips are: each becomes several objects of Python."""
    longs = {256: [10], 257: [10], 258: [8], 259: [1], 262: [1], 273: [8] * strips, 278: [1], 279: [10] * strips}
    return tiff({tag: (4, values) for tag, values in longs.items()}, bytes(100))


def corpus() -> list[bytes]:
    """Small images of every format, mode and compression, some with EXIF data."""
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "maker", 0x011A: 72.0, 0x011B: 72.0, 0x0128: 2})
    small = {mode: noise(40, 24, mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I", "F")}
    wanted: list[Any] = [
        *[("JPEG", mode, options) for mode in ("RGB", "L", "CMYK") for options in ({}, {"progressive": True})],
        *[("JPEG", "RGB", {"exif": exif}), ("JPEG", "RGB", {"restart_marker_blocks": 1, "comment": b"comment"})],
        *[("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
        *[("PNG", "P", {"transparency": 0}), ("PNG", "RGB", {"exif": exif})],
        *[("WEBP", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (False, True)],
        *[("WEBP", "RGB", {"exif": exif}), ("WEBP", "RGB", {"save_all": True, "append_images": [small["RGBA"]]})],
        *[("BMP", mode, {}) for mode in ("RGB", "RGBA", "L", "P", "1")],
        *[("GIF", "P", {}), ("GIF", "P", {"save_all": True, "append_images": [small["L"]], "comment": "comment"})],
        *[("TIFF", mode, {}) for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "I", "F")],
        *[("TIFF", "RGB", {"compression": one}) for one in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")],
        ("TIFF", "1", {"compression": "group4"}),
    ]
    return [encoded(small[mode], kind, **options) for kind, mode, options in wanted]
