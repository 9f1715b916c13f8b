"""Serve the champion with MLflow's model server on http://127.0.0.1:5001/invocations: `make serve`.

    python -m tools.serve [--port 5001] [--host 127.0.0.1]

Runs `mlflow models serve -m models:/face-mask@champion --env-manager local -p 5001` on this project's store, after
checking that there is a champion; without one, MLflow would print a traceback of forty lines.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from face_mask import errors, litert
from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.registry import model_registry, packaging
from pipeline.tracking import store


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.serve", description="Serve the champion with MLflow's model server."
    )
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    with socket.socket() as probe:
        # As uvicorn does: a port that was closed a moment ago is available.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((arguments.host, arguments.port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port {arguments.port} of {arguments.host} is not available ({error}): use `make serve PORT=…`"
            ) from None
    name = params.load().registry.name
    store.check()
    uri = store.tracking_uri()
    db = store.database(uri)
    try:
        import mlflow

        champion = (db is None or db.is_file()) and model_registry.champion(mlflow.MlflowClient(uri), name)
        if champion:
            mlflow.set_tracking_uri(uri)
            packaging.check(f"models:/{name}@{model_registry.CHAMPION}")
    except store.failures() as error:
        raise UserError(
            f"MLflow at {store.without_credentials(uri)} failed ({store.reason(error)}): fix it, then run this again"
        ) from None
    if not champion:
        raise UserError(f"{name} has no champion at {store.without_credentials(uri)}: run `{registration_command()}`")
    print(f"serve: {champion} on http://{arguments.host}:{arguments.port}/invocations", flush=True)
    command = ["mlflow", "models", "serve", "-m", f"models:/{name}@{model_registry.CHAMPION}", "--env-manager", "local"]
    command += ["--host", arguments.host, "--port", str(arguments.port)]
    # MLflow starts `uvicorn` by name, and finds the store by the variable.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {"PATH": path, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    os.execve(sys.executable, [sys.executable, "-m", *command], os.environ | environment)


def registration_command() -> str:
    """The command that registers the models, after everything it depends on if that is missing."""
    inputs = [
        packing.MANIFEST_PATH,
        *map(litert.path_of, MODELS),
        *(Path(f"models/{one}.weights.h5") for one in MODELS),
    ]
    # With all inputs, DVC may skip the stage as unchanged although this store has no champion.
    return "python -m pipeline.register" if all(path.is_file() for path in inputs) else "dvc repro register"


if __name__ == "__main__":
    errors.run(main)
