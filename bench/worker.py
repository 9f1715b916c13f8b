"""The other end of `bench.measure.Worker`, with the standard library alone: it also runs in the peers' environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

ANSWERS = "BENCH_ANSWERS"  # the environment variable with the pipe's file descriptor


def serve(measure: Callable[[], float | dict[str, float]]) -> None:
    """Measure once per line of standard input, and write the value as a line of JSON.

    It is written to the pipe of the measuring process, or without one, as in a terminal, to standard output.
    """
    answers = os.fdopen(int(os.environ.get(ANSWERS, 1)), "w", encoding="utf-8")
    for request in sys.stdin:
        value = peak_mb() if request.strip() == "memory" else measure()
        answers.write(json.dumps(value) + "\n")
        answers.flush()


def peak_mb() -> float:
    """Peak resident memory of this process in MB.

    From /proc where there is one: getrusage also counts the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
