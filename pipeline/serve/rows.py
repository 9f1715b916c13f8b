"""What does a model say of one encoded picture? A row of class, probability and model, or of an error."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

import numpy as np

from pipeline.data import decoding
from pipeline.data.packing import LABELS
from pipeline.serve.litert import Classify

COLUMNS = ("class", "probability", "model", "error")
FACES = ("whole", "auto")  # the picture is one face; or its surest face is found and cut out


@dataclass(frozen=True)
class Settings:
    """What a registered version keeps beside its weights."""

    model: str  # its name, as every row says it
    image_size: int  # side in pixels of what the model takes
    threshold: float  # with_mask from this probability on
    margin: float  # around a face that is cut out, as a share of its longer side


def judge(image: object, classify: Classify, settings: Settings, faces: str = "whole") -> dict:
    """One row: `class` (of LABELS) and `probability` (of with_mask, 0…1), or None for both and the reason in `error`.

    `image` is a picture file (JPEG, PNG, WebP, …) in base64, line breaks and a `data:…;base64,` before it allowed.
    `faces` is one of FACES.
    """
    try:
        pixels = face_of(from_base64(image), settings, faces)
    except decoding.BadPicture as error:
        return {"class": None, "probability": None, "model": settings.model, "error": str(error)}
    probability = float(classify(pixels[None])[0])
    label = LABELS[int(probability >= settings.threshold)]
    return {"class": label, "probability": probability, "model": settings.model, "error": None}


def from_base64(image: object) -> bytes:
    """The bytes that a base64 text stands for; BadPicture where there is none or it is something else."""
    if image is None or image != image or image == "":  # NaN is how pandas and Spark may say None
        raise decoding.BadPicture("no picture: the column image is empty")
    if not isinstance(image, str):
        raise decoding.BadPicture("no base64")
    text = re.sub(r"\s+", "", image.partition(";base64,")[2] if image.startswith("data:") else image)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: letters beyond ASCII
        raise decoding.BadPicture("no base64") from None


def face_of(encoded: bytes, settings: Settings, faces: str) -> np.ndarray:
    """What the model is shown of a picture, (s, s, 3) uint8; BadPicture where it is none or holds no face."""
    if faces == "whole":
        return decoding.decode(encoded, settings.image_size).pixels
    from pipeline.serve import face_detection, judging  # half a second, for those who ask for faces

    image = np.asarray(decoding.open_rgb(encoded)[0])
    found = face_detection.detect(image)
    if not len(found):
        raise decoding.BadPicture("no face found")
    return judging.cut(image, found[:1, :4], settings.image_size, settings.margin)[0]
