"""What every stage does besides its work: check the store, log one run, print a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face_mask import lockfile
from face_mask.errors import printable
from pipeline.core.values import flatten
from pipeline.tracking import snapshot
from pipeline.tracking.curves import Curves
from pipeline.tracking.stage_runs import log_model_metrics, log_stage, log_training
from pipeline.tracking.store import check, workspace
from pipeline.tracking.system_metrics import Monitor
from pipeline.tracking.values import weights_digest

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def stage(name: str) -> Iterator[StageRun]:
    """Run a stage: check the MLflow store first, and on success log its run and print its summary last.

    What the stage logs is held back until its outputs are written, so a stage that fails logs nothing, and a store
    that fails by then costs a warning. A training alone has a run from its start, which is FAILED if the stage fails,
    and KILLED if it is interrupted. Raises UserError if the store cannot be reached or written at the start, if an
    input is not the one in dvc.lock, or if the stage is no longer wanted when it is about to replace an output or
    ends: see pipeline/tracking/snapshot.py.
    """
    with snapshot.taken(name) as declared:
        run = StageRun(name, declared)
        check()
        lockfile.check_inputs(name, workspace())
        try:
            with Monitor() if name.startswith("train_") else nullcontext() as run.monitor:
                yield run
            run.finish()
            snapshot.check("its outputs are of the earlier state")
        except BaseException as error:
            if run.curves:
                run.curves.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise


class StageRun:
    """Collects what a stage logs and reports. Every method returns None: no logging can change an output."""

    def __init__(self, name: str, params: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.params = params or {}
        self.started = time.time()
        self.metrics: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.artifacts: list[Path] = []
        self.models: list[dict[str, Any]] = []
        self.training: dict[str, Any] | None = None
        self.monitor: Monitor | None = None  # of a training
        self.curves: Curves | None = None  # of a training
        self.lines: list[str] = []

    def log(
        self,
        metrics: Mapping[str, Any] | None = None,
        *,
        artifacts: Sequence[Path] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add metrics (nested ones are flattened), artifacts and tags to the stage's run."""
        self.metrics |= flatten(metrics or {})
        self.artifacts += artifacts
        self.tags |= tags or {}

    def log_model(self, model: str, metrics: Mapping[str, Any], *, artifacts: Sequence[Path] = ()) -> None:
        """Add metrics (nested ones are flattened) and artifacts to the run of a trained model."""
        self.models.append({"model": model, "metrics": flatten(metrics), "artifacts": artifacts})

    def epochs(self, model: str, state: str) -> Callable[[Sequence[Mapping[str, float]]], None]:
        """Return a function that logs the metrics of further epochs while a model is trained: see curves.Curves."""
        self.curves = Curves(model, state, self.started)
        return self.curves.add

    def log_training(
        self, model: str, *, history: pd.DataFrame, metrics: Mapping[str, Any], artifacts: Sequence[Path]
    ) -> None:
        """Make the stage's run that of a trained model: `history` has one row per epoch."""
        self.training = {"model": model, "history": history, "metrics": metrics, "artifacts": artifacts}

    def report(self, line: str) -> None:
        """Add a line to the summary that is printed when the stage ends."""
        self.lines.append(line)

    def finish(self) -> None:
        """Log everything to MLflow, then print the summary, the last line with the seconds taken."""
        if self.curves:
            self.curves.stop()
        snapshot.check("nothing was logged")  # before anything is read: a newer DVC may have removed the outputs
        for entry in self.models:
            if weights_path(entry["model"]).is_file():
                log_model_metrics(digest=model_digest(entry["model"]), **entry)
            else:
                missing = f"models/{entry['model']}.weights.h5 is missing"
                print(f"{self.name}: warning: {missing}, so MLflow gets no metrics of it: run `dvc checkout`")
        if self.training is not None:
            log_training(
                digest=model_digest(self.training["model"]),
                started=self.started,
                system=self.monitor.samples if self.monitor else (),
                **self.training,
            )
        else:
            log_stage(
                self.name,
                params=self.params,
                metrics=self.metrics,
                tags=self.tags,
                artifacts=self.artifacts,
                started=self.started,
            )
        for line in [*self.lines[:-1], f"{'; '.join([*self.lines[-1:], ''])}{time.time() - self.started:.1f} s"]:
            print(f"{self.name}: {printable(line)}")


def model_digest(model: str) -> str:
    """The digest of the weights in the workspace, which identifies a trained model."""
    return weights_digest(weights_path(model))


def weights_path(model: str) -> Path:
    return workspace() / "models" / f"{model}.weights.h5"
