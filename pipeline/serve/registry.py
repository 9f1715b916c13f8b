"""MLflow's model registry: versions found again by their digests, made, and the alias of the champion moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.serve import package
from pipeline.serve.champion import Version
from pipeline.serve.rows import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
ABOUT = "Which face wears a face mask? Takes pictures in base64, gives class, probability of with_mask, or an error."
WHY = "champion.rule"  # the tag that says why a version became champion, or not


@dataclass(frozen=True)
class Trained:
    """A trained model as it goes into the registry."""

    litert: Path  # the file that is served
    settings: Settings
    weights: str  # digest of the weights that it was exported from
    validation: str  # digest of the validation pictures
    val_accuracy: float  # on those, 0…1

    def tags(self) -> dict[str, str]:
        """By these a version is known again; `model.digest` is also a tag of its training's run."""
        return {
            "model": self.settings.model,
            "model.digest": self.weights,
            "served.digest": package.digest(self.litert, self.settings, self.weights),
            "val.digest": self.validation,
            "val.accuracy": str(self.val_accuracy),
        }


def ensure(client: MlflowClient, name: str) -> None:
    """Make the registered model `name` unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def find(client: MlflowClient, name: str, trained: Trained) -> Version | None:
    """The latest version that serves just this, None where there is none."""
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
    """A new version, in MLflow's experiment `experiment_id`, that points to the run `run_id` of its training."""
    tags = {**trained.tags(), **tags}
    logged = client.create_logged_model(experiment_id, trained.settings.model, run_id, tags)
    package.log(trained.litert, trained.settings, logged.model_id)
    source = f"models:/{logged.model_id}"
    about = f"{trained.settings.model}, validation accuracy {trained.val_accuracy:.2%}"
    made = client.create_model_version(name, source, run_id, tags, description=about, model_id=logged.model_id)
    return as_version(made)


def champion(client: MlflowClient, name: str) -> Version | None:
    """The version that has the alias, None where there is none."""
    found = client.search_registered_models(f"name = '{name}'")
    number = found[0].aliases.get(CHAMPION) if found else None
    return as_version(client.get_model_version(name, str(number))) if number else None


def as_version(registered: ModelVersion) -> Version:
    """What the tags of a version say; one that somebody else registered may say nothing."""
    tags = registered.tags
    try:
        accuracy = float(tags["val.accuracy"])
    except (KeyError, ValueError):
        accuracy = None
    model, weights = tags.get("model", "of unknown kind"), tags.get("model.digest", "")
    return Version(str(registered.version), model, weights, tags.get("val.digest"), accuracy)


def explain(client: MlflowClient, name: str, version: Version, why: str) -> None:
    """Leave with a version what the rule said of it."""
    client.set_model_version_tag(name, version.number, WHY, why)


def crown(client: MlflowClient, name: str, version: Version) -> None:
    """Give a version the alias, which another loses by it."""
    client.set_registered_model_alias(name, CHAMPION, version.number)
