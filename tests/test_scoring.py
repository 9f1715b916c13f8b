"""Metrics against scikit-learn, closed forms and published examples."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from face_mask.errors import UserError
from pipeline.dataset import packing
from pipeline.scoring import calibration, curves, intervals, mcnemar, metrics


def drawn(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, 2, n)
    return y_true, np.clip(0.5 + 0.3 * (2 * y_true - 1) + rng.normal(0, 0.3, n), 0, 1).round(3)


def test_every_metric_equals_scikit_learns():
    y_true, y_prob = drawn()
    y_pred = y_prob >= 0.4
    found = metrics.classification_metrics(y_true, y_prob, threshold=0.4)
    expected = {
        "n": 400,
        "accuracy": sk.accuracy_score(y_true, y_pred),
        "precision_with_mask": sk.precision_score(y_true, y_pred),
        "precision_without_mask": sk.precision_score(y_true, y_pred, pos_label=0),
        "recall_with_mask": sk.recall_score(y_true, y_pred),
        "recall_without_mask": sk.recall_score(y_true, y_pred, pos_label=0),
        "f1_with_mask": sk.f1_score(y_true, y_pred),
        "f1_without_mask": sk.f1_score(y_true, y_pred, pos_label=0),
        "false_positives": int((y_pred & (y_true == 0)).sum()),
        "false_negatives": int((~y_pred & (y_true == 1)).sum()),
        "roc_auc": sk.roc_auc_score(y_true, y_prob),
        "average_precision": sk.average_precision_score(y_true, y_prob),
        "brier": sk.brier_score_loss(y_true, y_prob),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert set(found) - set(expected) == {"accuracy_low", "accuracy_high", "ece"}


def test_the_interval_is_wilsons():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611.
    assert metrics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_without_mask_predicted_as_with_mask_is_a_false_positive():
    found = metrics.classification_metrics(np.array([0, 0, 0, 1]), np.array([0.9, 0.1, 0.2, 0.8]))
    assert (found["false_positives"], found["false_negatives"]) == (1, 0)


def test_a_class_that_is_never_predicted_has_precision_zero_and_no_warning(recwarn):
    found = metrics.classification_metrics(np.array([0, 1, 1]), np.array([0.9, 0.9, 0.9]))
    assert found["precision_without_mask"] == 0.0
    assert not recwarn.list


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_reliability_bins_every_image_once_and_its_weighted_gap_is_the_error(seed, bins):
    y_true, y_prob = drawn(200, seed)
    table = calibration.reliability(y_true, y_prob, bins)
    assert table["n"].sum() == 200
    accuracy = ((y_prob >= 0.5) == (y_true == 1)).mean()
    assert (table["accuracy"] * table["n"]).sum() / 200 == pytest.approx(accuracy)
    assert 0 <= calibration.expected_calibration_error(y_true, y_prob, bins) <= 1


def test_reliability_is_scikit_learns_curve():
    y_true, y_prob = drawn(2000)
    confidence = np.maximum(y_prob, 1 - y_prob)
    correct = (y_prob >= 0.5) == (y_true == 1)
    accuracy, scaled = calibration_curve(correct, 2 * confidence - 1, n_bins=10)
    table = calibration.reliability(y_true, y_prob, 10)
    assert table["accuracy"].to_numpy() == pytest.approx(accuracy, abs=0.01)  # they assign bin edges differently
    assert table["confidence"].to_numpy() == pytest.approx((scaled + 1) / 2, abs=0.005)


def test_calibration_error_in_closed_form():
    # Confidence 0.9 and correct 9 times in 10: error 0. Confidence 1 and correct half the time: error 0.5.
    assert calibration.expected_calibration_error(np.array([1] * 9 + [0]), np.full(10, 0.9)) == pytest.approx(0)
    assert calibration.expected_calibration_error(np.array([1, 0] * 5), np.ones(10)) == pytest.approx(0.5)


def test_curves_enclose_the_areas_that_the_metrics_state():
    y_true, y_prob = drawn()
    roc = curves.roc(y_true, y_prob)
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(sk.roc_auc_score(y_true, y_prob))
    assert roc["threshold"].max() <= 1
    pr = curves.precision_recall(y_true, y_prob)
    assert pr["recall"].is_monotonic_increasing
    steps = np.diff(pr["recall"], prepend=0)
    assert (steps * pr["precision"]).sum() == pytest.approx(sk.average_precision_score(y_true, y_prob), abs=0.005)


def test_confusion_has_one_row_per_image():
    y_true, y_prob = np.array([0, 0, 1, 1]), np.array([0.2, 0.7, 0.8, 0.9])
    table = curves.confusion(y_true, y_prob)
    assert table.value_counts().to_dict() == {
        ("with_mask", "with_mask"): 2,
        ("without_mask", "with_mask"): 1,
        ("without_mask", "without_mask"): 1,
    }


def test_mcnemar_in_closed_form():
    this = np.array([True] * 90 + [True] * 8 + [False] * 1 + [False])
    other = np.array([True] * 90 + [False] * 8 + [True] * 1 + [False])
    found = mcnemar.mcnemar(this, other)
    # Two-sided binomial of 1 in 9 at one half: 2 * (1 + 9) / 512.
    assert found == {
        "both_correct": 90,
        "only_this_correct": 8,
        "only_other_correct": 1,
        "both_incorrect": 1,
        "mcnemar_p": pytest.approx(20 / 512),
    }
    assert mcnemar.mcnemar(this, this)["mcnemar_p"] == 1.0


def test_rounding_leaves_whole_numbers_and_nesting_alone():
    found = metrics.rounded({"a": {"b": 1 / 3, "n": 1234567}, "p": 1.23456789e-9})
    assert found == {"a": {"b": 0.333333, "n": 1234567}, "p": 1.23457e-9}


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_the_bootstrap_of_a_proportion_agrees_with_the_binomial_distribution(confidence):
    y_true, y_prob = np.repeat([0, 1], 200), np.where(np.arange(400) % 10 == 0, 0.0, 1.0)  # recall 0.9

    def recall(times):
        n = times.sum(axis=1)
        return {"recall": intervals.mean(times * y_true, y_prob), "n": n, "balance": times @ y_true / n}

    found = intervals.bootstrap(y_true, recall, resamples=4000, confidence=confidence)
    expected = binom(200, 0.9).ppf([(1 - confidence) / 2, (1 + confidence) / 2]) / 200
    assert [found["recall_low"], found["recall_high"]] == pytest.approx(expected, abs=0.006)
    assert found["n_low"] == found["n_high"] == 400 and found["balance_low"] == found["balance_high"] == 0.5
    assert found == intervals.bootstrap(y_true, recall, resamples=4000, confidence=confidence)


@settings(max_examples=60)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.sampled_from([0, 0.3, 0.5, 1, 1.1]))
def test_bootstrapped_metrics_equal_scikit_learns_on_the_resampled_images(n, seed, threshold):
    rng = np.random.default_rng(seed)
    y_true, y_prob = np.append([0, 1], rng.integers(0, 2, n - 2)), rng.integers(0, 11, n) / 10  # many of them equal
    times = rng.integers(0, 4, (3, n))
    times[:, :2] += 1  # both classes are there
    found = intervals.bootstrap_metrics(times, y_true, y_prob, threshold)
    for i, row in enumerate(times):
        true, prob = np.repeat(y_true, row), np.repeat(y_prob, row)
        predicted = prob >= threshold
        assert {name: values[i] for name, values in found.items()} == pytest.approx(
            {
                "f1_with_mask": sk.f1_score(true, predicted, zero_division=0.0),
                "f1_without_mask": sk.f1_score(true, predicted, pos_label=0, zero_division=0.0),
                "roc_auc": sk.roc_auc_score(true, prob),
                "average_precision": sk.average_precision_score(true, prob),
                "brier": sk.brier_score_loss(true, prob),
            }
        )


def test_bootstrapped_metrics_equal_those_of_the_metrics_file_and_lie_within_their_intervals():
    generator = np.random.default_rng(2)
    y_true, y_prob = np.arange(80) % 2, generator.random(80)
    resampled = partial(intervals.bootstrap_metrics, y_true=y_true, y_prob=y_prob, threshold=0.4)
    whole = metrics.classification_metrics(y_true, y_prob, threshold=0.4)
    of_all = {name: values.item() for name, values in resampled(np.ones((1, 80))).items()}
    assert of_all == pytest.approx({name: whole[name] for name in of_all})
    found = intervals.bootstrap(y_true, resampled, resamples=200)
    assert all(found[f"{name}_low"] <= value <= found[f"{name}_high"] for name, value in of_all.items())


def test_nan_is_never_classified_and_never_read_as_a_probability(tmp_path):
    with pytest.raises(ValueError, match="a probability is NaN"):
        metrics.is_correct(np.array([0, 1]), np.array([0.2, np.nan]), 0.5)
    with pytest.raises(ValueError, match="a probability is NaN"):
        metrics.classification_metrics(np.array([0, 1]), np.array([0.2, np.nan]))
    path = tmp_path / "predictions.csv"
    for value in ("nan", "", "inf", "1.5", "with_mask"):
        path.write_text(f"path,cnn,mobilenet\na,0.5,0.25\nb,0.5,{value}\n")
        with pytest.raises(UserError, match=rf"is damaged \(line 3: {value} is not a valid mobilenet\)"):
            packing.read_predictions(path, ["path"], "predict")
    path.write_text("path,cnn,mobilenet\na,0,1\n")
    assert packing.read_predictions(path, ["path"], "predict")["mobilenet"].tolist() == [1]
