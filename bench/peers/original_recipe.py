"""The recipe of the original notebooks: every image into one float64 array, one at a time.

python -m bench.peers.original_recipe FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bench import worker

SIZE = 128


def read_images(folder: Path) -> np.ndarray:
    """(n, 128, 128, 3) float64, 0…1."""
    data = []
    for label in ("with_mask", "without_mask"):
        for path in sorted((folder / label).iterdir()):
            image = Image.open(path).resize((SIZE, SIZE)).convert("RGB")
            data.append(np.array(image))
    return np.array(data) / 255


def measure() -> float:
    start = time.perf_counter()
    images = read_images(Path(sys.argv[1]) / "images")
    return len(images) / (time.perf_counter() - start)


if __name__ == "__main__":
    worker.serve(measure)
