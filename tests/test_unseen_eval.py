"""Stage unseen_eval: metrics against closed forms, sets that lack a class, and the sheet of the worst errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from pipeline import unseen_eval
from pipeline.core.values import flatten
from pipeline.dataset import packing, unseen
from pipeline.models import saving
from pipeline.scoring import curves, error_sheet, sheets
from pipeline.scoring.metrics import wilson
from pipeline.scoring.unseen_metrics import unseen_metrics
from pipeline.sources.annotation_files import SYNONYMS

ROOT = Path(__file__).resolve().parents[1]
RESAMPLED = ("balanced_accuracy", "roc_auc", "mean_confidence_with_mask", "mean_confidence_without_mask")


def faces_of(*rows: tuple[str, float, float]) -> tuple[pd.DataFrame, np.ndarray]:
    """label, face_size, P(with_mask) → what `unseen_metrics` takes."""
    table = pd.DataFrame(rows, columns=["label", "face_size", "p"]).astype({"face_size": float})
    return table[["label", "face_size"]], table["p"].to_numpy(float)


def test_metrics_by_hand() -> None:
    found = unseen_metrics(
        *faces_of(
            ("with_mask", 32, 0.9),
            ("with_mask", 47.9, 0.5),  # at the threshold: predicted as with_mask
            ("with_mask", 48, 0.2),
            ("with_mask", 200, 1.0),
            ("without_mask", 96, 0.3),
            ("without_mask", 95, 0.7),
            ("incorrect", 50, 0.6),
            ("incorrect", 60, 0.1),
            ("incorrect", 70, 0.5),
        ),
        0.5,
        0.95,
        20,
    )
    low, high = wilson(4, 6)
    by_size = found.pop("by_size")
    for name in RESAMPLED:
        assert found.pop(f"{name}_low") <= found[name] <= found.pop(f"{name}_high")
    assert found == pytest.approx(
        {
            "n": 6, "n_with_mask": 4, "n_without_mask": 2,
            "accuracy": 4 / 6, "accuracy_low": low, "accuracy_high": high,
            "balanced_accuracy": (3 / 4 + 1 / 2) / 2, "recall_with_mask": 3 / 4, "recall_without_mask": 1 / 2,
            "roc_auc": 5 / 8,  # pairs in the right order: 0.9 and 1 above both, 0.5 above one, 0.2 above none
            "mean_confidence_with_mask": (0.9 + 0.5 + 0.8 + 1) / 4, "mean_confidence_without_mask": 0.7,
            "n_incorrect": 3, "incorrect_called_mask": 2,
        }
    )  # fmt: skip
    assert {name: (one["n"], one["accuracy"]) for name, one in by_size.items()} == {
        "32_47": (2, 1.0), "48_95": (2, 0.0), "96_up": (2, 1.0),
    }  # fmt: skip


def test_intervals_agree_with_closed_forms() -> None:
    """400 faces with and 100 without a mask; confidence is 0.9 if correct and 0.7 if not."""
    with_mask, without_mask = np.repeat([0.9, 0.3], [320, 80]), np.repeat([0.1, 0.7], [60, 40])
    rows = [("with_mask", 50, p) for p in with_mask] + [("without_mask", 50, p) for p in without_mask]
    found = unseen_metrics(*faces_of(*rows), 0.5, 0.9, 4000)

    def interval(name: str) -> list[float]:
        return [found[f"{name}_low"], found[f"{name}_high"]]

    z = norm.ppf([0.05, 0.95])
    deviation = 0.5 * np.sqrt(0.8 * 0.2 / 400 + 0.6 * 0.4 / 100)
    assert found["balanced_accuracy"] == pytest.approx(0.7)
    assert interval("balanced_accuracy") == pytest.approx(0.7 + z * deviation, abs=0.006)
    # Confidences are 0.7 + 0.2 × correct, so their mean's distribution is the binomial one of the recall.
    for label, n, recall in (("with_mask", 400, 0.8), ("without_mask", 100, 0.6)):
        expected = 0.7 + 0.2 * binom(n, recall).ppf([0.05, 0.95]) / n
        assert interval(f"mean_confidence_{label}") == pytest.approx(expected, abs=0.003)
    # ROC AUC against its standard error from its placements, DeLong et al. 1988.
    placed = (with_mask[:, None] > without_mask).astype(float) + 0.5 * (with_mask[:, None] == without_mask)
    error = np.sqrt(placed.mean(axis=1).var(ddof=1) / 400 + placed.mean(axis=0).var(ddof=1) / 100)
    assert found["roc_auc"] == pytest.approx(placed.mean())
    assert interval("roc_auc") == pytest.approx(placed.mean() + z * error, abs=0.006)


def test_the_originals_metric_is_not_an_accuracy() -> None:
    found = unseen_metrics(*faces_of(("with_mask", 50, 0.0), ("without_mask", 50, 1.0)), 0.5, 0.95, 20)
    assert (found["accuracy"], found["mean_confidence_with_mask"], found["mean_confidence_without_mask"]) == (0, 1, 1)


@pytest.mark.parametrize("label", ["with_mask", "without_mask", "incorrect"])
def test_a_set_of_one_class_alone(label: str) -> None:
    found = unseen_metrics(*faces_of((label, np.nan, 0.8), (label, np.nan, 0.4)), 0.5, 0.95, 20)
    assert found["balanced_accuracy"] is None and found["roc_auc"] is None
    assert found["accuracy"] == (None if label == "incorrect" else 0.5)
    assert found["incorrect_called_mask"] == (1 if label == "incorrect" else 0)
    for one in ("with_mask", "without_mask"):
        assert (found[f"recall_{one}"] is None) == (found[f"mean_confidence_{one}"] is None) == (one != label)
    for one in RESAMPLED:
        assert (found[one] is None) == (found[f"{one}_low"] is None) == (found[f"{one}_high"] is None)
    assert {size["n"] for size in found["by_size"].values()} == {0}
    assert {size["accuracy_low"] for size in found["by_size"].values()} == {None}
    json.dumps(found, allow_nan=False)


@given(
    st.lists(st.tuples(st.sampled_from([*SYNONYMS]), st.floats(1, 300), st.floats(0, 1))),
    st.floats(0.1, 0.9),
)
def test_proportions_are_in_range_and_counts_add_up(rows: list, threshold: float) -> None:
    found = unseen_metrics(*faces_of(*rows), threshold, 0.95, 20)
    assert found["n"] == found["n_with_mask"] + found["n_without_mask"] == len(rows) - found["n_incorrect"]
    proportions = {k: v for k, v in flatten(found).items() if k.split(".")[-1][:2] not in ("n", "n_", "in")}
    assert all(value is None or 0 <= value <= 1 for value in proportions.values())
    if found["n"]:
        assert (
            found["accuracy_low"] <= found["accuracy"] + 1e-12 and found["accuracy"] <= found["accuracy_high"] + 1e-12
        )
    assert 0 <= found["incorrect_called_mask"] <= found["n_incorrect"]


def test_curves_of_one_class_have_no_rows() -> None:
    for curve in (curves.roc, curves.precision_recall):
        whole = curve(np.array([0, 1]), np.array([0.2, 0.7]))
        for y_true in (np.array([1, 1]), np.array([0]), np.array([], int)):
            assert list(curve(y_true, np.full(len(y_true), 0.5))) == list(whole)
            assert len(curve(y_true, np.full(len(y_true), 0.5))) == 0


# The sheet


def table_of(*rows: tuple[str, str, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["path", "label", "cnn"])
    return table.assign(row=range(len(rows)), face_size=40.0)


def test_the_most_confident_error_comes_first_and_incorrectly_worn_masks_are_not_errors() -> None:
    table = table_of(
        ("a", "with_mask", 0.3), ("b", "without_mask", 0.9), ("c", "incorrect", 1.0), ("d", "with_mask", 0.6),
        ("f", "without_mask", 0.99), ("e", "with_mask", 0.1),
    )  # fmt: skip
    worst = error_sheet.worst(table, "cnn", 0.5)
    assert worst["path"].tolist() == ["f", "b", "e", "a"]
    assert worst["confidence"].tolist() == pytest.approx([0.99, 0.9, 0.9, 0.7])
    assert error_sheet.worst(table, "cnn", 0.65)["path"].tolist() == ["f", "b", "e", "a", "d"]


def test_the_sheet_shows_each_error_where_it_belongs() -> None:
    images = np.zeros((3, 32, 32, 3), np.uint8)
    images[1], images[2] = (200, 0, 0), (0, 0, 200)
    table = table_of(("a", "with_mask", 0.9), ("b", "with_mask", 0.1), ("c", "without_mask", 0.95))
    table["mobilenet"] = [0.9, 0.9, 0.1]
    sheet = np.asarray(error_sheet.draw(table, images, {"cnn": "CNN", "mobilenet": "MobileNetV2"}, 0.5))
    one = sheets.draw([images[2], images[1]], [("", "")] * 2, columns=6, heading="CNN")
    half = len(one_pixels := np.asarray(one))
    blue, red = ((sheet[:half] == colour).all(axis=-1) for colour in ((0, 0, 200), (200, 0, 0)))
    assert blue.sum() == red.sum() == (one_pixels == (0, 0, 200)).all(axis=-1).sum() == 144 * 144
    assert np.argwhere(blue)[:, 1].max() < np.argwhere(red)[:, 1].min()  # the most confident first
    assert not ((sheet[half:] == (0, 0, 200)) | (sheet[half:] == (200, 0, 0))).all(axis=-1).any()  # it makes no errors


def test_only_a_probability_of_1_is_shown_as_100_percent() -> None:
    assert [error_sheet.percent(p) for p in (1.0, 0.9999, 0.5)] == ["100 %", "99.9 %", "50.0 %"]


# The stage


@pytest.fixture
def stage(
    logged: list[dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[list[str]], dict[str, dict]]:
    """Runs the stage on faces with these labels, each as bright as its place; returns the metrics of both models."""
    import keras

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    val = pd.DataFrame({"path": [f"{i}.jpg" for i in range(200)], "label": ["without_mask", "with_mask"] * 100})
    val = val.assign(split="val", cnn=np.arange(200) / 200, mobilenet=np.arange(200) / 200)
    packing.PREDICTIONS_PATH.parent.mkdir(parents=True)
    val.to_csv(packing.PREDICTIONS_PATH, index=False)
    pixels = keras.Input((8, 8, 3))
    bright = keras.layers.GlobalAveragePooling2D()(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax", name="out")(bright))
    weights = np.array([[0.0, 0.02]] * 3, np.float32)
    for name in ("cnn", "mobilenet"):
        model.get_layer("out").set_weights([weights, np.array([0, -4], np.float32)])
        saving.save(model, name)

    def run(labels: list[str]) -> dict[str, dict]:
        images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 8, 3), 30, np.uint8)
        unseen.IMAGES_PATH.parent.mkdir(parents=True, exist_ok=True)
        with unseen.IMAGES_PATH.open("wb") as file:
            packing.write_header(file, len(images), 8)
            file.write(images.tobytes())
        manifest = pd.DataFrame({"path": [f"{i}.jpg" for i in range(len(labels))], "label": labels})
        manifest = manifest.assign(split=unseen.UNSEEN, row=range(len(labels)), face_size=40.5)
        small = pd.DataFrame([{"path": "small.jpg", "label": "with_mask", "split": "too_small", "row": -1}])
        pd.concat([manifest, small]).reindex(columns=unseen.COLUMNS).to_csv(unseen.MANIFEST_PATH, index=False)
        unseen_eval.main()
        return {name: json.loads(Path(f"metrics/unseen_{name}.json").read_text()) for name in ("cnn", "mobilenet")}

    return run


def test_the_stage_writes_what_follows_from_the_predictions(stage, tmp_path: Path) -> None:
    labels = ["without_mask", "with_mask", "without_mask", "incorrect", "with_mask", "with_mask"]
    found = stage(labels)
    predictions = pd.read_csv(unseen_eval.PREDICTIONS)
    assert list(predictions) == ["path", "label", "face_size", "cnn", "mobilenet"]
    assert predictions["label"].tolist() == labels and (predictions["face_size"] == 40.5).all()
    expected = 1 / (1 + np.exp(4 - 0.06 * 30 * np.arange(6)))
    assert predictions["cnn"].to_numpy() == pytest.approx(expected, abs=1e-5)
    again = unseen_metrics(predictions, predictions["cnn"].to_numpy(), 0.5, 0.95, 20)
    assert found["cnn"] == found["mobilenet"]
    assert found["cnn"]["accuracy"] == pytest.approx(again["accuracy"])
    assert found["cnn"]["by_size"]["32_47"]["n"] == 5
    # At the level 0.01, the lowest of 100 images with and the highest without a mask: all but the extreme are unsure.
    sets = found["cnn"]["conformal"]
    assert (sets["with_mask_from"], sets["without_mask_to"], sets["unsure_n"]) == (0.005, 0.99, 5)
    assert sets["unsure"] == pytest.approx(((expected > 0.005) & (expected < 0.99))[[0, 1, 2, 4, 5]].mean())
    written = sorted(path.name for path in Path("plots").iterdir())
    assert written == sorted(["unseen_errors.png", "unseen_pr.csv", "unseen_roc.csv"])
    paths = [*Path("plots").iterdir(), *Path("metrics").iterdir(), unseen_eval.PREDICTIONS]
    first = {path: path.read_bytes() for path in paths}
    assert stage(labels) == found
    assert {path: path.read_bytes() for path in paths} == first


def test_a_set_without_one_class_is_evaluated_too(stage) -> None:
    found = stage(["with_mask"] * 4)
    assert found["cnn"]["roc_auc"] is None and found["cnn"]["n"] == 4
    assert Path("plots/unseen_roc.csv").read_text() == "fpr,tpr,threshold,model\n"
