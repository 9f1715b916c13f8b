"""`face-mask spark` on a standalone cluster on loopback: a master and two workers as processes, one of them killed.

    python -m bench.spark_cluster --images 20000 --scratch /tmp/spark data/raw/unseen.zip data/raw/images.zip

Extracts the images of the archives and repeats them under new names up to --images; every hundredth is damaged or
empty. Then predicts them all in one process, as `face-mask predict` does with one thread; on the cluster with one
worker of one core; with two; and with two of which one is killed with its executor once half of the images are
committed. Each result must have every image exactly once, with the rows of the one process. Prints images per second
and per core, and the processor time an image takes, of all processes and without the start of Spark, which other load
of the machine changes less. The repeated images are predicted again on the cluster, and once in the one process, whose
rates are those of the distinct ones.

Needs requirements-spark.txt and Java. 20,000 images take about 11 minutes of a core, the run with the kill more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from zipfile import ZipFile

import psutil

from face_mask import arrow, errors, spark
from face_mask.errors import UserError
from face_mask.schema import IMAGE_SUFFIXES

HOST = "127.0.0.1"
DAMAGED_EVERY = 100


def extract(archives: list[Path], n: int, folder: Path) -> dict[str, Path]:
    """Write `n` images to `folder`: the path of each as Spark has it, with the file of the same bytes to compare."""
    sources, folder = folder / "sources", folder / "images"
    shutil.rmtree(folder, ignore_errors=True)
    sources.mkdir(parents=True, exist_ok=True)
    distinct: list[Path] = []
    for number, path in enumerate(archives):
        with ZipFile(path) as archive:
            names = sorted(one for one in archive.namelist() if Path(one).suffix.lower() in IMAGE_SUFFIXES)
            for index, name in enumerate(names):
                if len(distinct) == n:
                    break
                distinct.append(sources / f"{number}-{index}{Path(name).suffix.lower()}")
                distinct[-1].write_bytes(archive.read(name))
    cut, empty = sources / "cut.jpg", sources / "empty.jpg"
    cut.write_bytes(distinct[0].read_bytes()[:5000])
    empty.write_bytes(b"")
    same = {}
    for index in range(n):
        source = distinct[index % len(distinct)]
        if index % DAMAGED_EVERY == 0:
            source = empty if index % (2 * DAMAGED_EVERY) else cut
        copy = folder / f"{index // 1000:03}" / f"{index:06}{source.suffix}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        same[f"file:{copy}"] = source
    return same


def in_one_process(model: arrow.SentModel, files: set[Path]) -> tuple[dict[Path, list[dict]], float, float]:
    """The rows of each file, without its path, images per second with one thread, and processor seconds an image."""
    classifier = arrow.load(model)
    rows = {}
    started, before = time.perf_counter(), time.process_time()
    for file in sorted(files):
        rows[file] = [row | {"path": None} for row in arrow.to_rows("", file.read_bytes(), classifier, "auto")]
    return rows, len(files) / (time.perf_counter() - started), (time.process_time() - before) / len(files)


def processor_seconds() -> float:
    """Of this process and all below it that run: the driver, the master, the workers and their executors."""
    me = psutil.Process()
    total = 0.0
    for one in [me, *me.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:2])
    return total


@contextmanager
def process(scratch: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """A process of Spark, which writes its log to NAME.log in `scratch`; killed at the end with all its children."""
    import pyspark

    command = Path(str(pyspark.__file__)).parent / "bin/spark-class"
    environment = os.environ | {
        "SPARK_LOCAL_IP": HOST,
        "SPARK_WORKER_DIR": str(scratch / "work"),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_DAEMON_MEMORY": "512m",
    }
    with (scratch / f"{name}.log").open("w") as log:
        started = subprocess.Popen([str(command), *arguments], env=environment, stdout=log, stderr=log)
    try:
        yield started
    finally:
        kill(started)


def kill(started: subprocess.Popen) -> None:
    """Kill a process and its children, such as a worker's executor and the Python processes of that."""
    with_children = []
    if started.poll() is None:
        with_children = psutil.Process(started.pid).children(recursive=True)
    for one in [*with_children, started]:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            one.send_signal(signal.SIGKILL)
    started.wait()


