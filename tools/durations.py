"""How long each stage took and how much memory it needed, from MLflow: no file that DVC tracks may say it.

    python -m tools.durations

Shows the runs of the experiment that the workspace's parameters belong to (under `dvc exp run`, of that experiment),
in the order in which they started. A stage that DVC restored from its cache logged nothing and is not in the table.
"""

from __future__ import annotations

import pandas as pd

from pipeline import errors, tracking
from pipeline.errors import UserError

COLUMNS = ["stage", "seconds", "peak MB"]


def table() -> pd.DataFrame:
    """stage, seconds, peak MB; UserError when MLflow knows no run with the current parameters."""
    import mlflow  # four seconds, so only here

    db = tracking.database(uri := tracking.tracking_uri())
    nothing = UserError(f"MLflow at {tracking.shown(uri)} has no run with these parameters: run `dvc repro` first")
    if db is not None and not db.is_file():
        raise nothing
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    if experiment is None:
        raise nothing
    tags = tracking.identity()
    wanted = {"kind": "experiment", **tags}
    # After `dvc exp run` its name is gone from the environment, but its results stand in the workspace.
    parents = tracking.search(client, experiment.experiment_id, wanted) or tracking.search(
        client, experiment.experiment_id, {"kind": "experiment", "params.digest": tags["params.digest"]}
    )
    if not parents:
        raise nothing
    runs = tracking.search(client, experiment.experiment_id, {"mlflow.parentRunId": parents[0].info.run_id})
    rows = [
        [run.data.tags["stage"], run.data.metrics["seconds"], run.data.metrics["peak_memory_mb"]]
        for run in reversed(runs)
        if {"seconds", "peak_memory_mb"} <= set(run.data.metrics)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def shown(runs: pd.DataFrame) -> str:
    """The table for a terminal, with the seconds of all stages below."""
    lines = [f"{'stage':<16}{'seconds':>9}{'peak MB':>9}"]
    lines += [f"{stage:<16}{seconds:>9.1f}{peak:>9.0f}" for stage, seconds, peak in runs.itertuples(index=False)]
    return "\n".join([*lines, f"{'all':<16}{runs['seconds'].sum():>9.1f}"])


def main() -> None:
    tracking.check()
    try:
        print(shown(table()))
    except tracking.failures() as error:
        raise UserError(
            f"MLflow at {tracking.shown(tracking.tracking_uri())} failed ({tracking.reason(error)}): mend it, then run"
            " this again"
        ) from None


if __name__ == "__main__":
    errors.run(main)
