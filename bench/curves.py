"""Make the learning curve of one way of training: validation accuracy after every epoch, and the time of its steps.

    python -m bench.curves NAME [--workspace FOLDER] [--times 3] [--to-the-end]

Names: ours_cnn and ours_mobilenet, the stages with their default parameters, and those of the peers in
bench/peers/*_training.py. Adds the curve to bench/curves.json. A run ends at the target, 95.5 % for the CNN
and 99 % for MobileNetV2, or, for a peer, after three times the seconds of ours, so make ours first. Validation is on
the unchanged validation images alone, unlike that of the stages. Seconds are steps × median step time: they leave out
starting, reading the data set and validation.

--epochs and --max-steps make a short curve, to try the command; it is printed and not kept.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import training_data
from bench.measure import ROOT, Options, clean_environment, machine, peer_interpreter
from face_mask import errors, files
from face_mask.errors import UserError

PATH = ROOT / "bench/curves.json"
TARGETS = {"cnn": 0.955, "mobilenet": 0.99}
MODULES = {
    "ours": "bench.trainers",
    "keras": "bench.peers.keras_training",
    "original": "bench.peers.original_training",
    "torch": "bench.peers.torch_training",
}
NAMES = (
    *("ours_cnn", "keras_cnn", "keras_cnn_cached", "original_cnn", "torch_cnn", "torch_cnn_cached"),
    *("ours_mobilenet", "keras_mobilenet", "original_mobilenet", "torch_mobilenet"),
)


def model_of(name: str) -> str:
    return name.split("_")[1]


def read() -> dict[str, Any]:
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def reached(curve: dict[str, Any]) -> bool:
    """Whether the curve reaches the target."""
    return any((one["val_accuracy"] or 0) >= curve["target"] for one in curve["epochs"])


def steps(curve: dict[str, Any]) -> dict[str, int]:
    """Number of steps of each phase until the target, or until the end if the target is not reached."""
    counts: dict[str, int] = {}
    for one in curve["epochs"]:
        counts[one["phase"]] = one["steps"]
        if (one["val_accuracy"] or 0) >= curve["target"]:
            break
    return counts


def seconds(curve: dict[str, Any]) -> float:
    """Seconds until the target, in the run that made the curve."""
    return next(
        (one["seconds"] for one in curve["epochs"] if (one["val_accuracy"] or 0) >= curve["target"]),
        curve["epochs"][-1]["seconds"],
    )


def command(name: str, what: str, folder: Path, *options: object) -> list[str]:
    """The command that measures a way of training, see bench.training_worker."""
    kind = name.split("_")[0]
    python = peer_interpreter() if kind == "torch" else sys.executable
    return [str(one) for one in (python, "-m", MODULES[kind], name, what, folder, *options)]


def make(name: str, options: Options, arguments: argparse.Namespace) -> dict[str, Any]:
    curves, target = read(), TARGETS[model_of(name)]
    limits: list[object] = [] if arguments.to_the_end else ["--target", target]
    ours = f"ours_{model_of(name)}"
    if not name.startswith("ours_") and not arguments.epochs:
        if ours not in curves or not reached(curves[ours]):
            raise UserError(f"there is no curve of {ours} that reaches {target:.1%}: make it first")
        limits += ["--seconds", arguments.times * seconds(curves[ours])]
    for key in ("epochs", "max_steps"):
        if value := getattr(arguments, key):
            limits += [f"--{key.replace('_', '-')}", value]
    epochs = []
    with tempfile.TemporaryDirectory() as temporary:
        ours_folder = options.workspace.resolve()
        folder = ours_folder if name.startswith("ours_") else training_data.prepare(options, Path(temporary))
        run = command(name, "curve", folder, *limits)
        with subprocess.Popen(run, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("{"):
                    epochs.append(json.loads(line))
                    print(line.strip(), flush=True)
        if process.returncode:
            raise UserError(f"{name} ended with exit code {process.returncode}; its messages are above")
    return {"target": target, "date": datetime.date.today().isoformat(), "machine": machine(), "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--workspace", type=Path, default=ROOT)
    parser.add_argument("--to-the-end", action="store_true", help="do not end at the target")
    parser.add_argument("--times", type=float, default=3.0, help="a peer may take so many times the seconds of ours")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--quick", action="store_true", help="peers have 100 images of each split and class")
    args = parser.parse_args()
    curve = make(args.name, Options(args.workspace, quick=args.quick), args)
    if not (args.epochs or args.max_steps or args.quick):
        files.write_json(PATH, read() | {args.name: curve})
        print(f"{args.name}: {'reached' if reached(curve) else 'did not reach'} {curve['target']:.1%}")


if __name__ == "__main__":
    errors.run(main)
