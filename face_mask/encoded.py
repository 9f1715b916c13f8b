"""Classify base64-encoded images, as MLflow's server receives them: a row of COLUMNS for each."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from face_mask import conformal, decoding
from face_mask.classifier import FaceClassifier
from face_mask.schema import LABELS

COLUMNS = ("class", "probability", "prediction_set", "model", "error")
FACES = ("whole", "auto")  # the image is one face; or its face with the highest detector score is cropped

NO_LOCK: AbstractContextManager = nullcontext()


def classify_row(
    image: object, classifier: FaceClassifier, faces: str = "whole", lock: AbstractContextManager = NO_LOCK
) -> dict:
    """Classify one image: `class` (of LABELS) and `probability` (of with_mask, 0…1), or None and the reason in `error`.

    `prediction_set` is with_mask, without_mask, both or none: the class is unsure if it is another. It is None if the
    model has no calibration.
    `image` is an image file (JPEG, PNG, WebP, …) in base64; line breaks and a prefix `data:…;base64,` are allowed.
    `faces` is one of FACES. The `lock` is held while the model runs, not while the image is decoded.
    """
    try:
        pixels = model_input(from_base64(image), classifier, faces)
    except decoding.BadImage as error:
        return dict.fromkeys(COLUMNS) | {"model": classifier.name, "error": str(error)}
    with lock:
        probability = float(classifier.classify(pixels[None])[0])
    label = LABELS[int(probability >= classifier.threshold)]
    set_name = conformal.set_name(classifier.calibration, probability)
    return dict(zip(COLUMNS, (label, probability, set_name, classifier.name, None), strict=True))


def from_base64(image: object) -> bytes:
    """Decode base64 text. Raises BadImage if there is none or it is not base64."""
    if image is None or image != image or image == "":  # NaN is how pandas and Spark may represent None
        raise decoding.BadImage("no image: the column image is empty")
    if not isinstance(image, str):
        raise decoding.BadImage("not base64")
    text = re.sub(r"\s+", "", image.partition(";base64,")[2] if image.startswith("data:") else image)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        raise decoding.BadImage("not base64") from None


def model_input(encoded: bytes, classifier: FaceClassifier, faces: str) -> np.ndarray:
    """The pixels to classify, (s, s, 3) uint8. Raises BadImage if there is no image or no face in it."""
    if faces == "whole":
        return decoding.decode(encoded, classifier.size).pixels
    image = decoding.to_array(decoding.open_rgb(encoded)[0])
    detections = classifier.detect(image)
    if not len(detections):
        raise decoding.BadImage("no face detected")
    return classifier.crop(image, detections[:1, :4])[0]
