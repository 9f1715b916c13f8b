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
import datetime
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from face_mask import errors, settings
from face_mask.errors import UserError
from pipeline.core.values import flatten
from tools import dvc_queue, sweep

FOLDER = Path(".dvc/tmp/optuna")
CLOCK_SECONDS = 5  # by which the start of a process differs if the clock is set
START_SECONDS = 60
Space = dict[str, list[Any] | tuple[float, float, bool]]


def read_space(options: list[str], known: Mapping[str, Any]) -> Space:
    """Parse `-S` options: a list of values, or low, high and whether the scale is logarithmic.

    Raises UserError if a parameter is not in `known` or a range is not valid.
    """
    space: Space = {}
    for setting in options:
        name, _, values = setting.partition("=")
        if name not in known:
            raise UserError(f"-S {setting}: params.yaml has no {name}")
        try:
            ends = [yaml.safe_load(end) for end in values.removesuffix(":log").split(":")]
            listed = [yaml.safe_load(value) for value in values.split(",")]
        except yaml.YAMLError:
            ends, listed = [], []
        if len(ends) == 1 and values:
            space[name] = listed
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


def run(name: str, values: Mapping[str, Any], metric: str, stages: list[str], head: str) -> tuple[str, float | None]:
    """Run an experiment on the commit `head`. Return the state of its trial, and its validation metric.

    That is COMPLETE; or FAIL; or PRUNED, if another process that runs experiments at the same time has taken it.
    Raises UserError if its stages do not write the metric.
    """
    sets = [argument for key, value in values.items() for argument in ("-S", f"{key}={dvc_queue.override(value)}")]
    if to_the_end([sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *sets, *stages]):
        return "FAIL", None
    known = [one for one in sweep.read(head)[1:] if one["state"] in ("done", "not evaluated")]
    done = [one["metrics"] for one in known if one["name"] == name]
    if not done:
        return "PRUNED", None
    if metric not in done[0]:
        raise UserError(f"{name} has no {metric}: name the stages that write it with --stages")
    return "COMPLETE", done[0][metric]


def to_the_end(command: list[str]) -> int:
    """Run a command and return its exit code; after Ctrl-C or SIGTERM not before it has ended, as it does then too.

    subprocess.run would kill it at once, and DVC leaves the folder of its experiment then.
    """
    with subprocess.Popen(command, env=dvc_queue.environment()) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # which the terminal has sent to the command as well
            process.wait()
            raise
        except SystemExit:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


def lost(trial: Any) -> bool:
    """Whether the process that ran a trial has ended; after a restart of the machine, another may have its number."""
    if "process" not in trial.user_attrs:  # which its process sets next
        return datetime.datetime.now() - trial.datetime_start > datetime.timedelta(seconds=START_SECONDS)
    pid, created = trial.user_attrs["process"]
    return not psutil.pid_exists(pid) or abs(psutil.Process(pid).create_time() - created) > CLOCK_SECONDS


def search(name: str, space: Space, trials: int, metric: str, stages: list[str]) -> None:
    """Run trials until `trials` of them have ended, failed ones included.

    Raises UserError if the study belongs to another commit or other parameters, or no trial ends well.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState
    except ImportError:
        raise UserError("Optuna is not installed: `pip install optuna==5.0.0`") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.log"
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        raise UserError(f"{path} ends in the middle of a line: run again; if this stays, delete that line")
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    head = study.user_attrs.get("commit") or dvc_queue.git("rev-parse", "HEAD") or ""
    study.set_user_attr("commit", head)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if lost(trial):
            study.tell(trial.number, state=TrialState.PRUNED)
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
            print(f"optimize: {name}-{trial.number} lost its process and runs again", flush=True)
    counted = (TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING)
    while len(study.get_trials(deepcopy=False, states=counted)) < trials:
        dvc_queue.check_workspace(head, f"the trials of {name} cannot go on")
        trial = study.ask()
        trial.set_user_attr("process", [os.getpid(), psutil.Process().create_time()])
        try:
            values = suggest(trial, space)
        except ValueError as error:
            study.tell(trial, state=TrialState.FAIL)
            raise UserError(f"-S: {error}: give the values of the first call, or use another NAME") from None
        state, value = run(f"{name}-{trial.number}", values, metric, stages, head)
        study.tell(trial, value, TrialState[state])
        if state == "PRUNED":
            study.enqueue_trial(values, user_attrs={"again": trial.number})
        shown = {"FAIL": "failed", "PRUNED": "was taken by another process, and runs again"}.get(
            state, f"{value or 0:.4f}"
        )
        print(f"optimize: {name}-{trial.number} {values}: {shown}", flush=True)
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
    if not re.fullmatch(r"\w[\w.-]*", arguments.name):
        raise UserError(f"{arguments.name!r} is not a valid NAME: use letters, digits, - and _")
    space = read_space(arguments.space, flatten(settings.read(Path("params.yaml"))))
    sweep.choose_metric(sweep.read(), arguments.metric)
    search(arguments.name, space, arguments.trials, arguments.metric, arguments.stages)


if __name__ == "__main__":
    errors.run(main)
