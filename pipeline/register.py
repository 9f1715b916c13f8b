"""Stage `register`: add both models to MLflow's model registry and choose the one that is served.

    python -m pipeline.register                     as the stage; also copies the models to another store; idempotent
    python -m pipeline.register --ignore-champion   choose between these two models, whatever the current champion is

Reads models/, metrics/cnn.json, metrics/mobilenet.json and data/split/manifest.csv. Writes only to MLflow: one version
per model, unless one with the same weights, settings and code exists, and the alias `champion` by the rule in
pipeline/registry/champion.py.
Parameters: image_size, detector.name, evaluate.threshold, unseen.margin, registry.*.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from face_mask import errors, litert, lockfile
from face_mask.classifier import FaceClassifier
from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.registry import champion, model_registry
from pipeline.tracking import logged_models, runs, store, sync, values


def validation_digest() -> str:
    """SHA-256 of the validation images and their labels, in any order."""
    manifest = packing.read_manifest()
    rows = manifest.loc[manifest["split"] == "val", ["content_hash", "label"]]
    return hashlib.sha256(rows.sort_values(["content_hash", "label"]).to_csv(index=False).encode()).hexdigest()


def read_trained(name: str, p: params.Params, validation: str) -> model_registry.Trained:
    """A model of the workspace. Raises UserError if a file is missing, damaged, or belongs to another training."""
    exported, weights, metrics = litert.path_of(name), Path(f"models/{name}.weights.h5"), Path(f"metrics/{name}.json")
    for path in (weights, exported, metrics):
        if not path.is_file():
            raise UserError(f"{path} is missing: run `dvc repro register`, or `dvc checkout` to restore it")
        if path is not weights and sync.used_other_weights(path.as_posix(), weights.as_posix()):
            raise UserError(f"{path} belongs to an earlier training of {name}: run `dvc repro register`")
        lockfile.check(path)
    classifier = FaceClassifier.load(
        exported,
        name=name,
        size=p.image_size,
        margin=p.unseen.margin,
        threshold=p.evaluate.threshold,
        detector_name=p.detector.name,
    )
    return model_registry.Trained(
        litert=exported,
        classifier=classifier,
        weights=values.weights_digest(weights),
        validation=validation,
        val_accuracy=champion.read_accuracy(metrics),
    )


def register(trained: list[model_registry.Trained], p: params.Registry, ignore_champion: bool) -> list[str]:
    """Add new versions and choose the champion under a lock; returns lines that report what happened."""
    lines, versions, new = [], [], []
    with runs.parent_run() as (client, parent):
        model_registry.ensure(client, p.name)
        for model in trained:
            version = model_registry.find(client, p.name, model)
            tags = {"kind": "model", "model.digest": model.weights}
            trainings = runs.search_runs(client, parent.info.experiment_id, tags)
            if version is None:
                version = model_registry.add(
                    client, p.name, model, experiment_id=parent.info.experiment_id,
                    run_id=trainings[0].info.run_id if trainings else None,
                    tags={"dvc.experiment": parent.data.tags["dvc.experiment"]},
                )  # fmt: skip
                new.append(version)
            for training in trainings[:1]:
                logged_models.link(client, training)
            versions.append(version)
            lines.append(f"{version} of {p.name} is {'new' if version in new else 'registered already'}")
        before = model_registry.champion(client, p.name)
        after, why = champion.choose(
            versions, before, min_val_accuracy=p.min_val_accuracy, margin=p.margin, ignore_champion=ignore_champion
        )
        if after and after != before:
            model_registry.set_champion(client, p.name, after)
            new = [*versions, *([before] if before else [])]
        for version in new:
            model_registry.explain(client, p.name, version, why)
    return [*lines, why]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.register", description="Register both models in MLflow.")
    parser.add_argument(
        "--ignore-champion",
        action="store_true",
        help="choose between these two models, whatever the current champion is",
    )
    arguments = parser.parse_args()
    with tracking.stage("register") as run:
        p = params.load()
        validation = validation_digest()
        trained = [read_trained(name, p, validation) for name in MODELS]
        try:
            lines = register(trained, p.registry, arguments.ignore_champion)
        except store.failures() as error:
            # Not a warning as in other stages: this one writes nothing else, and DVC would consider it done.
            where = store.without_credentials(store.tracking_uri())
            raise UserError(f"MLflow at {where} failed ({store.reason(error)}): fix it, then run this again") from None
        run.log(tags={model_registry.WHY: lines[-1]})
        for line in lines:
            run.report(line)


if __name__ == "__main__":
    errors.run(main)
