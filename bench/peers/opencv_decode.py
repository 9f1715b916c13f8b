"""OpenCV: imread and resize, in a loop as most scripts do, or in a thread pool, which is faster.

python -m bench.peers.opencv_decode FOLDER loop|threads
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from bench import worker

SIZE = 128


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    return cv2.cvtColor(cv2.resize(image, (SIZE, SIZE)), cv2.COLOR_BGR2RGB)


def measure() -> float:
    paths = sorted((Path(sys.argv[1]) / "images").glob("*/*"))
    start = time.perf_counter()
    if sys.argv[2] == "threads":
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            images = np.array(list(pool.map(read, paths)))
    else:
        images = np.array([read(path) for path in paths])
    return len(images) / (time.perf_counter() - start)


if __name__ == "__main__":
    worker.serve(measure)
