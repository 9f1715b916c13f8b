"""Everything the report reads, made up: plausible, small, and the same for the same seed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.data import packing
from pipeline.reporting.inputs import MODELS
from pipeline.scoring import calibration, comparison, curves, intervals, metrics, unseen

N_TEST, N_TRAIN, N_VAL = 60, 100, 40


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_table(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def probabilities(y_true: np.ndarray, sharpness: float, generator: np.random.Generator) -> np.ndarray:
    return 1 / (1 + np.exp(-(sharpness * (2 * y_true - 1) + generator.normal(0, 2, len(y_true)))))


def fabricate(folder: Path, *, unseen_and_xai_only: bool = False) -> None:
    """Write all inputs of the report below `folder`; or only those of the later stages, beside real ones."""
    generator = np.random.default_rng(7)
    if not unseen_and_xai_only:
        fabricate_first_half(folder, generator)
    fabricate_unseen(folder, generator)
    fabricate_xai(folder, generator)
    fabricate_use(folder)


def fabricate_first_half(folder: Path, generator: np.random.Generator) -> None:
    n = N_TRAIN + N_VAL + N_TEST
    label = np.array(packing.LABELS)[np.arange(n) % 2]
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
    for model in MODELS:
        y_prob, y_test = of["test"][model].to_numpy(), truth["test"]
        other = of["test"][next(one for one in MODELS if one != model)].to_numpy()
        test = metrics.classification_metrics(y_test, y_prob)
        figures = partial(intervals.no_plain_shares, y_true=y_test, y_prob=y_prob, threshold=0.5)
        test |= intervals.bootstrap(y_test, figures, resamples=20)
        shares = {one: metrics.accuracy(truth[one], of[one][model].to_numpy(), 0.5) for one in ("train", "val")}
        right = [metrics.called_right(y_test, prob, 0.5) for prob in (y_prob, other)]
        found = {
            "train": {"accuracy": shares["train"]},
            "val": {"accuracy": shares["val"]},
            "overfit_gap": shares["train"] - test["accuracy"],
            "test": test,
            "versus": comparison.mcnemar(*right),
        }
        write_json(folder / f"metrics/{model}.json", found)
        write_json(folder / f"docs/results/random_split/{model}.json", found)
        write_curves(folder, model, y_test, y_prob)
        history = pd.DataFrame({"epoch": range(1, 7), "loss": [0.7, 0.5, 0.4, 0.3, 0.25, 0.2]})
        history = history.assign(
            val_loss=[0.6, 0.4, 0.3, 0.31, 0.32, 0.36], val_accuracy=[0.6, 0.8, 0.9, 0.9, 0.9, 0.9]
        )
        if model == "mobilenet":
            history["phase"] = ["head"] * 3 + ["fine-tune"] * 3
        write_table(folder / f"plots/history_{model}.csv", history)

    counts = {name: dict.fromkeys(packing.LABELS, size // 2) for name, size in
              (("train", N_TRAIN), ("val", N_VAL), ("test", N_TEST))}  # fmt: skip
    summary = {"pictures": n, **counts, "left_out": {"bad": 0}, "cross_split_duplicates": 0}
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
        {"n": n, "n_suspected": 2, "share": 2 / n, "n_disagreeing": 9,
         "by_label": {"with_mask": 1, "without_mask": 1}, "by_split": {"train": 0, "val": 0, "test": 2}},
    )  # fmt: skip
    Image.fromarray(generator.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / "plots/audit.png")


def write_curves(folder: Path, model: str, y_true: np.ndarray, y_prob: np.ndarray) -> None:
    write_table(folder / f"plots/roc_{model}.csv", curves.roc(y_true, y_prob))
    write_table(folder / f"plots/pr_{model}.csv", curves.precision_recall(y_true, y_prob))
    write_table(folder / f"plots/confusion_{model}.csv", curves.confusion(y_true, y_prob))
    write_table(folder / f"plots/reliability_{model}.csv", calibration.reliability(y_true, y_prob))


def fabricate_unseen(folder: Path, generator: np.random.Generator) -> None:
    y_true = (np.arange(300) < 240).astype(int)
    faces = pd.DataFrame(
        {"path": [f"images/face{i}.jpg#1" for i in range(300)], "label": np.array(packing.LABELS)[y_true]}
    )
    faces["face_size"] = generator.integers(32, 150, 300)
    for model, sharpness in (("cnn", 4.0), ("mobilenet", 6.0)):
        y_prob = probabilities(y_true, sharpness, generator).round(6)
        faces[model] = y_prob
        right = metrics.called_right(y_true, y_prob, 0.5)
        m = metrics.classification_metrics(y_true, y_prob)
        by_size = {}
        for name, low, high in (("32_47", 32, 48), ("48_95", 48, 96), ("96_up", 96, 999)):
            here = right[(faces["face_size"] >= low) & (faces["face_size"] < high)]
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
                partial(unseen.no_plain_shares, y_true=y_true, y_prob=y_prob, threshold=0.5),
                resamples=20,
            ),
            "incorrect_called_mask": 21, "n_incorrect": 30, "by_size": by_size,
        }  # fmt: skip
        write_json(folder / f"metrics/unseen_{model}.json", found)
        write_table(folder / f"plots/unseen_roc_{model}.csv", curves.roc(y_true, y_prob))
        write_table(folder / f"plots/unseen_pr_{model}.csv", curves.precision_recall(y_true, y_prob))
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
    for name in ("test_correct.png", "test_wrong.png", "unseen_correct.png", "unseen_wrong.png"):
        path = folder / "plots/xai" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (60, 120, 3), np.uint8)).save(path)


def fabricate_use(folder: Path) -> None:
    """The figures of detection and classification together, and of the replayed clip."""
    for model in MODELS:
        both = {"n_both": 40, "both": 0.9, "both_low": 0.8, "both_high": 0.95}
        write_json(folder / f"metrics/end_to_end_{model}.json", both)
        webcam = {"mean_confidence_with_mask": 0.96, "mean_confidence_without_mask": 0.93}
        filmed = {"filmed_face_right": 0.9, "filmed_face_wrong": 0.04}
        write_json(folder / f"metrics/replay_{model}.json", {"frames": 90, **webcam, **filmed})
