"""Duration and peak memory of each stage, from MLflow. They vary, so no file that DVC tracks contains them.

    python -m tools.durations

Shows the runs of the experiment with the workspace's parameters (under `dvc exp run`, of that experiment) in the order
in which they started. A stage that DVC restored from its cache logged nothing and is not in the table.
"""

from __future__ import annotations

import pandas as pd

from face_mask import errors
from face_mask.errors import UserError
from pipeline.tracking import runs, store

COLUMNS = ["stage", "seconds", "peak MB"]


def table() -> pd.DataFrame:
    """stage, seconds, peak MB. Raises UserError if MLflow has no run with the current parameters."""
    import mlflow  # here because the import takes four seconds

    db = store.database(uri := store.tracking_uri())
    nothing = UserError(
        f"MLflow at {store.without_credentials(uri)} has no run with these parameters: run `dvc repro` first"
    )
    if db is not None and not db.is_file():
        raise nothing
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(runs.EXPERIMENT)
    if experiment is None:
        raise nothing
    parent = runs.find_parent(client, experiment.experiment_id, adopt=True)
    if parent is None:
        raise nothing
    stages = runs.search_runs(client, experiment.experiment_id, {"mlflow.parentRunId": parent.info.run_id})
    rows = [
        [run.data.tags["stage"], run.data.metrics["seconds"], run.data.metrics["peak_memory_mb"]]
        for run in reversed(stages)
        if {"seconds", "peak_memory_mb"} <= set(run.data.metrics)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def shown(durations: pd.DataFrame) -> str:
    """Format the table for a terminal, with the total seconds at the bottom."""
    lines = [f"{'stage':<16}{'seconds':>9}{'peak MB':>9}"]
    lines += [f"{stage:<16}{seconds:>9.1f}{peak:>9.0f}" for stage, seconds, peak in durations.itertuples(index=False)]
    return "\n".join([*lines, f"{'total':<16}{durations['seconds'].sum():>9.1f}"])


def main() -> None:
    store.check()
    try:
        print(shown(table()))
    except store.failures() as error:
        raise UserError(
            f"MLflow at {store.without_credentials(store.tracking_uri())} failed ({store.reason(error)}): fix it, then"
            " run this again"
        ) from None


if __name__ == "__main__":
    errors.run(main)
