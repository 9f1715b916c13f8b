"""Decoding of all images of an archive, on all cores, into one packed array and a table."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from face_mask import decoding
from pipeline.core.parallel import ordered_map
from pipeline.dataset import packing, perceptual_hash
from pipeline.sources import archives

CHUNK = 64  # images that a worker decodes at a time: 3 MB of pixels at 128×128
COLUMNS = ["content_hash", "perceptual_hash", "mirrored_hash", "width", "height", "format", "bad"]


def decode_chunk(members: list[str], archive: Path, size: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Decode some members: pixels (k, size, size, 3) uint8, and a row of COLUMNS for each.

    An image that cannot be decoded is black, and its row has the reason in `bad`, which is empty otherwise.
    """
    pixels = np.zeros((len(members), size, size, 3), np.uint8)
    entries: list[dict] = []
    with zipfile.ZipFile(archive) as zf:
        for i, member in enumerate(members):
            try:
                image = decoding.decode(archives.read_member(zf, member), size)
            except (decoding.BadImage, zipfile.BadZipFile) as error:
                entries.append({"bad": str(error)})
                continue
            pixels[i] = image.pixels
            fields = ("content_hash", "width", "height", "format")
            entries.append({field: getattr(image, field) for field in fields} | {"bad": ""})
    hashes = perceptual_hash.perceptual_hashes(np.stack([perceptual_hash.grey_thumbnail(image) for image in pixels]))
    table = pd.DataFrame(entries, columns=COLUMNS)
    for column, values in zip(("perceptual_hash", "mirrored_hash"), hashes, strict=True):
        table[column] = [f"{value:016x}" for value in values]
    return pixels, table.astype({"width": "Int64", "height": "Int64"})


def decode_all(archive: Path, members: list[str], size: int, images_path: Path) -> pd.DataFrame:
    """Decode the members into the array at `images_path`, one row each. Returns a table with a row of COLUMNS each."""
    tables = []
    chunks = [members[i : i + CHUNK] for i in range(0, len(members), CHUNK)]
    with images_path.open("wb") as file, tqdm(total=len(members), unit="image", desc="decode", delay=1) as bar:
        packing.write_header(file, len(members), size)
        for pixels, table in ordered_map(partial(decode_chunk, archive=archive, size=size), chunks):
            file.write(pixels.tobytes())
            tables.append(table)
            bar.update(len(table))
    return pd.concat(tables, ignore_index=True)
