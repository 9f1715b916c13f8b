"""TensorFlow without the noise of its start, which tells a user nothing."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stderr_closed() -> Iterator[None]:
    """What C++ code writes to the error stream meanwhile goes nowhere; Python's own tracebacks come later."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Silences the import of TensorFlow, whoever asks for it: its libraries log before any setting is read."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module):
                with stderr_closed():
                    load(module)

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Called once, by the package's __init__, before anything can import TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # missing GPUs, CPU instructions: after the import
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, QuietTensorFlow())
