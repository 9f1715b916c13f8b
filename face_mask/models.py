"""Which model a command uses: the repository's own, or the one that is shipped with this package.

    model = models.find()           # the model that params.yaml selects, or else the packaged one
    classifier = model.load()       # one per thread
    print(f"predict: {model}", file=sys.stderr)

1. With `--models DIR`: DIR/NAME.float32.tflite.
2. In a workspace (params.yaml and dvc.yaml; the working directory, or else the source checkout of this package) with
   models/exported/NAME.float32.tflite, which `dvc repro export` writes: that file, which must match dvc.lock.
3. The packaged model, face_mask/model/model.tflite, which must match the digest in face_mask/model/card.json. The
   stage `package` writes both.

Settings come from the workspace's params.yaml, or without one from the card. What the packaged model was trained and
measured with (image_size, unseen.margin, evaluate.threshold) always comes from its card.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from face_mask import litert, lockfile, settings
from face_mask.classifier import FaceClassifier
from face_mask.errors import UserError
from face_mask.prevalence import Rates
from face_mask.schema import MODELS
from face_mask.settings import Settings

PACKAGE = Path(__file__).parent
PACKAGED = PACKAGE / "model"
FILE, CARD = "model.tflite", "card.json"


@dataclass(frozen=True)
class Model:
    """A model file and the settings to use it with. `str()` is one line that says which file it is."""

    name: str  # cnn or mobilenet
    path: Path  # a LiteRT file
    origin: str  # the file in words, such as "models/exported/mobilenet.float32.tflite of this repository"
    settings: Settings
    sha256: str | None = None  # what the file's digest must be; None where dvc.lock has it, or nothing
    rates: Rates | None = None  # of the errors of detector and model on unseen images, where they are known

    @property
    def image_size(self) -> int:
        """Side in pixels of the model's input."""
        return self.settings.image_size

    @property
    def margin(self) -> float:
        """Margin around a face that is cropped, as a fraction of the longer side of its box."""
        return self.settings.unseen.margin

    @property
    def threshold(self) -> float:
        """with_mask is predicted from this probability on."""
        return self.settings.evaluate.threshold

    def load(self) -> FaceClassifier:
        """Load the file. Raises UserError if it is damaged or takes another image size."""
        return FaceClassifier.load(
            self.path,
            name=self.name,
            size=self.image_size,
            margin=self.margin,
            threshold=self.threshold,
            detector_name=self.settings.detector.name,
            sha256=self.sha256,
        )

    def __str__(self) -> str:
        return f"{self.name} from {self.origin}"


def uncalibrated(classifier: FaceClassifier) -> str | None:
    """State in a line that the model's file has no calibration, as files of earlier versions; None if it has one."""
    if classifier.calibration:
        return None
    return f"the file of {classifier.name} has no calibration, so no face is reported as unsure: run `dvc repro export`"


def find(name: str | None = None, root: Path | None = None, folder: Path | None = None) -> Model:
    """Find the model `name`, by default the workspace's live.model, or without a workspace the packaged one.

    `root` is a workspace, by default the one of `workspace()`; `folder` is the argument of `--models`. The file is
    read only to compare it with dvc.lock. Raises UserError if there is no such model, or the file does not match.
    """
    root = workspace() if root is None else root
    values = settings.load(root / "params.yaml") if root else None
    name = name or (values.live.model if values else read_card()["name"])
    if folder is not None:
        path = litert.path_of(name, folder=folder)
        if not path.is_file():
            raise UserError(f"{path} is missing: run `dvc repro export`, or name a folder that has this file")
        return in_workspace(name, path, str(path), values, root)
    if root and (path := litert.path_of(name, folder=root / litert.MODELS)).is_file():
        origin = f"{litert.path_of(name).as_posix()} of {in_words(root)}"
        return replace(in_workspace(name, path, origin, values, root), rates=measured_rates(name, root))
    return packaged(name, values)


def find_all(root: Path | None = None, folder: Path | None = None) -> list[Model]:
    """Every model that `find` can find, in the order of MODELS; at least one.

    Raises UserError if there is none, or if one does not match its digest.
    """
    root = workspace() if root is None else root
    places = folder or (root and root / litert.MODELS)
    names = {name for name in MODELS if places and litert.path_of(name, folder=places).is_file()}
    if not names or (folder is None and (PACKAGED / CARD).is_file()):
        names.add(read_card()["name"])
    return [find(name, root, folder) for name in MODELS if name in names]


def workspace() -> Path | None:
    """The working directory if it is a workspace, else the source checkout of this package, None if installed."""
    return next((root for root in (Path.cwd(), PACKAGE.parent) if is_workspace(root)), None)


def is_workspace(root: Path) -> bool:
    """Whether a folder has params.yaml and dvc.yaml, and they are not those of some other project that uses DVC."""
    params = root / "params.yaml"
    return params.is_file() and (root / "dvc.yaml").is_file() and b"image_size" in params.read_bytes()


def in_words(root: Path) -> str:
    return "this repository" if root.resolve() == Path.cwd() else f"the repository {root}"


def in_workspace(name: str, path: Path, origin: str, values: Settings | None, root: Path | None) -> Model:
    """A file beside the package. Raises UserError if dvc.lock of `root` lists it with another digest."""
    if root:
        lockfile.check(path, root)
    return Model(name, path, origin, values or packaged_settings(read_card()))


def measured_rates(name: str, root: Path) -> Rates | None:
    """The rates that the stage `end_to_end` measured; None if it has not run, or its file is damaged."""
    try:
        metrics = json.loads((root / f"metrics/end_to_end_{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Rates.read(metrics.get("rates") if isinstance(metrics, dict) else None)


def packaged(name: str | None = None, values: Settings | None = None) -> Model:
    """The packaged model; `values` are the workspace's settings. Raises UserError if `name` is not packaged."""
    card = read_card()
    if name not in (None, card["name"]):
        raise UserError(
            f"{name} is not packaged, only {card['name']} is: use that, or train {name} with `dvc repro export` in the"
            " repository, or name the folder of its files with --models"
        )
    own = packaged_settings(card)
    rates = Rates.read(card.get("rates"))  # of detector and model together
    if values:
        if values.detector != own.detector:
            rates = None
        evaluate = values.evaluate.model_copy(update={"threshold": own.evaluate.threshold})
        unseen = values.unseen.model_copy(update={"margin": own.unseen.margin})
        own = values.model_copy(update={"image_size": own.image_size, "evaluate": evaluate, "unseen": unseen})
    return Model(card["name"], PACKAGED / FILE, f"the package ({card['format']})", own, card["sha256"], rates)


def packaged_settings(card: dict[str, Any]) -> Settings:
    """The settings in a card. Those of `live` that only another version of the package knows are ignored."""
    values = card["settings"]
    if isinstance(values, dict) and isinstance(live := values.get("live"), dict):
        values = values | {"live": {key: value for key, value in live.items() if key in settings.Live.model_fields}}
    return settings.check(values, Settings, str(PACKAGED / CARD))


def read_card() -> dict[str, Any]:
    """Read the packaged model's card. Raises UserError if there is none or it is damaged."""
    path = PACKAGED / CARD
    remedy = "install the package again, or restore it with `git checkout face_mask/model`"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("name", "format", "sha256", "settings") if key not in card]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {remedy}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): {remedy}") from None
    if missing:
        raise UserError(f"{path} has no {missing[0]}: {remedy}")
    return card
