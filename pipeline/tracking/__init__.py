"""MLflow tracking: one parent run per DVC experiment and, below it, one run per stage that ran.

    python -m pipeline.tracking        log what stages did not: those restored from DVC's cache, or without a store
    mlflow ui --backend-store-uri sqlite:///mlflow.db        view the runs, from the repository root

The run of a training stage is the row of its model: `evaluate`, `unseen_eval` and `xai` add their metrics to it, which
they find by the digest of the weights. Its datasets are the files that the training and `unseen_eval` read, with their
digests in dvc.lock. The parent run has all parameters and both models' main metrics: it is what MLflow lists and
compares at first.

The store is mlflow.db in the repository root with mlartifacts/ beside it, or the one in MLFLOW_TRACKING_URI if set.
A stage calls `check` when it starts and logs after its outputs are written; a store that fails then causes a warning.
A training has its run from the start (curves.Curves). No process that was killed leaves a run RUNNING for long: the
next one that logs ends it as KILLED (runs.end_abandoned).
Logging takes six seconds per stage, nearly all of it for importing MLflow, and six more once, to create the database.
"""

from pipeline.tracking.context import StageRun, stage
from pipeline.tracking.store import check

__all__ = ["StageRun", "check", "stage"]