@contextmanager
def cluster(scratch: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A master and workers of one core each: the master's address, and the workers' processes."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    url = f"spark://{HOST}:{port}"
    deploy = "org.apache.spark.deploy"
    with ExitStack() as stack:
        ports = ("--host", HOST, "--port", str(port), "--webui-port", "0")
        stack.enter_context(process(scratch, "master", f"{deploy}.master.Master", *ports))
        wait_for(scratch / "master.log", "I have been elected leader", 1)
        started = [
            stack.enter_context(
                process(
                    scratch, f"worker{number}", f"{deploy}.worker.Worker", "--host", HOST, "--cores", "1",
                    "--memory", "2g", "--webui-port", "0", url,
                )
            )
            for number in range(workers)
        ]  # fmt: skip
        wait_for(scratch / "master.log", "Registering worker", workers)
        yield url, started


def wait_for(log: Path, text: str, times: int, seconds: float = 180) -> None:
    """Wait until a log has a text so many times."""
    until = time.monotonic() + seconds
    while log.read_text().count(text) < times:
        if time.monotonic() > until:
            raise UserError(f"{log} does not say {text!r} within {seconds} s: see there")
        time.sleep(0.2)


def committed(output: Path) -> int:
    """Number of images in the tasks that are committed so far of a run that writes to `output`."""
    import pyarrow.parquet as pq

    paths: set[str] = set()
    for file in output.parent.glob(f".{output.name}.*/parts/_temporary/0/task_*/*.parquet"):
        try:
            paths |= set(pq.read_table(file, columns=["path"])["path"].to_pylist())
        except OSError:  # moved meanwhile
            continue
    return len(paths)


def run(
    scratch: Path, images: Path, output: Path, model: arrow.SentModel, workers: int, kill_at: int | None = None
) -> dict:
    """Predict on a new cluster; the seconds of each part. `kill_at` kills one worker once so many are committed."""
    args = spark.parse([str(images), str(output), "--overwrite"])
    with cluster(scratch, workers) as (url, started):
        times = [time.perf_counter()]
        killed: list[int] = []
        finished = threading.Event()

        def kill_one() -> None:
            while kill_at is not None and not finished.wait(0.5):
                if (now := committed(output)) >= kill_at:
                    kill(started[-1])
                    killed.append(now)
                    return

        with spark.session(url) as session, spark.one_line_errors():
            session.sparkContext.setLogLevel("FATAL")
            times.append(time.perf_counter())
            before = processor_seconds()
            watcher = threading.Thread(target=kill_one)
            watcher.start()
            try:
                with spark.replacing(session, args.output, args.overwrite) as work:
                    found = spark.find_images(session, args)
                    times.append(time.perf_counter())
                    spark.write(session, found, model, args.faces, work)
                    times.append(time.perf_counter())
                    n, unreadable, faces = spark.count(session, work)
                    used = processor_seconds() - before
            finally:
                finished.set()
                watcher.join()
        if kill_at is not None and not killed:
            raise UserError("the run ended before a worker was killed: use more --images")
    start, find, predict = (round(b - a, 1) for a, b in itertools.pairwise(times))
    return {
        "workers": workers, "images": n, "unreadable": unreadable, "faces": faces, "killed_after": killed[0] if killed
        else None, "session_s": start, "listing_s": find, "predict_s": predict, "images_per_s": round(n / predict, 2),
        "images_per_s_core": round(n / predict / workers, 2), "processor_s": None if killed else round(used / n, 4),
    }  # fmt: skip


def compare(output: Path, same: dict[str, Path], expected: dict[Path, list[dict]]) -> None:
    """Raise UserError unless `output` has every image exactly once, with the expected rows."""
    import pyarrow.parquet as pq

    rows: dict[str, list[dict]] = {}
    for row in pq.read_table(output).to_pylist():
        rows.setdefault(row["path"], []).append(row | {"path": None})
    if missing := set(same) ^ set(rows):
        raise UserError(f"{len(missing)} images are missing or unknown, such as {min(missing)}")
    for path, found in rows.items():
        wanted = [dict.fromkeys(arrow.COLUMNS) | row for row in expected[same[path]]]
        if found != wanted:
            raise UserError(f"{path} has the rows {found}, not {wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.spark_cluster", description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--scratch", type=Path, required=True, help="an empty folder, 20 GB for 20,000 images")
    parser.add_argument("--runs", nargs="+", choices=("1", "2", "killed"), default=("1", "2", "killed"))
    args = parser.parse_args()
    os.environ["SPARK_LOCAL_IP"] = HOST
    scratch = args.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    same = extract(args.archives, args.images, scratch)
    model, origin = spark.find_model()
    expected, rate, seconds = in_one_process(model, set(same.values()))
    alone = {"images_per_s": round(rate, 2), "processor_s": round(seconds, 4)}
    print(json.dumps({"model": origin, "distinct": len(expected), "one_process": alone}), flush=True)
    runs = {"1": (1, None), "2": (2, None), "killed": (2, args.images // 2)}
    for workers, kill_at in (runs[name] for name in args.runs):
        result = run(scratch, scratch / "images", scratch / "faces.parquet", model, workers, kill_at)
        compare(scratch / "faces.parquet", same, expected)
        result["of_one_process"] = round(result["images_per_s_core"] / rate, 3)
        print(json.dumps(result), flush=True)
    _, rate, seconds = in_one_process(model, set(sorted(expected)[:: max(1, len(expected) // 500)]))
    print(json.dumps({"one_process_at_the_end": {"images_per_s": round(rate, 2), "processor_s": round(seconds, 4)}}))


if __name__ == "__main__":
    errors.run(main)
