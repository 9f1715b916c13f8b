"""The unseen faces cropped into one array, and which of them are near-duplicates of training or validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from face_mask.errors import printable
from pipeline.core.parallel import ordered_map
from pipeline.dataset import face_crops, packing, perceptual_hash, similarity, unseen
from pipeline.dataset.views import VIEWS
from pipeline.sources import annotated_images, annotation_files

FACES_AT_ONCE = 16  # whose views are described together
THREADS = 2  # batches that the backbone computes at once

Forward = Callable[[np.ndarray], np.ndarray]  # (b, s, s, 3) uint8 to (b, 1280) float32


class Known(NamedTuple):
    """Hashes and features of the training and validation images, of which no unseen face may be a near-duplicate."""

    hashes: np.ndarray  # (m,) uint64
    whitenings: tuple[similarity.Whitening, similarity.Whitening] | None  # None with too few images to estimate them
    descriptors: similarity.Descriptors | None
    forward: Forward | None


def known_images(manifest: pd.DataFrame, image_size: int, seed: int) -> Known:
    """Collect the hashes and features of the images in the manifest's training and validation splits.

    `seed` gives the backbone the same weights as in the stage `features` where they are random.
    """
    rows = manifest[manifest["split"].isin(["train", "val"])]
    hashes = np.array([int(value, 16) for value in rows["perceptual_hash"]], np.uint64)
    every = manifest.loc[manifest["row"] >= 0, "row"].to_numpy()
    if len(every) < similarity.MIN_IMAGES:
        return Known(hashes, None, None, None)
    # They import TensorFlow, which the worker processes do not need.
    from pipeline.models import mobilenet, pooled_features
    from pipeline.training import fit

    fit.make_repeatable(seed)
    features = packing.open_view_features()
    whitenings = similarity.fit_whitenings(features, every)
    descriptors = similarity.describe(features, rows["row"].to_numpy(), whitenings)
    return Known(
        hashes, whitenings, descriptors, pooled_features.forward_function(mobilenet.starting_backbone(image_size))
    )


def crop_all(
    contents: annotated_images.Contents,
    archive: Path,
    images_path: Path,
    forward: Forward | None,
    size: int,
    margin: float,
    min_face: int,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Crop all faces into the array at `images_path`.

    Returns the manifest; the perceptual hashes (2, n, 4) uint64 of the n cropped faces' views and of their mirror
    images; and the features (6, n, 4, 1280) float32 of views.VIEWS of each, (6, n, 4, 0) without `forward`.
    """
    crop = partial(face_crops.crop_faces, archive=archive, size=size, margin=margin, min_face=min_face)
    rows: list[dict] = []
    waiting: list[np.ndarray] = []
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    with images_path.open("wb") as file:
        packing.write_header(file, 0, size)
        bar = tqdm(contents.images, unit="image", desc="crop", delay=1)
        for annotated, (pixels, views, described) in zip(bar, ordered_map(crop, contents.images), strict=True):
            for reason in sorted({row.pop("reason") for row in described if "reason" in row}):
                print(f"left out: {printable(annotated.name)}: {reason}")
            rows += described
            file.write(pixels.tobytes())
            waiting += [views] if len(views) else []
            if sum(map(len, waiting)) >= FACES_AT_ONCE:
                parts.append(describe_views(np.concatenate(waiting), forward))
                waiting.clear()
        if waiting:
            parts.append(describe_views(np.concatenate(waiting), forward))
        hashes = np.concatenate([np.empty((2, 0, face_crops.VIEWS), np.uint64), *(one for one, _ in parts)], axis=1)
        file.seek(0)  # NumPy leaves room in the header for the first axis to grow
        packing.write_header(file, hashes.shape[1], size)
    manifest = pd.DataFrame(rows, columns=[column for column in unseen.COLUMNS if column != "row"])
    cropped = manifest["split"] == unseen.UNSEEN
    none = np.empty((len(VIEWS), 0, face_crops.VIEWS, 0), np.float32)
    features = np.concatenate([one for _, one in parts] or [none], axis=1)
    return manifest.assign(row=np.where(cropped, cropped.cumsum() - 1, -1)), hashes, features


def describe_views(views: np.ndarray, forward: Forward | None) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (2, k, 4) and features (6, k, 4, 1280) of k faces' views (k, 4, s, s, 3); see crop_all.

    Equal views are computed once: all faces of an image share the whole image.
    """
    flat = views.reshape(-1, *views.shape[2:])
    numbers: dict[bytes, int] = {}
    index = [numbers.setdefault(view.tobytes(), len(numbers)) for view in flat]
    distinct = flat[np.unique(index, return_index=True)[1]]
    hashes = np.stack(perceptual_hash.perceptual_hashes(np.stack([*map(perceptual_hash.grey_thumbnail, distinct)])))
    features = np.empty((len(VIEWS), len(distinct), 0), np.float32)
    if forward:
        with ThreadPoolExecutor(THREADS) as threads:
            features = np.stack(list(threads.map(lambda view: forward(view(distinct)), VIEWS.values())))
    shape = views.shape[:2]
    return hashes[:, index].reshape(2, *shape), features[:, index].reshape(len(VIEWS), *shape, features.shape[2])


def near_duplicates(
    paths: pd.Series,
    hashes: np.ndarray,
    features: np.ndarray,
    known: Known,
    hash_distance: int,
    thresholds: Mapping[str, float],
) -> tuple[np.ndarray, dict[str, int]]:
    """Find the faces of images that have a near-duplicate among the known ones: (n,) bool, and counts by method.

    It is enough that one face of the image, or a wider crop of one, is a near-duplicate: the photograph is the same.
    """
    by_hash = np.zeros(hashes.shape[1], bool)
    by_features = by_hash.copy()
    for view in range(hashes.shape[2]):
        by_hash |= perceptual_hash.near_any(hashes[0, :, view], hashes[1, :, view], known.hashes, hash_distance)
        if known.whitenings and known.descriptors and features.shape[3]:
            every = np.arange(features.shape[1])
            descriptors = similarity.describe(features[:, :, view], every, known.whitenings)
            by_features |= similarity.near_any(descriptors, known.descriptors, thresholds)
    near = by_hash | by_features
    images = paths.str.replace(r"#\d+$", "", regex=True)
    every = images.isin(images[near]).to_numpy()
    counts = {
        "hash_only": int((by_hash & ~by_features).sum()),
        "features_only": int((by_features & ~by_hash).sum()),
        "both": int((by_hash & by_features).sum()),
        "other_face_of_the_image": int((every & ~near).sum()),
    }
    return every, counts


def summary(manifest: pd.DataFrame, provenance: dict, contents: annotated_images.Contents) -> dict:
    """Summarize for metrics/unseen_faces.json: provenance, number of faces per label, and faces left out by reason."""

    def counts(rows: pd.DataFrame) -> dict[str, int]:
        return {label: int((rows["label"] == label).sum()) for label in annotation_files.SYNONYMS}

    reasons = (*face_crops.REASONS, unseen.NEAR_DUPLICATE)
    return {
        **{key: provenance[key] for key in ("source", "name", "sha256", "kind", "images")},
        "images_not_fetched": len(provenance["failed"]),
        "images_not_annotated": contents.not_annotated,
        "faces": counts(manifest),
        "used": counts(manifest[manifest["split"] == unseen.UNSEEN]),
        "left_out": {reason: int((manifest["split"] == reason).sum()) for reason in reasons},
    }
