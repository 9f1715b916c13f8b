"""Start the server of the live page in its own process, for tests, benchmarks and screenshots."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from face_mask.errors import UserError

REPOSITORY = Path(__file__).parent.parent


@contextmanager
def serving(
    *arguments: str, folder: Path = REPOSITORY, port: int = 0, stderr: IO[bytes] | None = None
) -> Iterator[str]:
    """Run `python -m face_mask.live` in `folder` with these arguments, on `port` or a free one; yields its address.

    Its stderr is written to the file `stderr` if given.
    Raises UserError if it does not start, CalledProcessError if it does not stop cleanly.
    """
    unset = ("DVC_", "MLFLOW_TRACKING_URI")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
    environment["PYTHONPATH"] = str(REPOSITORY)
    command = [sys.executable, "-m", "face_mask.live", "--port", str(port), "--no-open", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        if not line.startswith("live: http"):
            raise UserError("the server of the live page did not start: see its error above")
        yield line.split()[1]
        process.send_signal(signal.SIGTERM)
        if code := process.wait(20):
            raise subprocess.CalledProcessError(code, command)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
