"""The model that is shipped with the package `face_mask`: which one, what its card says, and how good that file is."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd

from face_mask import litert, lockfile
from face_mask.errors import UserError
from face_mask.prevalence import Rates
from face_mask.schema import LABELS, TITLES
from face_mask.settings import Settings
from pipeline.core import params
from pipeline.dataset import packing, unseen
from pipeline.registry import champion
from pipeline.scoring import conformal, metrics
from pipeline.scoring.shipped_metrics import card_metrics

LICENCE = (
    "MIT, for the code. The weights were trained on images that have their own owners, and MobileNetV2's from weights"
    " that were trained on ImageNet: see docs/model_card.md in the repository."
)

RATES = [f"rates.{field.name}" for field in fields(Rates)]  # measured with the model's float32 file


def classify(path: Path, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """P(with_mask), (n,) float64, of rows (n,) of the packed array, by a LiteRT file of the workspace."""
    # Six digits: what follows them is rounding error, which differs between machines.
    return litert.load(path)(images[rows]).astype(np.float64).round(6)


def choose(val_accuracy: dict[str, float], predictions: pd.DataFrame, p: params.Params) -> tuple[str, str, Path]:
    """The name, number format and file of the model to ship. Raises UserError if no file is small enough."""
    # By validation images, as every choice: the gate of metrics/export.json is on test images and only reported.
    images, (rows, y_true) = packing.open_images(), packing.rows_of(packing.read_manifest(), "val")
    val = predictions[predictions["split"] == "val"]
    for name in champion.ranking(val_accuracy):
        keras = metrics.accuracy(packing.to_classes(val["label"]), val[name].to_numpy(), p.evaluate.threshold)
        int8 = metrics.accuracy(y_true, classify(exported(name, "int8"), images, rows), p.evaluate.threshold)
        number_format = "int8" if keras - int8 <= p.export.max_accuracy_drop else "float16"
        path = exported(name, number_format)
        if path.stat().st_size <= 1e6 * p.package.max_megabytes:
            return name, number_format, path
    raise UserError(f"no model has a file within package.max_megabytes = {p.package.max_megabytes:g}: raise it")


def exported(name: str, number_format: str) -> Path:
    """The path of an exported file. Raises UserError if it is missing or is not the one in dvc.lock."""
    path = litert.path_of(name, number_format)
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro export`")
    lockfile.check(path)
    return path


def measure(path: Path, p: params.Params) -> dict[str, dict]:
    """Metrics of a file on the validation and test images, and on the unseen faces."""
    e, manifest, faces = p.evaluate, packing.read_manifest(), unseen.read_manifest()
    in_class = faces[faces["label"].isin(LABELS)]
    calibration = litert.calibration_of(path.read_bytes(), path)
    found = {}
    for name, images, table in (
        ("val", packing.open_images(), manifest),
        ("test", packing.open_images(), manifest),
        (unseen.UNSEEN, unseen.open_images(), in_class),
    ):
        rows, y_true = packing.rows_of(table, name)
        prob = classify(path, images, rows)
        found[name] = card_metrics(
            y_true, prob, threshold=e.threshold, confidence=e.confidence, bins=e.calibration_bins
        )
        if calibration and name != "val":  # on the validation images it holds by construction
            found[name]["conformal"] = conformal.conformal_metrics(
                y_true, prob, calibration, threshold=e.threshold, confidence=e.confidence
            )
    return found


def card(name: str, number_format: str, content: bytes, measured: dict, p: params.Params) -> dict:
    """What is in card.json: nothing that differs between two runs with the same data and parameters."""
    data = packing.read_json("metrics/data.json", (), "download")
    calibration = litert.calibration_of(content, litert.path_of(name, number_format))
    values = Settings.model_validate(p.model_dump(include=set(Settings.model_fields)))
    return {
        "name": name,
        "title": TITLES[name],
        "format": number_format,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),  # as in dvc.lock
        "exported": litert.path_of(name, number_format).as_posix(),
        "training_data": data | {"n_train": len(packing.rows_of(packing.read_manifest(), "train")[0])},
        "unseen_data": packing.read_json(unseen.PROVENANCE, (), "unseen_download"),
        "rates": packing.read_json(f"metrics/end_to_end_{name}.json", RATES, "end_to_end")["rates"],
        "confidence": p.evaluate.confidence,
        "metrics": metrics.rounded(measured),
        "calibration": calibration and asdict(calibration),
        "settings": values.model_dump(),
        "licence": LICENCE,
    }
