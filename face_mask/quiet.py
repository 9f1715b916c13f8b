"""Silence what native libraries write to standard error."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

lock = threading.Lock()  # of file descriptor 2: a second thread would save the closed one and restore that


@contextmanager
def stderr_closed() -> Iterator[None]:
    """Discard everything written to file descriptor 2; an exception is printed after it is restored."""
    with lock:
        if sys.stderr:  # Windows has none without a console
            sys.stderr.flush()
        saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)
