"""`make demo`: the whole graph on synthetic images, in a copy of the working tree under .demo/.

    python -m tools.demo

Needs no account and no data set; the pretrained weights come from the package index. A second run reuses the stages
whose parameters and code are unchanged. To be quick, stages are forked from a process that has imported the libraries,
and two run side by side; `make repro` runs the same commands one after the other, each in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from face_mask.schema import TITLES
from pipeline.core.values import flatten
from pipeline.reporting.comparison_table import ROWS
from tools import preloaded, scratch, side_by_side

FOLDER = Path(".demo")
PARAMS = {
    "image_size": 96,
    "data.source": "synthetic",
    "data.synthetic_per_class": 320,
    "split.train": 0.7,
    "split.val": 0.1,
    # Weights averaged over 20 steps instead of 200, because there are few steps.
    "cnn.epochs": 18,
    "cnn.batch_size": 32,
    "cnn.ema_momentum": 0.95,
    "mobilenet.head_epochs": 10,
    "mobilenet.fine_tune_epochs": 2,
    "mobilenet.downscale_prob": 0.3,  # validation accuracy 91 %; with 0.5 it is 72 %, which takes more than 28 steps
    "mobilenet.ema_momentum": 0.95,
    "conformal.error": 0.05,  # 32 validation images per class are too few for 0.01
    "unseen.source": "synthetic",
    "unseen.synthetic_scenes": 40,
    "hard_cases.faces": 8,
    "hard_cases.val_faces": 4,
    "xai.images": 4,
    "xai.max_steps": 32,
    "xai.faithfulness_steps": 4,
    "xai.randomization_images": 2,
    "export.calibration_images": 16,
    "clip.faces": 4,
}

CAVEAT = (
    "A few hundred synthetic images and half a minute of training are enough for MobileNetV2, whose backbone is\n"
    "pretrained, but not for the CNN, which starts from random weights. README.md has the results on the real data set."
)


def comparison() -> str:
    """Return the main metrics of `dvc metrics show` as a table with one column per model."""
    shown = scratch.dvc("metrics", "show", "--json", folder=FOLDER, capture_output=True, text=True).stdout
    files = json.loads(shown)[""]["data"]
    columns: dict[str, dict] = {}
    for path, entry in files.items():
        kind, _, model = Path(path).stem.rpartition("_")  # metrics/unseen_cnn.json belongs to the CNN
        columns.setdefault(model, {}).update(flatten(entry["data"], f"{kind}." if kind else ""))
    titles = {row.key: row.title.strip("*") for row in ROWS if row.brief}
    table = pd.DataFrame(columns).rename(columns=TITLES)
    table = table.loc[[key for key in titles if key in table.index]].rename(index=titles)
    return table.to_string(float_format="{:.4g}".format)


def main() -> None:
    started = time.time()
    try:
        scratch.copy_tree(FOLDER)
        scratch.set_params(FOLDER, PARAMS)
        scratch.dvc("config", "--local", "core.no_scm", "true", folder=FOLDER)  # it is not part of the Git repository
        with preloaded.serving(FOLDER, scratch.environment()) as environment:
            side_by_side.repro(FOLDER, environment)
        scratch.dvc("repro", folder=FOLDER)  # what makes it complete; nothing is left to do
        print(f"\nThe comparison table, on synthetic images:\n\n{comparison()}\n\n{CAVEAT}\n", flush=True)
        scratch.dvc("plots", "show", "-q", folder=FOLDER, stdout=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        sys.exit(f"demo: {' '.join(error.cmd[2:])} failed: see the message above")
    print(f"report:  {FOLDER}/report/report.html")
    print(f"plots:   {FOLDER}/dvc_plots/index.html")
    print(f"files:   {FOLDER}/metrics/ {FOLDER}/plots/ {FOLDER}/models/ {FOLDER}/data/predictions.csv")
    print(f"MLflow:  .venv/bin/mlflow ui --backend-store-uri sqlite:///{FOLDER}/mlflow.db")
    print(f"demo: {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
