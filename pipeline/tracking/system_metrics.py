"""Load of the machine while a model is trained, under MLflow's own names, so that its page draws it.

MLflow's monitor needs a run that is open and a store that answers. So the samples are kept until the training ends.
They carry no name of the machine.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

PREFIX = "system/"
INTERVAL = 5.0  # seconds
MOST = 200  # samples; beyond, every second one is dropped, and the interval doubles


class Monitor:
    """Takes samples in a thread of its own from `with` to its end: `samples` has (seconds since 1970, metrics)."""

    def __init__(self, interval: float = INTERVAL, most: int = MOST) -> None:
        self.interval, self.most = interval, most
        self.samples: list[tuple[float, dict[str, float]]] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True, name="system metrics")

    def __enter__(self) -> Monitor:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread; may be called again."""
        self.ended.set()
        self.thread.join()

    def sample(self) -> None:
        process = psutil.Process()
        psutil.cpu_percent()  # the first call has nothing to compare with
        while not self.ended.wait(self.interval):
            memory = psutil.virtual_memory()
            values = {
                "cpu_utilization_percentage": psutil.cpu_percent(),
                "system_memory_usage_megabytes": round(memory.used / 1e6, 1),
                "process_memory_usage_megabytes": round(process.memory_info().rss / 1e6, 1),
            }
            self.samples.append((time.time(), {PREFIX + name: value for name, value in values.items()}))
            if len(self.samples) > self.most:
                del self.samples[::2]
                self.interval *= 2
