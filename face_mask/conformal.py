"""When a prediction is unsure: class-conditional split conformal prediction, with the calibration in the model's file.

The prediction set of a face is the classes that its probability does not rule out. For a face that is exchangeable
with the validation images, the set lacks the true class with a probability of at most `error`, in either class. A set
of both classes, or of none, means that the model is unsure.

The stage `export` computes the two thresholds of each file (pipeline/scoring/conformal.py) and appends them as a zip
archive with one JSON file, as TensorFlow Lite's metadata does with associated files: LiteRT ignores what follows the
model. The ONNX file has the same JSON as the metadata property KEY.

References: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), section 4.5, on Mondrian
conformal predictors; Angelopoulos and Bates, Conformal Prediction: A Gentle Introduction (2023), section 4.2.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import asdict, dataclass
from typing import Any

from face_mask.schema import LABELS, WITH_MASK, WITHOUT_MASK

KEY = "face_mask_conformal"
MEMBER = f"{KEY}.json"
METHOD = "class-conditional split conformal, version 1"
MAX_BYTES = 4096  # of the JSON
NONE, BOTH = "none", "both"


class BadCalibration(ValueError):
    """A damaged calibration; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Calibration:
    """The two thresholds of a model file, and what they were computed from."""

    error: float  # level: the largest probability that the prediction set lacks the true class
    with_mask_from: float  # with_mask is in the set from this P(with_mask) on; 0: always
    without_mask_to: float  # without_mask is in the set up to this P(with_mask); 1: always
    n_with_mask: int  # validation images
    n_without_mask: int

    def prediction_set(self, with_mask: float) -> tuple[str, ...]:
        """The classes of LABELS that P(with_mask), 0…1, does not rule out: none, one or both."""
        inside = {WITHOUT_MASK: with_mask <= self.without_mask_to, WITH_MASK: with_mask >= self.with_mask_from}
        return tuple(label for label in LABELS if inside[label])

    def limits(self, threshold: float) -> tuple[float, float]:
        """(low, high): surely without_mask up to low, surely with_mask from high on, unsure between them.

        That is, unsure unless the set is exactly the predicted class, which is with_mask from `threshold` on.
        """
        low, high = surely(threshold)
        low = min(low, self.without_mask_to, below(self.with_mask_from)) if self.with_mask_from > 0 else -math.inf
        high = max(high, self.with_mask_from, above(self.without_mask_to)) if self.without_mask_to < 1 else math.inf
        return low, high


def surely(threshold: float) -> tuple[float, float]:
    """The limits of a model without a calibration, with which no face is unsure."""
    return below(threshold), threshold


def below(value: float) -> float:
    return math.nextafter(value, -math.inf)


def above(value: float) -> float:
    return math.nextafter(value, math.inf)


def set_name(calibration: Calibration | None, with_mask: float) -> str | None:
    """The prediction set in a word: with_mask, without_mask, both or none; None without a calibration."""
    if calibration is None:
        return None
    labels = calibration.prediction_set(with_mask)
    return labels[0] if len(labels) == 1 else BOTH if labels else NONE


def to_json(calibration: Calibration) -> str:
    return json.dumps({"method": METHOD, **asdict(calibration)}, sort_keys=True)


def from_json(text: str | bytes) -> Calibration:
    """Read what `to_json` returns. Raises BadCalibration if it is damaged or of another method."""
    try:
        values: Any = json.loads(text)
        if values.pop("method") != METHOD:
            raise BadCalibration("its calibration is of another version of this package")
        calibration = Calibration(**values)
        thresholds = calibration.with_mask_from, calibration.without_mask_to
        valid = 0 < calibration.error < 1 and all(0 <= one <= 1 for one in thresholds)  # NaN is not
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise error if isinstance(error, BadCalibration) else BadCalibration("its calibration is not valid") from None
    if not valid:
        raise BadCalibration("a number of its calibration is out of range")
    return calibration


def append(model: bytes, calibration: Calibration) -> bytes:
    """The LiteRT file with its calibration; the same bytes for the same input."""
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        member = zipfile.ZipInfo(MEMBER)  # of 1980, so that the bytes do not depend on the time
        member.create_system = 3  # nor on the operating system
        archive.writestr(member, to_json(calibration))
    return file.getvalue()


def extract(model: bytes) -> Calibration | None:
    """The calibration that `append` added to a LiteRT file, None if there is none. Raises BadCalibration."""
    file = io.BytesIO(model)
    if not zipfile.is_zipfile(file):
        if MEMBER.encode() in model[-2 * MAX_BYTES :]:
            raise BadCalibration("its end is missing")
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if MEMBER not in archive.namelist():
                return None
            if archive.getinfo(MEMBER).compress_type != zipfile.ZIP_STORED:  # `append` compresses nothing
                raise BadCalibration("its calibration cannot be read")
            with archive.open(MEMBER) as member:
                text = member.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, NotImplementedError):
        raise BadCalibration("its calibration cannot be read") from None
    if len(text) > MAX_BYTES:
        raise BadCalibration(f"its calibration has more than {MAX_BYTES} bytes")
    return from_json(text)
