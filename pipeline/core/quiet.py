"""Silence the messages that TensorFlow prints while it is imported, and leave out what it imports needlessly."""

from __future__ import annotations

import importlib.abc
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from face_mask.quiet import stderr_closed

# Keras imports these for its wrappers and galleries, which nothing here uses: a quarter of TensorFlow's import.
NEEDLESS = ("matplotlib", "sklearn")


class QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Silences the import of TensorFlow from any module: its libraries log before any setting is read."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in ("keras", "tensorflow"):
            return None
        sys.meta_path.remove(self)  # while it looks for the spec that the others find
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module):
                with without(NEEDLESS):
                    if fullname == "keras":  # which imports TensorFlow
                        load(module)
                    else:
                        with stderr_closed():
                            load(module)

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


@contextmanager
def without(names: tuple[str, ...]) -> Iterator[None]:
    """Let the import of these packages fail, as if they were not installed, unless they are imported already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def install() -> None:
    """Install the import hook; the package's __init__ calls it before anything can import TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # missing GPUs, CPU instructions: after the import
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # advice on tf.function, in the middle of a stage's lines
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, QuietTensorFlow())
