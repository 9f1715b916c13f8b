"""`make demo`: the whole graph on drawn pictures, in a copy of the working tree under .demo/.

    python -m tools.demo

Needs no account and no data set; the pretrained weights come from the package index. Run again, it goes on where
parameters and code are the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from pipeline.reporting.comparison import ROWS
from pipeline.tracking import flatten
from tools import scratch

FOLDER = Path(".demo")
PARAMS = {
    "image_size": 96,
    "data.source": "synthetic",
    "data.synthetic_per_class": 320,
    "split.train": 0.7,
    "split.val": 0.1,
    # Weights averaged over 20 steps, not 200: there are few steps.
    "cnn.epochs": 18,
    "cnn.batch_size": 32,
    "cnn.averaging": 0.95,
    "mobilenet.head_epochs": 10,
    "mobilenet.fine_tune_epochs": 2,
    "mobilenet.reduction": 0.3,  # 28 steps do not learn from more: 72 % in validation, not 91 %
    "mobilenet.averaging": 0.95,
    "unseen.source": "synthetic",
    "xai.pictures": 6,
    "xai.max_steps": 32,
    "xai.faithfulness_steps": 4,
    "xai.randomization_pictures": 2,
    "export.calibration_pictures": 16,
    "clip.pictures": 4,
}


def comparison() -> str:
    """What `dvc metrics show` prints, turned by a right angle to fit a terminal, without what is of parts of a set."""
    shown = scratch.dvc("metrics", "show", "--json", folder=FOLDER, capture_output=True, text=True).stdout
    files = json.loads(shown)[""]["data"]
    columns: dict[str, dict] = {}
    for path, entry in files.items():
        kind, _, model = Path(path).stem.rpartition("_")  # metrics/unseen_cnn.json is more of the CNN's figures
        columns.setdefault(model, {}).update(flatten(entry["data"], f"{kind}." if kind else ""))
    table = pd.DataFrame(columns)
    return table.loc[[row.key for row in ROWS if row.key in table.index]].to_string(float_format="{:.4g}".format)


def main() -> None:
    started = time.time()
    try:
        scratch.copy_tree(FOLDER)
        scratch.set_params(FOLDER, PARAMS)
        scratch.dvc("config", "--local", "core.no_scm", "true", folder=FOLDER)  # it is no part of the Git repository
        scratch.dvc("repro", folder=FOLDER)
        print("\nThe comparison table, on drawn pictures:\n", flush=True)
        print(comparison(), flush=True)
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
