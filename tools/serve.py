"""`make serve`: MLflow's model server with the champion, http://127.0.0.1:5001/invocations.

    python -m tools.serve [--port 5001] [--host 127.0.0.1]

It is `mlflow models serve -m models:/face-mask@champion --env-manager local -p 5001` on this project's store, after a
look whether there is a champion: MLflow says that in forty lines.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from pipeline import errors, params
from pipeline.errors import UserError
from pipeline.serve import registry
from pipeline.tracking import store


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.serve", description="Serve the champion.")
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does: one that was just ended is free
        try:
            free.bind((arguments.host, arguments.port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port {arguments.port} of {arguments.host} cannot be taken ({error}): make serve PORT=…"
            ) from None
    name = params.load().registry.name
    store.check()
    uri = store.tracking_uri()
    db = store.database(uri)
    try:
        import mlflow

        there = (db is None or db.is_file()) and registry.champion(mlflow.MlflowClient(uri), name)
    except store.failures() as error:
        raise UserError(f"MLflow at {store.shown(uri)} failed ({store.reason(error)}): mend it") from None
    if not there:
        raise UserError(
            f"{name} has no champion at {store.shown(uri)}: run `python -m pipeline.register`, which makes one of the"
            " trained models or says why not"
        )
    print(f"serve: {there} on http://{arguments.host}:{arguments.port}/invocations", flush=True)
    command = ["mlflow", "models", "serve", "-m", f"models:/{name}@{registry.CHAMPION}", "--env-manager", "local"]
    command += ["--host", arguments.host, "--port", str(arguments.port)]
    # MLflow starts `uvicorn` by its name, and finds the model by the variable.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {"PATH": path, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    os.execve(sys.executable, [sys.executable, "-m", *command], os.environ | environment)


if __name__ == "__main__":
    errors.run(main)
