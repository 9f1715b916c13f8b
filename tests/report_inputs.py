"""Synthetic inputs of the report: plausible, small, and reproducible."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from face_mask.schema import LABELS, MODELS
from pipeline.dataset import packing
from pipeline.scoring import (
    calibration,
    conformal,
    curves,
    hard_case_metrics,
    intervals,
    mcnemar,
    metrics,
    unseen_metrics,
)

N_TEST, N_TRAIN, N_VAL = 60, 100, 40


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_table(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def probabilities(y_true: np.ndarray, sharpness: float, generator: np.random.Generator) -> np.ndarray:
    return 1 / (1 + np.exp(-(sharpness * (2 * y_true - 1) + generator.normal(0, 2, len(y_true)))))


def curve_of_both(
    make: Callable[[np.ndarray, np.ndarray], pd.DataFrame], y_true: np.ndarray, y_prob: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    return curves.of_both(lambda model: make(y_true, y_prob[model]))


def fabricate(folder: Path, *, unseen_and_xai_only: bool = False) -> None:
    """Write all inputs of the report to `folder`, or only those of the later stages if the others exist."""
    generator = np.random.default_rng(7)
    if not unseen_and_xai_only:
        fabricate_first_half(folder, generator)
    fabricate_unseen(folder, generator)
    fabricate_xai(folder, generator)
    fabricate_use(folder)
    fabricate_hard_cases(folder, generator)


def fabricate_first_half(folder: Path, generator: np.random.Generator) -> None:
    n = N_TRAIN + N_VAL + N_TEST
    label = np.array(LABELS)[np.arange(n) % 2]
    split = np.repeat(["train", "val", "test"], [N_TRAIN, N_VAL, N_TEST])
    paths = [f"data/{one}/{one}_{i}.jpg" for i, one in enumerate(label)]
    manifest = pd.DataFrame({"path": paths, "label": label, "split": split, "group": range(n), "row": range(n)})
    write_table(folder / "data/split/manifest.csv", manifest)
    images = generator.integers(0, 256, (n, 16, 16, 3), np.uint8)
    np.save(folder / "data/split/images.npy", images)

    y_true = packing.to_classes(label)
    predictions = manifest[["path", "label", "split"]].assign(
        cnn=probabilities(y_true, 2.5, generator).round(6), mobilenet=probabilities(y_true, 5.0, generator).round(6)
    )
    write_table(folder / "data/predictions.csv", predictions)
    of = {name: predictions[predictions["split"] == name] for name in ("train", "val", "test")}
    truth = {name: packing.to_classes(rows["label"]) for name, rows in of.items()}
    histories: dict[str, pd.DataFrame] = {}
    for model in MODELS:
        y_prob, y_test = of["test"][model].to_numpy(), truth["test"]
        other = of["test"][next(one for one in MODELS if one != model)].to_numpy()
        test = metrics.classification_metrics(y_test, y_prob)
        resampled = partial(intervals.bootstrap_metrics, y_true=y_test, y_prob=y_prob, threshold=0.5)
        test |= intervals.bootstrap(y_test, resampled, resamples=20)
        accuracy = {one: metrics.accuracy(truth[one], of[one][model].to_numpy(), 0.5) for one in ("train", "val")}
        correct = [metrics.is_correct(y_test, prob, 0.5) for prob in (y_prob, other)]
        found = {
            "train": {"accuracy": accuracy["train"]},
            "val": {"accuracy": accuracy["val"]},
            "overfit_gap": accuracy["train"] - test["accuracy"],
            "test": test,
            "conformal": conformal.conformal_metrics(
                y_test,
                y_prob,
                conformal.calibrate(truth["val"], of["val"][model].to_numpy(), 0.1),
                threshold=0.5,
                confidence=0.95,
            ),
            "versus": mcnemar.mcnemar(*correct),
        }
        write_json(folder / f"metrics/{model}.json", found)
        write_json(folder / f"docs/results/random_split/{model}.json", found)
        history = pd.DataFrame({"epoch": range(1, 7), "loss": [0.7, 0.5, 0.4, 0.3, 0.25, 0.2]})
        history = history.assign(
            val_loss=[0.6, 0.4, 0.3, 0.31, 0.32, 0.36], val_accuracy=[0.6, 0.8, 0.9, 0.9, 0.9, 0.9]
        )
        if model == "mobilenet":
            history["phase"] = ["head"] * 3 + ["fine-tune"] * 3
        histories[model] = history
    write_table(folder / "plots/training.csv", curves.of_both(histories.__getitem__))
    prob = {model: of["test"][model].to_numpy() for model in MODELS}
    for name, make in {
        "roc": curves.roc,
        "pr": curves.precision_recall,
        "confusion": curves.confusion,
        "reliability": calibration.reliability,
    }.items():
        write_table(folder / f"plots/{name}.csv", curve_of_both(make, truth["test"], prob))

    counts = {name: dict.fromkeys(LABELS, size // 2) for name, size in
              (("train", N_TRAIN), ("val", N_VAL), ("test", N_TEST))}  # fmt: skip
    summary = {"images": n, **counts, "left_out": {"bad": 0}, "cross_split_duplicates": 0}
    data = {"source": "archive", "name": "made_up.zip", "with_mask": n // 2, "sha256": "0" * 64}
    for results in ("metrics", "docs/results/random_split"):
        write_json(folder / results / "split.json", summary)
        write_json(folder / results / "data.json", data)
    write_json(folder / "metrics/pretrained.json", {"weights": "none", "digest": "none", "matches_pinned": False})
    suspected = manifest[manifest["split"] == "test"].head(2)
    issues = suspected[["path", "label", "split"]].assign(suggested="with_mask", probability=0.01, rank=[1, 2])
    write_table(folder / "data/audit/label_issues.csv", issues)
    write_json(
        folder / "metrics/audit.json",
        {"n": n, "n_suspected": 2, "suspected_fraction": 2 / n, "n_disagreeing": 9,
         "by_label": {"with_mask": 1, "without_mask": 1}, "by_split": {"train": 0, "val": 0, "test": 2}},
    )  # fmt: skip
    Image.fromarray(generator.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / "plots/audit.png")


def fabricate_unseen(folder: Path, generator: np.random.Generator) -> None:
    y_true = (np.arange(300) < 240).astype(int)
    faces = pd.DataFrame({"path": [f"images/face{i}.jpg#1" for i in range(300)], "label": np.array(LABELS)[y_true]})
    faces["face_size"] = generator.integers(32, 150, 300)
    for model, sharpness in (("cnn", 4.0), ("mobilenet", 6.0)):
        y_prob = probabilities(y_true, sharpness, generator).round(6)
        faces[model] = y_prob
        correct = metrics.is_correct(y_true, y_prob, 0.5)
        m = metrics.classification_metrics(y_true, y_prob)
        by_size = {}
        for name, low, high in (("32_47", 32, 48), ("48_95", 48, 96), ("96_up", 96, 999)):
            here = correct[(faces["face_size"] >= low) & (faces["face_size"] < high)]
            ends = metrics.wilson(int(here.sum()), len(here))
            by_size[name] = {"n": len(here), "accuracy": here.mean(), "accuracy_low": ends[0], "accuracy_high": ends[1]}
        found = {
            "n": 300, "n_with_mask": 240, "n_without_mask": 60,
            **{key: m[key] for key in ("accuracy", "accuracy_low", "accuracy_high")},
            "balanced_accuracy": (m["recall_with_mask"] + m["recall_without_mask"]) / 2,
            **{key: m[key] for key in ("recall_with_mask", "recall_without_mask", "roc_auc")},
            "mean_confidence_with_mask": np.maximum(y_prob, 1 - y_prob)[y_true == 1].mean(),
            "mean_confidence_without_mask": np.maximum(y_prob, 1 - y_prob)[y_true == 0].mean(),
            **intervals.bootstrap(
                y_true,
                partial(unseen_metrics.bootstrap_metrics, y_true=y_true, y_prob=y_prob, threshold=0.5),
                resamples=20,
            ),
            "incorrect_called_mask": 21, "n_incorrect": 30, "by_size": by_size,
            "conformal": conformal.conformal_metrics(
                y_true, y_prob, conformal.calibrate(y_true, y_prob, 0.1), threshold=0.5, confidence=0.95
            ),
        }  # fmt: skip
        write_json(folder / f"metrics/unseen_{model}.json", found)
    y_probs = {model: faces[model].to_numpy() for model in MODELS}
    for name, make in {"unseen_roc": curves.roc, "unseen_pr": curves.precision_recall}.items():
        write_table(folder / f"plots/{name}.csv", curve_of_both(make, y_true, y_probs))
    write_table(folder / "data/unseen/predictions.csv", faces)
    write_json(
        folder / "metrics/unseen_faces.json", {"source": "kaggle", "name": "made/up", "left_out": {"too_small": 5}}
    )
    Image.fromarray(generator.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / "plots/unseen_errors.png")


def fabricate_xai(folder: Path, generator: np.random.Generator) -> None:
    for model, gain in (("cnn", 1.3), ("mobilenet", 1.9)):
        found: dict = {"n": 200, "n_face": 180, "completeness_error_max": 0.0098, "completeness_error_median": 0.003}
        for key, value in {"face_gain": gain, "lower_face_gain": 1.2 * gain, "insertion_auc": 0.8, "deletion_auc": 0.3,
                           "randomization_spearman": 0.05}.items():  # fmt: skip
            found |= {key: value, f"{key}_low": value - 0.04, f"{key}_high": value + 0.04}
        sign = 1 if model == "mobilenet" else -1
        found["versus"] = {"lower_face_gain_low": sign * 0.7 - 0.1, "lower_face_gain_high": sign * 0.7 + 0.1}
        write_json(
            folder / f"metrics/xai_{model}.json", found | {"insertion_auc_random": 0.6, "deletion_auc_random": 0.6}
        )
    for name in (
        "test_with_mask_correct",
        "test_without_mask_incorrect",
        "unseen_with_mask_correct",
        "unseen_without_mask_incorrect",
    ):
        path = folder / f"plots/xai/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (60, 120, 3), np.uint8)).save(path)


def fabricate_use(folder: Path) -> None:
    """Metrics of detection and classification combined, and of the replayed clip."""
    for model in MODELS:
        end_to_end = {
            "n_end_to_end": 40,
            "end_to_end_accuracy": 0.9,
            "end_to_end_accuracy_low": 0.8,
            "end_to_end_accuracy_high": 0.95,
            "prevalence": {
                "annotated": 0.8,
                "naive": 0.7,
                "corrected": 0.81,
                "corrected_low": 0.7,
                "corrected_high": 0.9,
            },
        }
        write_json(folder / f"metrics/end_to_end_{model}.json", end_to_end)
        webcam = {"mean_confidence_with_mask": 0.96, "mean_confidence_without_mask": 0.93}
        recorded = {"face_correct": 0.9, "face_incorrect": 0.04}
        write_json(folder / f"metrics/live_{model}.json", {"frames": 90, **webcam, **recorded})


def fabricate_hard_cases(folder: Path, generator: np.random.Generator) -> None:
    """Two cases drawn on twenty faces of each class, and subsets by skin and size."""
    faces = pd.DataFrame({"label": np.array(LABELS)[np.arange(40) % 2], "source_row": range(40)})
    parts = [("original", "original", faces), ("noise", "conditions", faces)]
    parts.append(("beard", "objects", faces[faces["label"] == "without_mask"]))
    table = pd.concat([one.assign(case=case, group=group) for case, group, one in parts], ignore_index=True)
    subset = pd.DataFrame({"label": np.array(LABELS)[np.arange(90) % 2], "skin": ["dark", "light", "unknown"] * 30})
    y_true = packing.to_classes(table["label"])
    settings: dict[str, float] = {"threshold": 0.5, "confidence": 0.95}
    results = {}
    for model, sharpness in (("cnn", 2.0), ("mobilenet", 4.0)):
        y_prob = probabilities(y_true, sharpness, generator)
        calibration = conformal.calibrate(y_true, y_prob, 0.1)
        drawn = hard_case_metrics.hard_case_metrics(
            table, y_prob, calibration, original="original", resamples=20, **settings
        )
        of_subset = hard_case_metrics.subset_metrics(
            subset, probabilities(packing.to_classes(subset["label"]), sharpness, generator),
            {"skin": ["dark", "light", "unknown"]}, **settings,
        )  # fmt: skip
        results[model] = {"test": drawn, "val": drawn, "subsets": {"test": of_subset, "unseen": of_subset}}
        write_json(folder / f"metrics/hard_cases_{model}.json", results[model])
    write_table(
        folder / "plots/hard_cases.csv",
        curves.of_both(lambda model: hard_case_metrics.error_rates(results[model]["test"])),
    )
    Image.fromarray(generator.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / "plots/hard_cases.png")
