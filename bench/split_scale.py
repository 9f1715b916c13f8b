"""Does `split` hold at ten times the data set? Time and peak memory on drawn pictures.

    python -m bench.split_scale [--pictures 75530] [--side 96]

Draws the pictures (some minutes), then runs the real stage in a scratch repository. Memory is the sum over the stage's
processes of what is theirs alone (unique set size) and of what they share, as far as the system tells (PSS on Linux).
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

import psutil
from tqdm import tqdm

from pipeline.data.packing import LABELS
from pipeline.data.synthetic import draw_picture
from pipeline.parallel import ordered_map
from tools import scratch


def encoded(numbered: tuple[int, str], side: int) -> bytes:
    buffer = io.BytesIO()
    draw_picture(0, numbered[1], numbered[0], size=side).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def draw_archive(path: Path, pictures: int, side: int) -> None:
    numbered = [(i, LABELS[i % 2]) for i in range(pictures)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as zf:
        drawn = ordered_map(partial(encoded, side=side), numbered)
        for (i, label), content in zip(numbered, tqdm(drawn, total=pictures, desc="draw"), strict=True):
            zf.writestr(f"{label}/{i}.jpg", content)


def memory(process: psutil.Process) -> int:
    """Bytes held by a process and its children, shared pages counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            info = one.memory_full_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=75_530)
    parser.add_argument("--side", type=int, default=96, help="of the encoded pictures, in pixels")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scratch.copy_tree(folder)
        draw_archive(folder / "data/raw/pictures.zip", args.pictures, args.side)
        started, peak = time.time(), 0
        command = [sys.executable, "-m", "pipeline.split"]
        stage = psutil.Popen(command, cwd=folder, env=scratch.environment(), stderr=subprocess.DEVNULL)
        while stage.poll() is None:
            peak = max(peak, memory(stage))
            time.sleep(0.2)
        print(f"{args.pictures} pictures of {args.side} px: {time.time() - started:.0f} s, at most {peak / 1e6:.0f} MB")
        print(json.dumps(json.loads((folder / "metrics/split.json").read_text())))


if __name__ == "__main__":
    main()
