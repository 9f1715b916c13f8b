"""The run of a training while it trains: its parameters from the start, and the metrics of each epoch when it ends.

A thread talks to MLflow, so a slow or failing store does not slow the training: what could not be sent waits for the
next epoch, and at last for `stage_runs.log_training`, which logs what is missing.

A training that was killed goes on in its run if the stage starts again with the same state: a digest of all on which
the training depends. Until it ends, the run has the tags PROCESS and STATE, and no `model.digest`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from face_mask.errors import UserError
from pipeline.core.values import text
from pipeline.tracking.runs import (
    PROCESS,
    create_child,
    curve_points,
    find_children,
    is_running,
    locked,
    logged_points,
    parent_run,
    this_process,
)
from pipeline.tracking.store import failures, tracking_uri
from pipeline.tracking.values import model_params

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATE = "training.state"


class Curves:
    """Sends the metrics of epochs to the run of a training that started at `started` (`time.time()`).

    `state` identifies all on which the training depends; if it is empty, no earlier run is continued.
    """

    def __init__(self, model: str, state: str, started: float) -> None:
        self.model, self.state, self.started = model, state, started
        self.points: list[tuple[str, float, int, int]] = []  # name, value, milliseconds, step
        self.steps = 0
        self.run_id = ""
        self.there: set[tuple[str, int]] = set()  # name, step
        self.failing = False
        self.pool = ThreadPoolExecutor(1, "curves")
        self.last: Future | None = None

    def add(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Send the metrics of further epochs; the first call, which may have none, begins the run."""
        now = int(time.time() * 1000)
        for row in rows:
            self.steps += 1  # each phase of a training counts from one
            points = curve_points([{**row, "epoch": self.steps}])
            self.points += [(name, value, now, step) for (name, step), value in points.items()]
        # One that has not begun will send these points too.
        if self.last is None or (rows and (self.last.running() or self.last.done())):
            self.last = self.pool.submit(self.send)

    def send(self) -> None:
        """Send what the run lacks, or nothing if the store fails or the stage is no longer wanted."""
        from mlflow.entities import Metric

        try:
            if not self.run_id:
                with parent_run() as (client, parent):
                    self.run_id = self.begin(client, parent)
            with locked() as client:
                points = [one for one in self.points if (one[0], one[3]) not in self.there]
                if points:
                    client.log_batch(self.run_id, metrics=[Metric(*one) for one in points])
                self.there |= {(name, step) for name, _, _, step in points}
            self.failing = False
        except UserError:
            pass  # the stage itself will find that it is no longer wanted
        except failures():
            self.failing = True

    def begin(self, client: MlflowClient, parent: Run) -> str:
        """Continue the run of a training that was interrupted, or create one; returns its id."""
        from mlflow.entities import Param

        stage, process = f"train_{self.model}", this_process()
        unfinished = [one for one in find_children(client, parent, stage) if one.info.status != "FINISHED"]
        for run in unfinished:
            same = self.state and run.data.tags.get(STATE) == self.state and not is_running(run)
            if same or run.data.tags.get(PROCESS) == process:
                client.set_tag(run.info.run_id, PROCESS, process)
                client.update_run(run.info.run_id, status="RUNNING")
                self.there = set(logged_points(client, run))
                break
        else:
            tags = {"model": self.model, PROCESS: process, STATE: self.state}
            run = create_child(client, parent, stage, tags, self.started)
        new = [Param(key, text(value)) for key, value in model_params(self.model).items() if key not in run.data.params]
        client.log_batch(run.info.run_id, params=new)
        return run.info.run_id

    def stop(self, *, wait: bool = False) -> None:
        """Send nothing more; with `wait`, what is left is sent first, unless the store fails."""
        self.pool.shutdown(cancel_futures=self.failing or not wait)
        if self.last and not self.last.cancelled():
            self.last.result()  # a bug keeps its traceback

    def end(self, status: str) -> None:
        """End the run of a stage that failed, unless a newer training continues it. If the store fails, a later stage
        does: see `runs.end_abandoned`."""
        self.stop(wait=True)
        if not self.run_id or self.failing:
            return
        import mlflow

        with suppress(*failures()):
            client = mlflow.MlflowClient(tracking_uri())
            if client.get_run(self.run_id).data.tags.get(PROCESS) == this_process():
                client.set_terminated(self.run_id, status)


def is_begun_here(run: Run) -> bool:
    """Whether this process is training the run."""
    return run.data.tags.get(PROCESS) == this_process()


def claim(client: MlflowClient, run: Run, digest: str) -> None:
    """Make the run of a training that of the model with these weights, the digest of which is given."""
    client.set_tag(run.info.run_id, "model.digest", digest)
    for tag in (PROCESS, STATE):
        if tag in run.data.tags:
            client.delete_tag(run.info.run_id, tag)
