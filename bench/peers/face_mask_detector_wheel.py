"""The package face-mask-detector 0.2.3: its own pipeline, or the same without its two delays.

    python -m bench.peers.face_mask_detector_wheel video FOLDER published|faster
    python -m bench.peers.face_mask_detector_wheel image FILE

The published pipeline loads its face detector for every frame and calls `predict`, which starts a tf.data pipeline.
`faster` keeps the detector and calls the model. `image` is its command without the window that it opens.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # the model's file is of TensorFlow 2.2

import cv2
import face_mask_detector
from face_mask_detector import face_detector

from bench import worker

CONFIDENCE = 0.5  # the package's default


class Called:
    """A model whose `predict` is a call."""

    def __init__(self, model) -> None:
        self.model = model

    def predict(self, faces, batch_size):
        return self.model(faces, training=False).numpy()


def video(folder: str, way: str):
    from bench import scenes

    model = face_mask_detector.load_face_mask_detector_model()
    if way == "faster":
        network = face_detector._load_face_detecting_neural_net()
        face_detector._load_face_detecting_neural_net = lambda: network
        model = Called(model)
    annotated = json.loads((Path(folder) / "faces.json").read_text(encoding="utf-8"))

    def measure() -> dict[str, float]:
        start, found = time.perf_counter(), []
        capture = cv2.VideoCapture(str(Path(folder) / "video.mp4"))
        while (read := capture.read())[0]:
            boxes, predictions = face_mask_detector.get_face_mask_detections(model, read[1], CONFIDENCE)
            labels = ["with_mask" if mask > without else "without_mask" for mask, without in predictions]
            found.append([(label, *map(float, box)) for label, box in zip(labels, boxes, strict=True)])
        return scenes.rates(found, annotated, time.perf_counter() - start)

    return measure


def image(path: str) -> None:
    model = face_mask_detector.load_face_mask_detector_model()
    print(face_mask_detector.get_face_mask_detections(model, cv2.imread(path), CONFIDENCE))


if __name__ == "__main__":
    if sys.argv[1] == "image":
        image(sys.argv[2])
    else:
        worker.serve(video(*sys.argv[2:]))
