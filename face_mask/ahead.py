"""An ordered map in threads over items that are read one after another, such as the frames of a video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, broken: type[Exception]
) -> Iterator[Result]:
    """Yield `function(item)` in the order of the items, computed by `threads` threads, or if 0 by the caller's.

    The caller's thread reads the items, at most one more ahead than there are threads. If reading raises `broken`, the
    results of the items before come first. The first call has returned before the second begins: the detector needs it.
    """
    if not threads:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    error = None
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        try:
            for index, item in enumerate(items):
                pending.append(pool.submit(function, item))
                if index == 0:
                    wait(pending)
                if len(pending) > threads:
                    yield pending.popleft().result()
        except broken as raised:
            error = raised
        while pending:
            yield pending.popleft().result()
        if error:
            raise error
    finally:
        pool.shutdown(cancel_futures=True)
