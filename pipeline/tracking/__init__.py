"""MLflow, all of it: one parent run a DVC experiment, below it one run a stage that ran.

    python -m pipeline.tracking        bring over what stages restored from DVC's cache did not log; any number of times
    mlflow ui --backend-store-uri sqlite:///mlflow.db        look at it, from the repository root

The run of a training stage is the row of its model: `evaluate`, `unseen_eval` and `xai` add what they find to it, found
again by the digest of the weights. In MLflow's table the filter `tags.kind = 'model'` shows one row a model.

The store is mlflow.db at the repository root with mlartifacts/ beside it; MLFLOW_TRACKING_URI wins where it is set.
A stage calls `check` when it starts and logs when its outputs are written: from then on MLflow only causes warnings.
Logging takes six seconds a stage, nearly all of it to import MLflow, and six more once, to make the database.
"""

from pipeline.tracking.figures import flatten, weights_digest
from pipeline.tracking.stages import MODELS, log_model_metrics, log_stage, log_training
from pipeline.tracking.store import check

__all__ = ["MODELS", "check", "flatten", "log_model_metrics", "log_stage", "log_training", "weights_digest"]
