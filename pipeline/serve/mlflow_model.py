"""The model that MLflow serves: rows of encoded pictures to classes and probabilities, without TensorFlow.

MLflow runs this file as it is, from the copy that a registered version carries (models from code), wherever the
version is loaded: `mlflow models serve`, `mlflow.pyfunc.load_model`, `mlflow.pyfunc.spark_udf`. What a row is judged by
stands in pipeline.serve.rows.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipeline.serve import litert, rows


class FaceMask(PythonModel):
    """Column `image` (base64) to columns class, probability, model and error, a row a picture."""

    def load_context(self, context: PythonModelContext) -> None:
        self.settings = rows.Settings(**context.model_config)
        self.classify = litert.load(Path(context.artifacts["litert"]))
        self.alone = threading.Lock()  # MLflow's server answers in threads, and a LiteRT interpreter is one thread's

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        """`rows.judge` for each row; MLflow's server makes HTTP 400 of its MlflowException."""
        faces = (params or {}).get("faces", rows.FACES[0])
        if faces not in rows.FACES:
            raise MlflowException.invalid_parameter_value(f"params.faces = {faces!r}: take {' or '.join(rows.FACES)}")
        with self.alone:
            judged = [rows.judge(image, self.classify, self.settings, faces) for image in model_input["image"]]
        # As objects: pandas would make NaN of None, which is no JSON.
        return pd.DataFrame(judged, columns=list(rows.COLUMNS), index=model_input.index, dtype=object)


set_model(FaceMask())
