"""Search for parameters with Optuna, each trial a DVC experiment: needs `pip install optuna==5.0.0`.

    python -m tools.optimize NAME --trials 20 -S cnn.learning_rate=0.0005:0.01:log -S cnn.weight_decay=0:0.1 \\
        -S cnn.batch_size=32,64,128

A parameter is a range LOW:HIGH, of integers if both are, LOW:HIGH:log, or a list of values. Optuna proposes the values,
`dvc exp run --temp` trains and evaluates them, and Optuna learns their validation accuracy: no test image has a part in
it. Trials are kept in .dvc/tmp/optuna/NAME.log, so after any interruption the same command goes on: a trial that lost
its process runs again with the same values. Several of these commands at once work on the same trials.
`python -m tools.sweep` shows them all; `dvc exp apply NAME-NUMBER` takes one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from face_mask import errors
from face_mask.errors import UserError
from pipeline.core.values import flatten
from tools import sweep

FOLDER = Path(".dvc/tmp/optuna")
CLOCK_SECONDS = 5  # by which the start of a process differs if the clock is set
Space = dict[str, list[Any] | tuple[float, float, bool]]


def read_space(settings: list[str], known: Mapping[str, Any]) -> Space:
    """Parse `-S` options: a list of values, or low, high and whether the scale is logarithmic.

    Raises UserError if a parameter is not in `known` or a range is not valid.
    """
    space: Space = {}
    for setting in settings:
        name, _, values = setting.partition("=")
        if name not in known:
            raise UserError(f"-S {setting}: params.yaml has no {name}")
        ends = [yaml.safe_load(end) for end in values.removesuffix(":log").split(":")]
        if len(ends) == 1:
            space[name] = [yaml.safe_load(value) for value in values.split(",")]
        elif len(ends) == 2 and all(type(end) in (int, float) for end in ends) and ends[0] < ends[1]:
            log = values.endswith(":log")
            if log and ends[0] <= 0:
                raise UserError(f"-S {setting}: a logarithmic range begins above 0")
            space[name] = (*ends, log)
        else:
            raise UserError(
                f"-S {setting}: not LOW:HIGH, LOW:HIGH:log or a list of values, with numbers such as 0.001, not 1e-3"
            )
    return space


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """The values that Optuna proposes."""
    found = {}
    for name, values in space.items():
        if isinstance(values, list):
            found[name] = trial.suggest_categorical(name, values)
        else:
            low, high, log = values
            whole = isinstance(low, int) and isinstance(high, int)
            found[name] = (trial.suggest_int if whole else trial.suggest_float)(name, low, high, log=log)
    return found


def run(name: str, values: Mapping[str, Any], metric: str, stages: list[str]) -> float | None:
    """Run an experiment and return its validation metric; None if it failed."""
    sets = [argument for key, value in values.items() for argument in ("-S", f"{key}={sweep.override(value)}")]
    if subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *sets, *stages]).returncode:
        return None
    done = [one["metrics"].get(metric) for one in sweep.read() if one["name"] == name]
    return done[0] if done else None


def lost(trial: Any) -> bool:
    """Whether the process that ran a trial has ended; after a restart of the machine, another may have its number."""
    pid, created = trial.user_attrs.get("process", (-1, 0.0))
    return not psutil.pid_exists(pid) or abs(psutil.Process(pid).create_time() - created) > CLOCK_SECONDS


def search(name: str, space: Space, trials: int, metric: str, stages: list[str]) -> None:
    """Run trials until `trials` of them have ended, failed ones included."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState
    except ImportError:
        raise UserError("Optuna is not installed: `pip install optuna==5.0.0`") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(FOLDER / f"{name}.log")))
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if lost(trial):
            study.tell(trial.number, state=TrialState.PRUNED)
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
            print(f"optimize: {name}-{trial.number} lost its process and runs again", flush=True)
    counted = (TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING)
    while len(study.get_trials(deepcopy=False, states=counted)) < trials:
        trial = study.ask()
        trial.set_user_attr("process", [os.getpid(), psutil.Process().create_time()])
        values = suggest(trial, space)
        value = run(f"{name}-{trial.number}", values, metric, stages)
        study.tell(trial, value, TrialState.COMPLETE if value is not None else TrialState.FAIL)
        print(f"optimize: {name}-{trial.number} {values}: {'failed' if value is None else f'{value:.4f}'}", flush=True)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise UserError(f"no trial of {name} has ended well yet: see the messages above")
    best = study.best_trial
    print(f"optimize: best by {metric}: {name}-{best.number} ({best.value:.4f}) {best.params}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.optimize", description="Search for parameters with Optuna.")
    parser.add_argument("name", help="of the study and, with a number, of its experiments")
    parser.add_argument("-S", dest="space", action="append", required=True, metavar="PARAMETER=RANGE", help="see above")
    parser.add_argument("--trials", type=int, default=20, help="how many in all; default: 20")
    parser.add_argument("--metric", default=sweep.VAL[0], help=f"a validation accuracy; default: {sweep.VAL[0]}")
    parser.add_argument("--stages", nargs="+", default=["evaluate"], help="default: evaluate")
    arguments = parser.parse_args()
    if not sweep.is_val_accuracy(arguments.metric):
        raise UserError(f"--metric {arguments.metric} is not an accuracy on validation images")
    known = flatten(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")))
    space = read_space(arguments.space, known)
    search(arguments.name, space, arguments.trials, arguments.metric, arguments.stages)


if __name__ == "__main__":
    errors.run(main)
