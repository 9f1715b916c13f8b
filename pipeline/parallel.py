"""Work spread over all cores, in order and with bounded memory."""

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
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed by one process a core.

    `Executor.map` queues every item at once, so results pile up when their consumer is the slower side; here at most
    three items a core are under way. `function` and the items must be picklable, and a script that calls this does so
    below `if __name__ == "__main__":`. So few items that processes would not pay are computed here.
    """
    workers = min(cores(), len(items))
    if workers < 2 or not can_spawn():
        yield from map(function, items)
        return
    under_way: deque = deque()
    # Not forked: forking a process that runs threads, as TensorFlow does, may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(function, item))
                if len(under_way) >= 3 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def can_spawn() -> bool:
    """Whether a new process can import what this one runs; it cannot where the script comes from standard input."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    return script is None or Path(script).exists()
