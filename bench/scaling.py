"""Time and peak memory against the number of images: split, one epoch of training, prediction and report.

    python -m bench.scaling [--sizes 1000 10000 100000] [--quick]

Draws the images and runs the stages one by one in a scratch copy of the repository. Adds the sizes to
bench/scaling.json and draws bench/scaling.png; --quick, with 300 images, only prints. Not part of `make bench`, since
100,000 images take an hour. The stages that do not depend on the number of images (unseen images, hard
cases, explanations, exports) are left out; the report shows their committed results. Memory is that of a stage's
processes, with shared pages counted once, and includes the pages of memory-mapped arrays, which the system can free.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.measure import ROOT, machine
from bench.split_scale import run_stage, write_archive
from face_mask import files
from tools import scratch

STAGES = (
    *("pretrained", "decode", "features", "split", "counterfactuals", "audit"),
    *("train_cnn", "train_mobilenet", "predict", "evaluate", "report"),
)
SHOWN = {  # what the plot shows: the sum of the seconds, and the largest memory
    "decode, features, split": ("decode", "features", "split"),
    "changed copies": ("counterfactuals",),
    "one epoch of the CNN": ("train_cnn",),
    "prediction by both models": ("predict",),
    "evaluation and report": ("evaluate", "report"),
}
JSON, PLOT = ROOT / "bench/scaling.json", ROOT / "bench/scaling.png"
PARAMS = {
    "split.exclude": "none.txt",  # the default list has paths of the real data set
    "cnn.epochs": 1,
    "mobilenet.head_epochs": 1,
    "mobilenet.fine_tune_epochs": 0,
    "conformal.error": 0.1,
}


def measure(n: int, side: int) -> dict[str, Any]:
    """Run all stages on `n` drawn images. Returns seconds and peak MB of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scratch.copy_tree(folder)
        for committed in ("metrics", "plots"):
            shutil.copytree(ROOT / committed, folder / committed, dirs_exist_ok=True)
        weights = ROOT / "models/mobilenet_backbone.weights.h5"
        choice = {"mobilenet.pretrained": str(weights)} if weights.exists() else {}
        scratch.set_params(folder, PARAMS | choice)
        (folder / "none.txt").touch()
        write_archive(folder / "data/raw/images.zip", n, side)
        stages = {}
        for stage in STAGES:
            seconds, peak = run_stage(stage, folder)
            stages[stage] = {"seconds": round(seconds, 1), "peak_mb": round(peak / 1e6)}
            print(f"{n} images, {stage}: {seconds:.0f} s, at most {peak / 1e6:.0f} MB", flush=True)
        arrays = sum(path.stat().st_size for path in (folder / "data").rglob("*.npy"))
        return {"stages": stages, "arrays_mb": round(arrays / 1e6), "machine": machine()}


def draw(sizes: dict[str, Any], path: Path) -> None:
    """Draw time and memory against the number of images, both on logarithmic axes."""
    from matplotlib.figure import Figure

    counts = sorted(map(int, sizes))
    figure = Figure(figsize=(10, 4), layout="constrained")
    of_time, of_memory = figure.subplots(1, 2)
    for title, stages in SHOWN.items():
        parts = [[sizes[str(n)]["stages"][stage] for stage in stages] for n in counts]
        of_time.plot(counts, [sum(one["seconds"] for one in part) for part in parts], "o-", label=title)
        of_memory.plot(counts, [max(one["peak_mb"] for one in part) for part in parts], "o-", label=title)
    of_memory.plot(counts, [sizes[str(n)]["arrays_mb"] for n in counts], "k:", label="arrays on disk")
    for axes, label in ((of_time, "seconds"), (of_memory, "peak memory in MB")):
        axes.set(xscale="log", yscale="log", xlabel="number of images", ylabel=label)
        axes.grid(alpha=0.3)
    of_memory.legend(fontsize="small")
    with files.replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=100, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--side", type=int, default=96, help="of the encoded images, in pixels")
    parser.add_argument("--quick", action="store_true", help="300 images; nothing is written")
    args = parser.parse_args()
    if args.quick:
        measure(300, args.side)
        sys.exit()
    for n in args.sizes:
        known = json.loads(JSON.read_text(encoding="utf-8")) if JSON.exists() else {}
        files.write_json(JSON, known | {str(n): measure(n, args.side)})  # after each size, since the next takes longer
        draw(json.loads(JSON.read_text(encoding="utf-8")), PLOT)


if __name__ == "__main__":
    main()
