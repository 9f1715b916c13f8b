"""Memory that is free again and that the C library would otherwise keep."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress


def release() -> None:
    """Return freed memory to the operating system; on Linux, since glibc keeps gigabytes after a conversion."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError):  # of glibc, not of other C libraries
            ctypes.CDLL(None).malloc_trim(0)
