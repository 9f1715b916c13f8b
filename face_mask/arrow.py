"""Encoded images to faces, in Arrow batches: what each worker of `face-mask spark` runs. Needs pyarrow, not Spark."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from face_mask import conformal, decoding, inputs, litert
from face_mask.api import to_face
from face_mask.classifier import FaceClassifier
from face_mask.decoding import BadImage

if TYPE_CHECKING:
    import pyarrow as pa

# The columns of the result, with their types in Spark's SQL. Those of a face are null in the row of an image without a
# face, and all but `path` and `error` in that of an image that could not be read.
COLUMNS = {
    "path": "string",
    "faces": "int",  # in this image
    "face": "int",  # from 1, by descending detector score
    "x": "double",  # left and top of the box, in pixels of the upright image
    "y": "double",
    "width": "double",
    "height": "double",
    "detector_score": "double",  # 0…1; null if the whole image was classified
    "class": "string",  # of schema.LABELS
    "probability": "double",  # of the class, 0…1
    "with_mask": "double",  # probability of with_mask, 0…1
    "prediction_set": "string",  # with_mask, without_mask, both or none; null if the model has no calibration
    "unsure": "boolean",
    "error": "string",  # why the image could not be read
}
DDL = ", ".join(f"`{name}` {kind}" for name, kind in COLUMNS.items())
TOO_LARGE = f"more than {inputs.MAX_BYTES >> 20} MiB, too many for an image"


@dataclass(frozen=True)
class SentModel:
    """The content of a model's file and the arguments of FaceClassifier, which are sent to the workers."""

    content: bytes
    name: str
    size: int
    margin: float
    threshold: float
    detector_name: str

    @classmethod
    def read(cls, path: Path, classifier: FaceClassifier) -> SentModel:
        """Read the file that `classifier` was loaded from."""
        return cls(path.read_bytes(), **classifier.config())


@lru_cache(maxsize=1)
def load(model: SentModel) -> FaceClassifier:
    """Load the model once in a worker process, which runs one task after the other."""
    path = Path(model.name)  # for messages alone
    classifier = FaceClassifier(
        model.name,
        model.size,
        model.margin,
        model.threshold,
        litert.to_function(model.content, path),
        model.detector_name,
        litert.calibration_of(model.content, path),
    )
    gc.freeze()  # pyspark collects garbage after each task, and would go through all that has been loaded
    return classifier


def schema() -> pa.Schema:
    """COLUMNS as Arrow has them."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "int": pa.int32(), "double": pa.float64(), "boolean": pa.bool_()}
    return pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])


def predict_batches(batches: Iterable[pa.RecordBatch], model: SentModel, faces: str) -> Iterator[pa.RecordBatch]:
    """For each batch with the columns path and content, the bytes of image files, one of COLUMNS.

    An image has a row for each of its faces, or else one row. `faces` is auto or whole, as of `face-mask predict`.
    """
    import pyarrow as pa

    classifier = load(model)
    for batch in batches:
        images = zip(batch.column("path"), batch.column("content"), strict=True)
        rows = [row for path, content in images for row in to_rows(path.as_py(), content.as_py(), classifier, faces)]
        yield pa.RecordBatch.from_pylist(rows, schema())


def to_rows(path: str | None, encoded: bytes | None, classifier: FaceClassifier, faces: str) -> list[dict]:
    """The rows of an image, without the columns that are null."""
    try:
        if encoded is None:
            raise BadImage("no image")
        if len(encoded) > inputs.MAX_BYTES:
            raise BadImage(TOO_LARGE)
        image = decoding.to_array(decoding.open_rgb(encoded)[0])
    except BadImage as error:
        return [{"path": path, "error": str(error)}]
    whole = faces == "whole"
    predictions = [classifier.predict_whole(image)] if whole else classifier.predict_faces(image)
    if not predictions:
        return [{"path": path, "faces": 0}]
    rows = []
    for number, prediction in enumerate(predictions, 1):
        face = to_face(prediction, classifier, detected=not whole)
        left, top, right, bottom = face.box
        rows.append(
            {
                "path": path,
                "faces": len(predictions),
                "face": number,
                "x": left,
                "y": top,
                "width": right - left,
                "height": bottom - top,
                "detector_score": face.score,
                "class": face.label,
                "probability": face.probability,
                "with_mask": face.with_mask,
                "prediction_set": conformal.set_name(classifier.calibration, face.with_mask),
                "unsure": face.unsure,
            }
        )
    return rows
