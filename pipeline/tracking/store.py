"""Where MLflow's store is, whether it can be written, and what happens when it fails."""

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

from pipeline.errors import UserError

# MLflow reads these when it is imported, so they are set before. Its own defaults wait four minutes for a dead server,
# print a link for every run and report usage to its makers.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)


def workspace() -> Path:
    """The folder whose params.yaml, models/ and metrics/ count: the nearest one up from here that holds dvc.yaml."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").is_file()), here)


def root() -> Path:
    """The repository that owns the store: under `dvc exp run --temp` and `--queue` not the workspace but its parent."""
    return Path(os.environ.get("DVC_ROOT") or workspace())


def tracking_uri() -> str:
    """The store's address; one of an SQLite file is made absolute against the repository root."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path, mark, options = uri.removeprefix("sqlite:///").partition("?")
    return f"sqlite:///{root().resolve() / path}{mark}{options}" if uri.startswith("sqlite:///") else uri


def database(uri: str) -> Path | None:
    """The SQLite file behind an address, None for every other kind of store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def shown(uri: str) -> str:
    """The address without user name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def check() -> None:
    """UserError when the store cannot be reached or written. For the start of a stage: quick, MLflow is not loaded."""
    uri = tracking_uri()
    remedy = f"MLFLOW_TRACKING_URI={shown(uri)}: %s; mend it, or unset it to log to mlflow.db"
    if db := database(uri):
        db.parent.mkdir(parents=True, exist_ok=True)
        for path in (db.parent, db):
            if path.exists() and not os.access(path, os.W_OK):
                raise UserError(f"{path} cannot be written, and MLflow's runs go there: mend its permissions")
        if db.is_file() and (head := db.open("rb").read(15)) and head != b"SQLite format 3":
            raise UserError(f"{db} is no SQLite database: remove it, `dvc repro` makes a new one")
    elif uri.startswith("file:") or ("://" not in uri and uri.partition(":")[0] not in ("databricks", "uc")):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise UserError(remedy % "neither http(s)://host:port nor sqlite:///file, and MLflow 3 takes no folder")
    elif uri.startswith(("http://", "https://")):
        try:
            answer = knock(uri)
        except (OSError, ValueError) as error:
            raise UserError(remedy % f"no answer ({getattr(error, 'reason', error)})") from None
        if answer not in (200, 401, 403):
            raise UserError(remedy % f"no MLflow server answers there (HTTP {answer})")


def knock(uri: str) -> int:
    """The HTTP status of a server's health page or, where a hosted MLflow has none, of its API."""
    status = 404
    for path in ("/health", "/api/2.0/mlflow/experiments/search?max_results=1"):
        try:
            status = urllib.request.urlopen(shown(uri).rstrip("/") + path, timeout=5).status
        except urllib.error.HTTPError as error:
            status = error.code
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLCertVerificationError):
                raise
            return 200  # it is there; whether its certificate will do is set in variables that only MLflow reads
        if status != 404:
            break
    return status


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises when a store fails; anything else is a bug and keeps its traceback."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def reason(error: Exception) -> str:
    """The first line of an error, not too long."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


@contextmanager
def tolerant(stage: str) -> Iterator[None]:
    """A store that fails when a stage's outputs are already written costs a warning, not the stage."""
    try:
        yield
    except failures() as error:
        print(
            f"{stage}: warning: MLflow at {shown(tracking_uri())} did not take this run ({reason(error)}): the outputs"
            " are written; when it works again, bring them over with `python -m pipeline.tracking`",
            file=sys.stderr,
        )
