"""A parallel map over all CPU cores, in order and with bounded memory."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from face_mask import cores
from face_mask.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerDied(Exception):
    """A worker process ended before it sent its result. The argument is its exit code."""


class Worker:
    """A process that computes `function(item)` for one item after another.

    Each has its own pipe, of which it alone holds the other end, so a death is noticed whatever the worker was doing.
    (ProcessPoolExecutor waits for ever if one is killed while it sends a result: they share a pipe and its lock.)
    For the same reason a worker ends if its parent does. It is spawned, because forking a process that runs threads,
    as TensorFlow does, may deadlock.
    """

    def __init__(self, function: Callable) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, remote = context.Pipe()
        self.process = context.Process(target=serve, args=(remote, function), daemon=True)
        self.process.start()
        remote.close()

    def compute(self, item: object) -> Any:
        """Return `function(item)`, or raise what it raised. Raises WorkerDied."""
        try:
            self.connection.send(item)
            error, result = self.connection.recv()
        except (EOFError, OSError):  # OSError: in the middle of a result
            self.process.join()
            raise WorkerDied(self.process.exitcode) from None
        if error is not None:
            raise error
        return result


def serve(connection: Connection, function: Callable) -> None:
    """Answer every item that arrives with an exception or None, and a result. Returns when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    with suppress(EOFError, ConnectionError):
        while True:
            item = connection.recv()
            answer: tuple[Exception | None, Any]
            try:
                answer = None, function(item)
            except Exception as error:
                error.add_note(f"in a worker process:\n{traceback.format_exc()}")
                answer = error, None
            connection.send(answer)


def ordered_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed by one process per core.

    At most three items per core are in progress, so results do not pile up if their consumer is slower. `function`
    and the items must be picklable, and a script must call this below `if __name__ == "__main__":`. With one core or
    one item it computes in this process. Raises UserError if a worker process dies.
    """
    count = min(cores.available(), len(items))
    if count < 2 or not can_spawn():
        yield from map(function, items)
        return
    workers = [Worker(function) for _ in range(count)]
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def compute(item: Item) -> Result:
        worker = idle.get()
        try:
            return worker.compute(item)
        finally:
            idle.put(worker)

    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as threads:
        try:
            for item in items:
                pending.append(threads.submit(compute, item))
                if len(pending) >= 3 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except WorkerDied as error:
            code = error.args[0]
            cause = (
                "was killed, most likely because the memory ran out" if code == -signal.SIGKILL else f"ended ({code})"
            )
            raise UserError(
                f"a worker process {cause}: run again, with more free memory or, on Linux, in one process"
                " (`taskset -c 0` before the command)"
            ) from None
        finally:
            for future in pending:
                future.cancel()
            for worker in workers:
                worker.process.kill()  # the thread that waits for it ends then
                worker.process.join()


def can_spawn() -> bool:
    """Whether a new process can import the running script; it cannot if that comes from standard input."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    return script is None or Path(script).exists()
