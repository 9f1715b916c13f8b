"""Log the summary of a live session to MLflow: one run per model, below the current experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from face_mask.errors import UserError
from pipeline.tracking import notes
from pipeline.tracking.runs import create_child, log_missing, parent_run
from pipeline.tracking.store import failures, reason, tracking_uri, without_credentials


def log(summaries: Sequence[Mapping[str, str | int | float | None]]) -> str:
    """Log each model's summary as a run `live`. Returns a short description; raises UserError if the store fails."""
    try:
        with parent_run() as (client, parent):
            for summary in summaries:
                tags = {"kind": "session", "mlflow.source.name": "live", notes.TAG: notes.LIVE}
                run = create_child(client, parent, "live", tags)
                metrics = {key: value for key, value in summary.items() if key != "model"}
                log_missing(client, run, params={"live.model": summary["model"]}, metrics={"live": metrics})
            return f"{len(summaries)} run{'s' * (len(summaries) > 1)} below {parent.info.run_name}"
    except failures() as error:
        raise UserError(f"MLflow at {without_credentials(tracking_uri())} failed ({reason(error)})") from None
