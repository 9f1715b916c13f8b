"""A session's summary as runs in MLflow: one a model, below the current experiment, beside those of the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.errors import UserError
from pipeline.tracking.runs import child, fill, opened
from pipeline.tracking.store import failures, reason, shown, tracking_uri


def log(summaries: Sequence[Mapping[str, str | int | float | None]]) -> str:
    """Log each model's summary as a run `live`; says where in a few words. UserError where the store fails."""
    try:
        with opened() as (client, parent):
            for summary in summaries:
                run = child(client, parent, "live", {"kind": "session", "mlflow.source.name": "live"})
                metrics = {key: value for key, value in summary.items() if key != "model"}
                fill(client, run, params={"live.model": summary["model"]}, metrics={"live": metrics})
            return f"{len(summaries)} run{'s' * (len(summaries) > 1)} below {parent.info.run_name}"
    except failures() as error:
        raise UserError(f"MLflow at {shown(tracking_uri())} failed ({reason(error)})") from None
