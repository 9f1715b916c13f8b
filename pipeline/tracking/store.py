"""The MLflow store: its address, whether it is writable, and what happens if it fails."""

from __future__ import annotations

import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from face_mask.errors import UserError

# MLflow reads these when it is imported. Its defaults wait four minutes for a dead server, print a link for every run
# and send usage data to its developers. Five retries are half a minute, in which a database is restarted.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)


def workspace() -> Path:
    """The folder with the current params.yaml, models/ and metrics/: the nearest one upwards that has a dvc.yaml."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").is_file()), here)


def root() -> Path:
    """The repository that has the store; under `dvc exp run --temp` and `--queue` this is not the workspace."""
    return Path(os.environ.get("DVC_ROOT") or workspace())


def tracking_uri() -> str:
    """The store's address; the path of an SQLite file is absolute, resolved against the repository root."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path, mark, options = uri.removeprefix("sqlite:///").partition("?")
    return f"sqlite:///{root().resolve() / path}{mark}{options}" if uri.startswith("sqlite:///") else uri


def database(uri: str) -> Path | None:
    """The SQLite file of an address; None for other kinds of stores."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def without_credentials(uri: str) -> str:
    """The address without user name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def check() -> None:
    """Raise UserError if the store cannot be reached or written. Quick, without MLflow, for the start of a stage."""
    uri = tracking_uri()
    remedy = f"MLFLOW_TRACKING_URI={without_credentials(uri)}: %s; fix it, or unset it to log to mlflow.db"
    if db := database(uri):
        db.parent.mkdir(parents=True, exist_ok=True)
        for path in (db.parent, db):
            if path.exists() and not os.access(path, os.W_OK):
                raise UserError(f"{path} cannot be written, but MLflow stores its runs there: fix its permissions")
        if db.is_file() and (head := db.open("rb").read(15)) and head != b"SQLite format 3":
            raise UserError(f"{db} is not an SQLite database: remove it, and `dvc repro` creates a new one")
    elif uri.startswith("file:") or ("://" not in uri and uri.partition(":")[0] not in ("databricks", "uc")):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise UserError(
                remedy % "neither http(s)://host:port nor sqlite:///file, and MLflow 3 does not accept a folder"
            )
    elif uri.startswith(("http://", "https://")):
        try:
            answer = ping(uri)
        except (OSError, ValueError) as error:
            raise UserError(remedy % f"no answer ({getattr(error, 'reason', error)})") from None
        if answer not in (200, 401, 403):
            raise UserError(remedy % f"no MLflow server answers there (HTTP {answer})")


def ping(uri: str) -> int:
    """The HTTP status of a server's health page or, for a hosted MLflow without one, of its API."""
    status = 404
    for path in ("/health", "/api/2.0/mlflow/experiments/search?max_results=1"):
        try:
            status = urllib.request.urlopen(without_credentials(uri).rstrip("/") + path, timeout=5).status
        except urllib.error.HTTPError as error:
            status = error.code
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLCertVerificationError):
                raise
            return 200  # the server exists; only MLflow reads the variables for certificates
        if status != 404:
            break
    return status


def failures() -> tuple[type[Exception], ...]:
    """The exceptions that MLflow raises if a store fails; any other is a bug and keeps its traceback."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def reason(error: Exception) -> str:
    """The first line of an error message, at most 200 characters."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


@contextmanager
def warn_on_failure(stage: str) -> Iterator[None]:
    """Print a warning if the store fails: the outputs of the stage are already written."""
    try:
        yield
    except failures() as error:
        uri = without_credentials(tracking_uri())
        print(
            f"{stage}: warning: MLflow at {uri} did not store this run ({reason(error)}): its outputs are written; when"
            " MLflow works again, log the run with `python -m pipeline.tracking`",
            file=sys.stderr,
        )
