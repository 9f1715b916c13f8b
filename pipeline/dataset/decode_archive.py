"""Decoding of all images of an archive, on all cores or on Spark, into one packed array and a table."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from face_mask import decoding
from pipeline.core import cluster
from pipeline.core.parallel import ordered_map
from pipeline.dataset import packing, perceptual_hash
from pipeline.sources import archives

CHUNK_BYTES = 6 << 20  # of pixels that a worker decodes at a time: 128 images of 128×128
COLUMNS = ["content_hash", "perceptual_hash", "mirrored_hash", "width", "height", "format", "bad"]


@lru_cache(maxsize=1)
def open_archive(archive: Path, changed: int) -> zipfile.ZipFile:
    """Open an archive once in a process: reading its directory takes as long as decoding 60 images or more."""
    return zipfile.ZipFile(archive)


def decode_chunk(members: list[str], archive: Path, size: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Decode some members: pixels (k, size, size, 3) uint8, and a row of COLUMNS for each.

    An image that cannot be decoded is black, and its row has the reason in `bad`, which is empty otherwise.
    """
    pixels = np.zeros((len(members), size, size, 3), np.uint8)
    entries: list[dict] = []
    zf = open_archive(archive.resolve(), archive.stat().st_mtime_ns)
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


def decode_all(archive: Path, members: list[str], size: int, images_path: Path, shard_images: int = 0) -> pd.DataFrame:
    """Decode the members into the array at `images_path`, one row each. Returns a table with a row of COLUMNS each.

    See packing.write_array for `shard_images`.
    """
    tables: list[pd.DataFrame] = []
    chunk = max(1, CHUNK_BYTES // (3 * size**2))
    chunks = [members[i : i + chunk] for i in range(0, len(members), chunk)]
    decode = partial(decode_chunk, archive=archive, size=size)
    with (
        tqdm(total=len(members), unit="image", desc="decode", delay=1) as bar,
        cluster.ordered_map(decode, chunks, lambda: ordered_map(decode, chunks)) as results,
    ):

        def pixels() -> Iterator[np.ndarray]:
            for part, table in results:
                yield part
                tables.append(table)
                bar.update(len(table))

        packing.write_array(images_path, pixels(), len(members), shard_images)
    return pd.concat(tables, ignore_index=True)
