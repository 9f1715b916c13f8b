"""Time and peak memory of the stages up to `split`, at ten times the size of the data set, on synthetic images.

    python -m bench.split_scale [--images 75530] [--side 96]

Generates the images (some minutes), then runs the stages decode, pretrained, features and split in a scratch copy of
the repository. Memory is the sum over a stage's processes, with shared pages counted once if the system reports them
(PSS on Linux).
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

import psutil
from tqdm import tqdm

from face_mask.schema import LABELS
from pipeline.core.parallel import ordered_map
from pipeline.synthetic.faces import draw_image
from tools import scratch

STAGES = ("decode", "pretrained", "features", "split")


def encode(numbered: tuple[int, str], side: int) -> bytes:
    """Draw and encode one image, given its index and label."""
    buffer = io.BytesIO()
    draw_image(0, numbered[1], numbered[0], size=side).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_archive(path: Path, n: int, side: int) -> None:
    """Write a zip of `n` synthetic images of both classes."""
    numbered = [(i, LABELS[i % 2]) for i in range(n)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as zf:
        images = ordered_map(partial(encode, side=side), numbered)
        for (i, label), content in zip(numbered, tqdm(images, total=n, desc="draw"), strict=True):
            zf.writestr(f"{label}/{i}.jpg", content)


def memory(process: psutil.Process) -> int:
    """Memory of a process and its children in bytes."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            info = one.memory_full_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:
            continue
    return total


def run_stage(stage: str, folder: Path) -> tuple[float, int]:
    """Run a stage in `folder`. Returns the seconds that it took and its peak memory in bytes."""
    started, peak = time.time(), 0
    command = [sys.executable, "-m", f"pipeline.{stage}"]
    process = psutil.Popen(command, cwd=folder, env=scratch.environment(), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process))
        time.sleep(0.2)
    if process.returncode:
        sys.exit(f"stage {stage} failed with exit code {process.returncode}")
    return time.time() - started, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=75_530)
    parser.add_argument("--side", type=int, default=96, help="of the encoded images, in pixels")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scratch.copy_tree(folder)
        scratch.set_params(folder, {"split.exclude": "none.txt"})  # the default list has paths of the real data set
        (folder / "none.txt").touch()
        write_archive(folder / "data/raw/images.zip", args.images, args.side)
        print(f"{args.images} images of {args.side} pixels")
        for stage in STAGES:
            seconds, peak = run_stage(stage, folder)
            print(f"{stage}: {seconds:.0f} s, at most {peak / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
