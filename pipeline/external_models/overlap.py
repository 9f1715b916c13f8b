"""Near-duplicates between a model's training images and the images that it is evaluated on.

The search is that of the stages `split` and `unseen_faces`: perceptual hashes, and whitened features of an image, of
its mirror image, of rotated ones and of its upper part.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

from face_mask import decoding
from face_mask.errors import UserError
from face_mask.schema import IMAGE_SUFFIXES
from pipeline.dataset import packing, perceptual_hash, similarity
from pipeline.dataset.cropped_set import Forward, Known
from pipeline.dataset.views import VIEWS
from pipeline.sources import archives, training_sources

BATCH = 64  # images at a time


def encoded_images(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every image in a folder or zip, whatever the folders in it. Raises UserError."""
    if not path.exists():
        raise UserError(f"{path} is missing: name the folder or zip of the training images")
    names = training_sources.files_below(path) if path.is_dir() else archives.file_names(path, str(path))
    names = [
        name
        for name in sorted(names)
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not archives.is_system_file(name)
    ]
    if not names:
        raise UserError(f"{path} has no images: name the folder or zip of the training images")
    bar = tqdm(names, desc="training images", unit="image", delay=1)
    if path.is_dir():
        yield from ((name, training_sources.read_image_file(path, name)) for name in bar)
        return
    with zipfile.ZipFile(path) as zf:
        for name in bar:
            try:
                content = archives.read_member(zf, name)
            except zipfile.BadZipFile:
                content = b""  # counted as undecodable
            yield name, content


def hashes_and_features(pixels: np.ndarray, forward: Forward | None) -> tuple[np.ndarray, np.ndarray]:
    """Of (n, s, s, 3) uint8: hashes (2, n) uint64 of the images and their mirror images, features (6, n, 1280).

    The features are (6, n, 0) without `forward`.
    """
    greys = np.stack([perceptual_hash.grey_thumbnail(image) for image in pixels])
    features = [forward(view(pixels)) if forward else np.empty((len(pixels), 0), np.float32) for view in VIEWS.values()]
    return np.stack(perceptual_hash.perceptual_hashes(greys)), np.stack(features)


def training_images(path: Path, ours: Known, size: int) -> tuple[Known, int]:
    """Hashes and descriptors of the images in a folder or zip, and how many of them cannot be decoded.

    `ours` has the backbone and the whitening, which were fitted on this project's images. Raises UserError if none can
    be decoded.
    """
    images = encoded_images(path)
    hashes, descriptors, undecodable = [], [], 0
    while batch := list(islice(images, BATCH)):
        pixels = []
        for _, encoded in batch:
            try:
                pixels.append(decoding.decode(encoded, size).pixels)
            except decoding.BadImage:
                undecodable += 1
        if not pixels:
            continue
        both, features = hashes_and_features(np.stack(pixels), ours.forward)
        hashes.append(both[0])
        if ours.whitenings:
            descriptors.append(similarity.describe(features, np.arange(len(pixels)), ours.whitenings))
    if not hashes:
        raise UserError(f"{path}: none of its images can be decoded: name the folder or zip of the training images")
    joined = similarity.Descriptors(*map(np.concatenate, zip(*descriptors, strict=True))) if descriptors else None
    return Known(np.concatenate(hashes), ours.whitenings, joined, ours.forward), undecodable


def describe_images(batches: Iterator[np.ndarray], forward: Forward | None) -> tuple[np.ndarray, np.ndarray]:
    """hashes (2, n, 1) and features (6, n, 1, …) of images, with the axes that cropped_set.near_duplicates takes."""
    parts = [hashes_and_features(pixels, forward) for pixels in batches]
    hashes, features = (np.concatenate(part, axis=1)[:, :, None] for part in zip(*parts, strict=True))
    return hashes, features


def in_order(paths: pd.Series, manifest: pd.DataFrame) -> np.ndarray:
    """Rows of the cropped faces of `manifest` that have these paths. Raises UserError if one is missing."""
    rows = manifest[manifest["row"] >= 0].set_index("path")["row"].reindex(paths)
    if rows.isna().any():
        raise packing.damaged("data/raw/unseen.zip", f"it has no {rows.index[rows.isna()][0]}", "unseen_download")
    return rows.to_numpy(np.int64)
