"""MLflow's model registry: look versions up by their digests, add them, and set the champion's alias."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from face_mask.classifier import FaceClassifier
from pipeline.registry import packaging
from pipeline.registry.champion import Version
from pipeline.tracking import notes

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
ABOUT = "Classify faces as with or without a face mask: base64 images to class, probability of with_mask, or an error."
WHY = "champion.rule"  # the tag with the reason why a version became champion, or not


@dataclass(frozen=True)
class Trained:
    """A trained model to register."""

    litert: Path  # the file that is served
    classifier: FaceClassifier
    weights: str  # digest of the weights that it was exported from
    validation: str  # digest of the validation images
    val_accuracy: float  # on those, 0…1

    def tags(self) -> dict[str, str]:
        """The tags that identify a version; `model.digest` is also a tag of its training run."""
        return {
            "model": self.classifier.name,
            "model.digest": self.weights,
            "served.digest": packaging.digest(self.litert, self.classifier, self.weights),
            "val.digest": self.validation,
            "val.accuracy": str(self.val_accuracy),
        }


def ensure(client: MlflowClient, name: str) -> None:
    """Create the registered model `name` unless it exists."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def find(client: MlflowClient, name: str, trained: Trained) -> Version | None:
    """The latest version with the same weights, configuration and code; None if there is none."""
    digest = trained.tags()["served.digest"]
    found = client.search_model_versions(f"name = '{name}' and tags.`served.digest` = '{digest}'")
    return as_version(max(found, key=lambda one: int(one.version))) if found else None


def add(
    client: MlflowClient,
    name: str,
    trained: Trained,
    *,
    experiment_id: str,
    run_id: str | None,
    tags: Mapping[str, str],
) -> Version:
    """Add a version to MLflow's experiment `experiment_id`, linked to the run `run_id` of its training."""
    tags = {**trained.tags(), **tags}
    logged = client.create_logged_model(experiment_id, trained.classifier.name, run_id, tags)
    packaging.log(trained.litert, trained.classifier, logged.model_id)
    source = f"models:/{logged.model_id}"
    about = f"{trained.classifier.name}, validation accuracy {trained.val_accuracy:.2%}"
    version = client.create_model_version(name, source, run_id, tags, description=about, model_id=logged.model_id)
    # MLflow's page of the logged model shows these; with mlflow.register_model, MLflow would set the first itself.
    versions = json.dumps([{"name": name, "version": version.version}])
    shown = {"mlflow.modelVersions": versions, notes.TAG: about, "mlflow.source.name": "pipeline/register.py"}
    client.set_logged_model_tags(logged.model_id, shown)
    return as_version(version)


def champion(client: MlflowClient, name: str) -> Version | None:
    """The version that has the alias; None if there is none."""
    found = client.search_registered_models(f"name = '{name}'")
    number = found[0].aliases.get(CHAMPION) if found else None
    return as_version(client.get_model_version(name, str(number))) if number else None


def as_version(registered: ModelVersion) -> Version:
    """Read the tags of a version; one that was registered by other means may lack them."""
    tags = registered.tags
    try:
        accuracy = float(tags["val.accuracy"])  # may be NaN, which champion.known counts as unknown
    except (KeyError, ValueError):
        accuracy = None
    model, weights = tags.get("model", "unknown model"), tags.get("model.digest", "")
    return Version(str(registered.version), model, weights, tags.get("val.digest"), accuracy)


def explain(client: MlflowClient, name: str, version: Version, why: str) -> None:
    """Tag a version with the outcome of the champion rule."""
    client.set_model_version_tag(name, version.number, WHY, why)


def set_champion(client: MlflowClient, name: str, version: Version) -> None:
    """Give a version the alias, which the previous champion loses."""
    client.set_registered_model_alias(name, CHAMPION, version.number)
