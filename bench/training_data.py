"""The data set as peers read it: folders of the original image files, and ImageNet weights of MobileNetV2."""

from __future__ import annotations

import csv
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from bench.measure import Options

QUICK_IMAGES = 100  # of each split and class


def prepare(options: Options, target: Path) -> Path:
    """Write train/ and val/ with a folder per class, backbone.weights.h5 and backbone.npz to `target`; return it.

    The images are those of the project's own split, as in the archive.
    """
    with options.path("data/split/manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("train", "val")]
    written: Counter[tuple[str, str]] = Counter()
    with zipfile.ZipFile(options.path("data/raw/images.zip")) as archive:
        for row in rows:
            key = row["split"], row["label"]
            if options.quick and written[key] >= QUICK_IMAGES:
                continue
            written[key] += 1
            path = target / row["split"] / row["label"] / f"{written[key]:05}{Path(row['path']).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(row["path"]))
    weights = options.path("models/mobilenet_backbone.weights.h5")
    shutil.copyfile(weights, target / "backbone.weights.h5")
    np.savez(target / "backbone.npz", *in_order(weights))
    return target


def in_order(weights: Path) -> list[np.ndarray]:
    """Return the backbone's arrays in the order of its layers: kernels, and four arrays per batch normalization."""
    from pipeline.models import imagenet_weights

    return list(imagenet_weights.read(weights).values())
