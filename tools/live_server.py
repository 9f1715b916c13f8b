"""The live page's server as its own process, as a user starts it: for tests, measurements and pictures of the page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError

REPOSITORY = Path(__file__).parent.parent


@contextmanager
def serving(*arguments: str, folder: Path = REPOSITORY, port: int = 0) -> Iterator[str]:
    """`python -m live` with these arguments, started in `folder`, on a free port or `port`: its address.

    UserError where it does not start, having said why itself; CalledProcessError where it does not end cleanly.
    """
    outer = ("DVC_", "MLFLOW_TRACKING_URI")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
    environment["PYTHONPATH"] = str(REPOSITORY)
    command = [sys.executable, "-m", "live", "--port", str(port), "--no-open", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        if not line.startswith("live: http"):
            raise UserError("the live page's server did not start: it says why above")
        yield line.split()[1]
        process.send_signal(signal.SIGTERM)
        if code := process.wait(20):
            raise subprocess.CalledProcessError(code, command)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
