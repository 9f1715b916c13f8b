"""The stages `decode` and `features` on a standalone cluster on loopback, against the same stages without it.

    python -m bench.spark_prepare --images 20000 --scratch /tmp/prepare data/raw/images.zip

Makes an archive of so many images from those of the given ones, which are repeated under new names; every hundredth
is damaged. Then runs both stages as commands, locally and on the cluster, of two workers with one core each, of which
one is killed when half of the images are decoded. The files of both must be equal byte for byte. Prints images per
second of the whole command, the seconds after its first result, and the processor time an image takes: of the command
with its Java and all below it, and of the workers with theirs, without the start of Spark's master and workers.

--stages decode leaves out the features, which take 20 times as long; --workers 1 gives the rate of one core, and
--no-kill that of an undisturbed run. Needs requirements-spark.txt and Java. Without the weights of the stage
`pretrained`, those of the backbone are random, which takes the same time.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import psutil

from bench.spark_cluster import DAMAGED_EVERY, HOST, cluster, kill
from face_mask import errors
from face_mask.errors import UserError
from pipeline.core.cluster import SETTING
from pipeline.dataset import packing
from pipeline.models import imagenet_weights, mobilenet
from pipeline.sources import archives
from tools import scratch

REPOSITORY = Path(__file__).resolve().parents[1]
HEADER = 128  # bytes of a .npy file before the first result
OUTPUTS = {"decode": (packing.IMAGES_PATH, packing.DECODED_PATH), "features": (packing.FEATURES_PATH,)}


def make_workspace(folder: Path, sources: list[Path], n: int) -> None:
    """Create the folder with what both stages read: parameters, weights, and an archive of `n` images."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data/raw").mkdir(parents=True)
    (folder / "models").mkdir()
    shutil.copyfile(REPOSITORY / "params.yaml", folder / "params.yaml")
    if (weights := REPOSITORY / mobilenet.BACKBONE).exists():
        shutil.copyfile(weights, folder / mobilenet.BACKBONE)
    else:
        imagenet_weights.write(imagenet_weights.obtain("none"), folder / mobilenet.BACKBONE)
    (folder / "data/exclude.txt").write_text("")
    members = [
        (source, label, name)
        for source in sources
        for label, names in archives.list_images(source).items()
        for name in names
    ]
    random.Random(0).shuffle(members)  # so that a few images are of both classes
    opened = {source: ZipFile(source) for source in sources}
    with ZipFile(folder / "data/raw/images.zip", "w") as archive:
        for index, (source, label, name) in zip(range(n), itertools.cycle(members), strict=False):
            content = opened[source].read(name)
            if index % DAMAGED_EVERY == 0:
                content = content[: len(content) // 2]
            archive.writestr(f"{label}/{index:09}{Path(name).suffix.lower()}", content)


def processor_seconds(processes: list[psutil.Process]) -> float:
    """Of these processes and all below them, as far as they run."""
    total = 0.0
    for process in processes:
        try:
            for one in [process, *process.children(recursive=True)]:
                total += sum(one.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def run_stage(
    folder: Path, stage: str, url: str, workers: list[subprocess.Popen], kill_at: int | None
) -> dict[str, float | int | None]:
    """Run a stage as a command. `kill_at` kills the last worker once the images array has so many bytes."""
    environment = scratch.environment() | {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), SETTING: url}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), environment["PYTHONPATH"])))
    others = [psutil.Process(worker.pid) for worker in workers]
    before, used, driver = processor_seconds(others), 0.0, 0.0
    killed_at: int | None = None
    first: float | None = None
    started = time.perf_counter()
    running = subprocess.Popen([sys.executable, "-m", f"pipeline.{stage}"], cwd=folder, env=environment)
    mine = psutil.Process(running.pid)
    while running.poll() is None:
        used = max(used, processor_seconds(others) - before)
        driver = max(driver, processor_seconds([mine]))
        output = OUTPUTS[stage][0]
        temporary = folder / output.with_name(f".{running.pid}.{output.name}")
        size = temporary.stat().st_size if temporary.exists() else 0
        if size > HEADER and first is None:
            first = time.perf_counter()
        if kill_at is not None and killed_at is None and size >= kill_at:
            kill(workers[-1])
            killed_at = size
        time.sleep(0.05)
    if running.returncode:
        raise UserError(f"{stage} ended with exit code {running.returncode}: see above")
    if kill_at is not None and killed_at is None:
        raise UserError("the stage ended before a worker was killed: use more --images")
    ended = time.perf_counter()
    return {
        "seconds": ended - started, "from_first_s": ended - (first or ended), "driver_s": driver, "workers_s": used,
        "killed_at_bytes": killed_at,
    }  # fmt: skip


def digests(folder: Path, stage: str) -> list[str]:
    """SHA-256 of a stage's outputs."""
    found = []
    for path in OUTPUTS[stage]:
        with (folder / path).open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.spark_prepare", description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder, with 100 KB of space for each image")
    parser.add_argument("--stages", nargs="+", choices=tuple(OUTPUTS), default=tuple(OUTPUTS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-kill", action="store_true")
    args = parser.parse_args()
    os.environ["SPARK_LOCAL_IP"] = HOST
    folder = args.scratch.resolve()
    make_workspace(folder / "work", [path.resolve() for path in args.archives], args.images)
    n = args.images
    expected: dict[str, list[str]] = {}
    for where in ("local", "cluster"):
        for stage in args.stages:
            if where == "local":
                result = run_stage(folder / "work", stage, "", [], None)
                expected[stage] = digests(folder / "work", stage)
            else:
                size = (folder / "work" / packing.IMAGES_PATH).stat().st_size
                kill_at = size // 2 if stage == "decode" and not args.no_kill and args.workers > 1 else None
                with cluster(folder, args.workers) as (url, workers):
                    result = run_stage(folder / "work", stage, url, workers, kill_at)
                if digests(folder / "work", stage) != expected[stage]:
                    raise UserError(f"{stage} on the cluster wrote other bytes than without it")
            seconds, driver, used = (result[key] or 0.0 for key in ("seconds", "driver_s", "workers_s"))
            print(
                json.dumps(
                    {
                        "where": where, "stage": stage, "images": n, "workers": args.workers if where == "cluster" else
                        None, "seconds": round(seconds, 1), "images_per_s": round(n / seconds, 1),
                        "seconds_from_first_result": round(result["from_first_s"] or 0.0, 1),
                        "driver_ms_an_image": round(1000 * driver / n, 3),
                        "workers_ms_an_image": None if result["killed_at_bytes"] else round(1000 * used / n, 3),
                        "killed_at_bytes": result["killed_at_bytes"], "bytes": "equal" if where == "cluster" else None,
                    }
                ),
                flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
