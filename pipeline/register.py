"""Stage `register`: both models into MLflow's model registry; the better one becomes what is served.

    python -m pipeline.register            as the stage; brings models over to another store too, any number of times
    python -m pipeline.register --afresh   choose between the present two, whatever is champion now

Reads models/, metrics/cnn.json, metrics/mobilenet.json and data/split/manifest.csv, writes to MLflow alone: a version
a model, unless one with the same weights, settings and code is there, and the alias `champion` by the rule in
pipeline/serve/champion.py.
Parameters: image_size, evaluate.threshold, unseen.margin, registry.*.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

from pipeline import errors, params, tracking
from pipeline.data import packing
from pipeline.errors import UserError
from pipeline.serve import litert, package, registry, rows
from pipeline.serve.champion import choose
from pipeline.serve.rows import Settings
from pipeline.tracking import runs, store, sync


def validation_digest() -> str:
    """SHA-256 of which pictures the validation accuracy is of, whatever their order."""
    manifest = packing.read_manifest()
    chosen = manifest.loc[manifest["split"] == "val", ["content_hash", "label"]]
    return hashlib.sha256(chosen.sort_values(["content_hash", "label"]).to_csv(index=False).encode()).hexdigest()


def read(name: str, p: params.Params, validation: str) -> registry.Trained:
    """A model as it stands in the workspace; UserError where parts of it are missing or of another training."""
    served, weights, metrics = litert.path_of(name), litert.weights_of(name), Path(f"metrics/{name}.json")
    for path in (weights, served, metrics):
        if not path.is_file():
            raise UserError(f"{path} is missing: run `dvc repro`, or `dvc checkout` to restore it from the cache")
        if path is not weights and sync.of_other_weights(path.as_posix(), weights.as_posix()):
            raise UserError(f"{path} is of an earlier {name}: run `dvc repro`")
    settings = Settings(name, p.image_size, p.evaluate.threshold, p.unseen.margin)
    try:  # MLflow would only warn
        rows.judge(package.example(p.image_size)["image"][0], litert.load(served), settings)
    except ValueError as error:
        raise UserError(
            f"{served} takes no pictures of image_size = {p.image_size} ({error}): run `dvc repro export`"
        ) from None
    return registry.Trained(
        litert=served,
        settings=settings,
        weights=tracking.weights_digest(weights),
        validation=validation,
        val_accuracy=json.loads(metrics.read_text(encoding="utf-8"))["val"]["accuracy"],
    )


def register(trained: list[registry.Trained], p: params.Registry, afresh: bool) -> list[str]:
    """Add what is new and choose the champion, with other processes kept out; what happened, in lines."""
    lines, versions, new = [], [], []
    with runs.opened() as (client, parent):
        registry.ensure(client, p.name)
        for one in trained:
            version = registry.find(client, p.name, one)
            if version is None:
                trainings = runs.search(
                    client, parent.info.experiment_id, {"kind": "model", "model.digest": one.weights}
                )
                version = registry.add(
                    client,
                    p.name,
                    one,
                    experiment_id=parent.info.experiment_id,
                    run_id=trainings[0].info.run_id if trainings else None,
                    tags={"dvc.experiment": parent.data.tags["dvc.experiment"]},
                )
                new.append(version)
            versions.append(version)
            lines.append(f"{version} of {p.name} is {'new' if version in new else 'there already'}")
        before = registry.champion(client, p.name)
        after, why = choose(versions, before, min_val_accuracy=p.min_val_accuracy, margin=p.margin, afresh=afresh)
        if after and after != before:
            registry.crown(client, p.name, after)
            new = [*versions, *([before] if before else [])]
        for version in new:
            registry.explain(client, p.name, version, why)
    return [*lines, why]


def main() -> None:
    started = time.time()
    parser = argparse.ArgumentParser(prog="python -m pipeline.register", description="Register both models in MLflow.")
    parser.add_argument("--afresh", action="store_true", help="choose between these two, whatever is champion now")
    afresh = parser.parse_args().afresh
    p = params.load()
    store.check()
    validation = validation_digest()
    trained = [read(name, p, validation) for name in tracking.MODELS]
    try:
        lines = register(trained, p.registry, afresh)
    except store.failures() as error:
        # No warning as in other stages: this one writes nothing else, and DVC would take it for done.
        where = store.shown(store.tracking_uri())
        raise UserError(f"MLflow at {where} failed ({store.reason(error)}): mend it, then run this again") from None
    tracking.log_stage(
        "register",
        params=tracking.flatten({"registry": p.registry.model_dump()}),
        tags={registry.WHY: lines[-1]},
        started=started,
    )
    for line in [*lines[:-1], f"{lines[-1]}; {time.time() - started:.1f} s"]:
        print(f"register: {line}")


if __name__ == "__main__":
    errors.run(main)
