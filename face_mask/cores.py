"""How many CPU cores this process may use: `taskset` or a container's set of CPUs may limit it, a quota is not seen."""

from __future__ import annotations

import os


def available() -> int:
    """Number of CPU cores that this process may use, at least one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
