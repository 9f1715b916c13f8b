"""The model that MLflow serves: rows of encoded images to classes and probabilities, without TensorFlow.

MLflow runs this file as it is, from the copy that a registered version carries (models from code), wherever the
version is loaded: `mlflow models serve`, `mlflow.pyfunc.load_model`, `mlflow.pyfunc.spark_udf`. Beside it the version
carries the modules of face_mask that it imports, in a package with a name of its own (packaging.code_copy);
face_mask.encoded classifies a row.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from face_mask import encoded
from face_mask.classifier import FaceClassifier


class FaceMask(PythonModel):
    """Column `image` (base64) to columns class, probability, prediction_set, model and error, one row per image."""

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier = FaceClassifier.load(Path(context.artifacts["litert"]), **context.model_config)
        self.lock = threading.Lock()  # MLflow's server runs threads, and a LiteRT interpreter is not thread-safe

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        """Apply `encoded.classify_row` to each row; MLflow's server turns an MlflowException into HTTP 400."""
        faces = (params or {}).get("faces", encoded.FACES[0])
        if faces not in encoded.FACES:
            raise MlflowException.invalid_parameter_value(f"params.faces = {faces!r}: use {' or '.join(encoded.FACES)}")
        rows = [encoded.classify_row(image, self.classifier, faces, self.lock) for image in model_input["image"]]
        # As objects: pandas would turn None into NaN, which is not valid JSON.
        return pd.DataFrame(rows, columns=list(encoded.COLUMNS), index=model_input.index, dtype=object)


set_model(FaceMask())
