"""A trained model's metrics on the page of the model that stage `register` logged, each with its dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.tracking import datasets

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Which metrics of the model's row, and the data that they were computed from. Intervals stay in the row alone.
DATA = {"val.": datasets.TRAINING[0], "test.": datasets.TRAINING[0], "unseen.": datasets.UNSEEN[0]}
LEFT_OUT = ("_low", "_high", ".n")


def link(client: MlflowClient, run: Run) -> int:
    """Give the models with the weights of `run`, the row of a model, those metrics that they lack; returns how many.

    Either stage may be the last: `register` finds the metrics that are there, and later ones find its model.
    """
    from mlflow.entities import Metric

    wanted = f"tags.`model.digest` = '{run.data.tags['model.digest']}'"
    models = client.search_logged_models([run.info.experiment_id], filter_string=wanted)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    digests = {one.dataset.name: one.dataset.digest for one in inputs}
    metrics = [
        (key, value, next(name for part, name in DATA.items() if key.startswith(part)))
        for key, value in run.data.metrics.items()
        if key.startswith(tuple(DATA)) and not key.endswith(LEFT_OUT)
    ]
    points = []
    for model in models:
        there = {(one.key, one.value) for one in model.metrics or ()}
        for key, value, name in metrics:
            if (key, value) not in there:
                # Of the same time, so that the row itself does not get the value a second time.
                history = client.get_metric_history(run.info.run_id, key)  # in any order
                last = max(history, key=lambda one: (one.step, one.timestamp))
                digest = digests.get(name)
                points.append(
                    Metric(
                        key,
                        value,
                        last.timestamp,
                        last.step,
                        model_id=model.model_id,
                        dataset_name=name if digest else None,
                        dataset_digest=digest,
                        run_id=run.info.run_id,
                    )
                )
    client.log_batch(run.info.run_id, metrics=points)
    return len(points)
