"""Silence the messages that TensorFlow prints while it is imported."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys

from face_mask.quiet import stderr_closed


class QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Silences the import of TensorFlow from any module: its libraries log before any setting is read."""

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
    """Install the import hook; the package's __init__ calls it before anything can import TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # missing GPUs, CPU instructions: after the import
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, QuietTensorFlow())
