"""A parallel map on an Apache Spark cluster, for the stages that have work for each image: docs/spark.md."""

from __future__ import annotations

import gc
import os
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from face_mask.errors import UserError

if TYPE_CHECKING:
    from pyspark import SparkContext

Item = TypeVar("Item")
Result = TypeVar("Result")
# Where a stage runs changes none of its outputs, so this is no parameter of params.yaml.
SETTING = "FACE_MASK_SPARK_MASTER"
TASKS = 8  # items of a job; the driver has the results of a job in memory as a whole, in Java as well
MOST_JOBS = 64
REPOSITORY = Path(__file__).resolve().parents[2]
# Each core runs a Python process of its own. The features are the same for any number of threads.
ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY), "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@contextmanager
def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], locally: Callable[[], Iterable[Result]]
) -> Iterator[Iterable[Result]]:
    """Yield an iterable of `function(item)` in the order of `items`, computed on Spark or, without it, by `locally()`.

    Spark is used if the environment variable FACE_MASK_SPARK_MASTER has the address of its master. The working
    directory and the environment of this process must be at the same paths on all workers. `function` must be of an
    importable module, and the items and results picklable. Raises UserError if Spark cannot be used or fails.
    """
    master = os.environ.get(SETTING)
    if not master:
        yield locally()
        return
    from face_mask import spark

    with spark.session(master, f"{SETTING}=", "face-mask pipeline") as session:
        context = session.sparkContext
        context.environment.update(ENVIRONMENT)
        with closing(map_on_spark(context, function, items)) as results:
            yield results


def map_on_spark(
    context: SparkContext, function: Callable[[Item], Result], items: Sequence[Item]
) -> Generator[Result, None, None]:
    """Yield `function(item)` in the order of `items`, each computed in a task of its own.

    Jobs of a few tasks follow one another without a gap, with at most three tasks per core and 2 to MOST_JOBS jobs in
    progress, so results do not pile up if their consumer is slower. (RDD.toLocalIterator would compute one partition at
    a time.)
    """
    from py4j.protocol import Py4JError

    from face_mask import spark

    run = partial(compute, function=function, folder=str(Path.cwd()))

    def submit(some: Sequence[Item]) -> list[tuple[Exception | None, Any]]:
        with spark.one_line_errors():
            return context.parallelize(list(some), len(some)).map(run).collect()

    pending: deque[Future] = deque()
    with ThreadPoolExecutor(MOST_JOBS) as threads:
        try:
            for start in range(0, len(items), TASKS):
                pending.append(threads.submit(submit, items[start : start + TASKS]))
                # Workers come and go.
                if len(pending) >= min(MOST_JOBS, max(2, 3 * context.defaultParallelism // TASKS)):
                    yield from results_of(pending.popleft())
            while pending:
                yield from results_of(pending.popleft())
        except BaseException:
            for job in pending:
                job.cancel()
            with suppress(Py4JError, OSError):  # if Java has ended, its jobs have too
                context.cancelAllJobs()
            raise


def results_of(job: Future) -> Iterator[Any]:
    """Yield the results of a job's tasks. Raises what a task raised."""
    for error, result in job.result():
        if error is not None:
            raise error
        yield result


def compute(item: Item, function: Callable[[Item], Result], folder: str) -> tuple[Exception | None, Result | None]:
    """Return None and `function(item)`, or the exception that it raised: what a task does on a worker.

    An OSError is raised here: Spark tries the task again, up to four times, on any worker.
    """
    if not Path(folder).is_dir():
        return UserError(f"a worker cannot see the folder {folder}: mount it at this path on all workers"), None
    os.chdir(folder)
    try:
        result = function(item)
        freeze()
        return None, result
    except OSError:
        raise
    except Exception as error:
        error.add_note(f"on a worker of Spark:\n{traceback.format_exc()}")
        return error, None


@cache
def freeze() -> None:
    """Once in a process, exempt what has been loaded from garbage collection.

    pyspark collects garbage after each task. With TensorFlow's 400,000 objects, that takes 0.2 s.
    """
    gc.freeze()
