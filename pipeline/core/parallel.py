"""A parallel map over all CPU cores, in order and with bounded memory."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed by one process per core.

    `Executor.map` queues all items at once, so results pile up if their consumer is slower; here at most three items
    per core are in progress. `function` and the items must be picklable, and a script must call this below
    `if __name__ == "__main__":`. With one core or one item it computes in this process.
    """
    workers = min(cores(), len(items))
    if workers < 2 or not can_spawn():
        yield from map(function, items)
        return
    pending: deque = deque()
    # Spawned, because forking a process that runs threads, as TensorFlow does, may deadlock.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 3 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def can_spawn() -> bool:
    """Whether a new process can import the running script; it cannot if that comes from standard input."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    return script is None or Path(script).exists()
