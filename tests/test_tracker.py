"""Faces tracked over frames, and the metrics of a session."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from face_mask import settings
from face_mask.classifier import Prediction
from face_mask.conformal import Calibration
from face_mask.cropping import intersection_over_union
from face_mask.session import LatencyHistogram, Session
from face_mask.settings import Live
from face_mask.tracker import MAX_FACES, FaceTracker, assign, choose_label, match

LIVE = settings.load().live
Box = tuple[float, float, float, float]


def live(**changes: float) -> Live:
    return LIVE.model_copy(update=changes)


def at(x: float, y: float = 100, side: float = 80) -> Box:
    return (x, y, x + side, y + side)


def prediction(box: Box, with_mask: float = 0.9) -> Prediction:
    return Prediction(box, 0.9, with_mask)


probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(probabilities, st.lists(st.floats(0.001, 0.5), min_size=40, max_size=40), st.floats(0.05, 2))
def test_smoothing_equals_its_closed_form(values: list[float], gaps: list[float], constant: float) -> None:
    tracker = FaceTracker(live(smoothing=constant))
    times = np.cumsum(gaps[: len(values)])
    for time, value in zip(times.tolist(), values, strict=True):
        [face] = tracker.update([prediction(at(50), value)], time)
    # Every value is weighted by its own step, and decays with the time since then.
    weights = np.append(1.0, 1 - np.exp(-np.diff(times) / constant)) * np.exp((times - times[-1]) / constant)
    assert weights.sum() == pytest.approx(1)
    assert face.smoothed == pytest.approx(float(weights @ values))
    assert face.probability == values[-1]


@given(st.floats(0.01, 1), st.floats(0.05, 2))
def test_smoothing_does_not_depend_on_the_frame_rate(gap: float, constant: float) -> None:
    after = []
    for steps in (1, 7):
        tracker = FaceTracker(live(smoothing=constant, max_age=10))
        tracker.update([prediction(at(50), 0.0)], 0.0)
        for step in range(steps):
            [face] = tracker.update([prediction(at(50), 1.0)], gap * (step + 1) / steps)
        after.append(face.smoothed)
    assert after == pytest.approx([1 - math.exp(-gap / constant)] * 2)


def test_no_smoothing() -> None:
    tracker = FaceTracker(live(smoothing=0))
    for time, value in enumerate((0.1, 0.9, 0.9, 0.2)):
        [face] = tracker.update([prediction(at(50), value)], time / 10)
        assert face.smoothed == pytest.approx(value)


@given(st.integers(0, 2**31), st.integers(2, 5))
def test_faces_that_move_keep_their_numbers(seed: int, count: int) -> None:
    """Also if the detections come in any order and some faces are missed for a while."""
    rng = np.random.default_rng(seed)
    middle = np.column_stack([np.arange(count) * 200.0, np.full(count, 100.0)])
    places = middle.copy()
    tracker = FaceTracker(LIVE)
    numbers: dict[int, set[int]] = {}
    for frame in range(40):
        places = np.clip(places + rng.uniform(-12, 12, places.shape), middle - 50, middle + 50)
        visible = [i for i in rng.permutation(count).tolist() if frame == 0 or rng.random() < 0.8]
        faces = tracker.update([prediction(at(*places[i].tolist())) for i in visible], frame / 20)
        detected = {face.box: face.number for face in faces if face.detected}
        assert len(detected) == len(visible)
        for i in visible:
            numbers.setdefault(i, set()).add(detected[at(*places[i].tolist())])
    assert all(len(detected) == 1 for detected in numbers.values())
    assert len(set.union(*numbers.values())) == count


boxes = st.tuples(st.floats(0, 500), st.floats(0, 400), st.floats(10, 200)).map(lambda b: at(*b))


@given(st.lists(st.tuples(st.lists(boxes, max_size=5), st.floats(-0.2, 1)), max_size=30))
def test_numbers_are_unique_and_never_reused(frames: list[tuple[list[Box], float]]) -> None:
    tracker = FaceTracker(LIVE)
    time, before, highest = 0.0, set[int](), 0
    for detected, step in frames:
        time += step
        faces = tracker.update([prediction(box) for box in detected], time)
        numbers = [face.number for face in faces]
        assert numbers == sorted(set(numbers))
        assert sum(face.detected for face in faces) == len(detected)
        assert sorted(face.box for face in faces if face.detected) == sorted(detected)
        new = set(numbers) - before
        assert all(number > highest for number in new)
        before, highest = set(numbers), max([highest, *numbers])


def test_a_face_is_expected_for_a_while() -> None:
    tracker = FaceTracker(live(max_age=0.6))
    tracker.update([prediction(at(50))], 0.0)
    [face] = tracker.update([], 0.6)
    assert (face.number, face.detected, face.box) == (1, False, at(50))
    assert tracker.update([], 0.61) == []
    [face] = tracker.update([prediction(at(50))], 0.7)
    assert face.number == 2


def test_a_rewound_video_restarts_tracking() -> None:
    tracker = FaceTracker(LIVE)
    tracker.update([prediction(at(50), 0.0)], 5.0)
    [face] = tracker.update([prediction(at(50), 1.0)], 4.9)
    assert (face.number, face.smoothed) == (2, 1.0)


def test_a_fast_face_is_matched_by_proximity_and_a_distant_one_is_new() -> None:
    tracker = FaceTracker(LIVE)
    tracker.update([prediction(at(50))], 0.0)
    assert [face.number for face in tracker.update([prediction(at(110))], 0.1)] == [1]
    assert [face.number for face in tracker.update([prediction(at(300))], 0.2)] == [1, 2]
    # As close, but six times the area: another face.
    assert max(face.number for face in tracker.update([prediction(at(360, side=200))], 0.3)) == 3


def test_two_faces_that_pass_each_other_keep_their_numbers() -> None:
    tracker = FaceTracker(LIVE)
    first, second = prediction(at(100), 0.9), prediction(at(150), 0.1)
    tracker.update([first, second], 0.0)
    faces = tracker.update([prediction(at(130), 0.1), prediction(at(120), 0.9)], 0.05)
    assert [(face.number, face.probability) for face in faces] == [(1, 0.9), (2, 0.1)]


@given(st.lists(boxes, min_size=1, max_size=6), st.lists(boxes, min_size=1, max_size=6), st.floats(0.05, 0.9))
def test_matches_are_one_to_one_and_overlaps_come_first(old: list[Box], new: list[Box], threshold: float) -> None:
    tracker = FaceTracker(LIVE)
    known = tracker.update([prediction(box) for box in old], 0)
    pairs = match(known, [prediction(box) for box in new], threshold)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    iou = intersection_over_union(np.array([face.box for face in known], float), np.array(new, float))
    free = iou.copy()
    for i, j in pairs:
        free[i, :] = free[:, j] = 0
    assert free.max(initial=0) < threshold


def test_boxes_with_an_iou_of_a_third() -> None:
    iou = intersection_over_union(np.array([[0, 0, 10, 10.0]]), np.array([[5, 0, 15, 10.0], [20, 20, 30, 30]]))
    assert iou.tolist() == [[pytest.approx(1 / 3), 0]]


@given(st.lists(st.floats(-0.02, 0.02), min_size=2, max_size=60), st.sampled_from([0.3, 0.7]))
def test_a_label_does_not_flicker_around_a_threshold(noise: list[float], threshold: float) -> None:
    tracker = FaceTracker(live(smoothing=0), (0.3, 0.7))
    labels = [tracker.update([prediction(at(50), threshold + n)], frame / 30)[0].label for frame, n in enumerate(noise)]
    assert sum(a != b for a, b in pairwise(labels)) <= 1


@given(st.integers(0, 2**31))
def test_a_single_incorrect_prediction_changes_no_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = FaceTracker(LIVE)
    incorrect = int(rng.integers(1, 60))
    labels = {
        tracker.update([prediction(at(50), 0.02 if frame == incorrect else 0.98)], frame / 20)[0].label
        for frame in range(60)
    }
    assert labels == {"with_mask"}


@pytest.mark.parametrize(
    ("before", "probability", "label"),
    [
        (None, 0.7, "with_mask"),
        (None, 0.69, "unsure"),
        (None, 0.3, "without_mask"),
        (None, 0.31, "unsure"),
        ("with_mask", 0.66, "with_mask"),
        ("with_mask", 0.64, "unsure"),
        ("without_mask", 0.34, "without_mask"),
        ("without_mask", 0.36, "unsure"),
        ("unsure", 0.69, "unsure"),
        ("with_mask", 0.1, "without_mask"),
    ],
)
def test_labels(before: str | None, probability: float, label: str) -> None:
    assert choose_label(before, probability, 0.3, 0.7) == label


@given(st.floats(0, 1))
def test_with_equal_thresholds_no_face_is_unsure(probability: float) -> None:
    assert choose_label(None, probability, 0.5, 0.5) in ("with_mask", "without_mask")
    assert choose_label("with_mask", 0.0, 0.01, 0.01) == "without_mask"


def test_each_model_is_unsure_by_its_own_calibration() -> None:
    def session(with_mask_from: float, without_mask_to: float) -> Session:
        calibration = Calibration(0.01, with_mask_from, without_mask_to, 40, 40)
        return Session(live(smoothing=0), 0.5, {"cnn": calibration, "mobilenet": None})

    def labels(one: Session, p: float) -> list[str]:
        return [one.update([prediction(at(50), p)], i / 10, name)[0].label for i, name in enumerate(models)]

    models = ["cnn", "mobilenet"]
    assert labels(session(0.7, 0.3), 0.6) == ["unsure", "with_mask"]
    assert labels(session(0.2, 0.9), 0.4) == ["unsure", "without_mask"]  # both classes
    assert labels(session(0.2, 0.9), 0.95) == ["with_mask"] * 2
    assert labels(session(0.0, 1.0), 1.0) == ["unsure", "with_mask"]  # too few validation images


def test_a_session_counts_its_frames_and_faces() -> None:
    calibration = Calibration(0.05, with_mask_from=0.7, without_mask_to=0.3, n_with_mask=40, n_without_mask=40)
    session = Session(live(smoothing=0), 0.5, {"cnn": calibration})
    frames = [[(at(50), 0.9), (at(300), 0.2)], [(at(50), 0.8), (at(300), 0.4)], [], [(at(50), 0.6)]]
    for number, detected in enumerate(frames):
        session.update([prediction(box, p) for box, p in detected], number / 10, "cnn")
        session.add_latency(10 * (number + 1), "cnn")
    summary = session.summary()
    expected = {
        "model": "cnn",
        "frames": 4,
        "frames_without_face": 1,
        "faces": 5,
        "faces_with_mask": 3,
        "faces_without_mask": 2,
        "unsure": 2,  # 0.4 and 0.6
        "distinct_faces": 2,
        "people_with_mask": 1,
        "people_without_mask": 1,
        "proportion_with_mask": 0.5,
        "mean_confidence_with_mask": pytest.approx((0.9 + 0.8 + 0.6) / 3, abs=1e-6),
        "mean_confidence_without_mask": pytest.approx((0.8 + 0.6) / 2, abs=1e-6),
        "seconds": 0.3,
        "fps": 10.0,
        "latency_ms_p50": pytest.approx(20, rel=0.011),
        "latency_ms_p90": pytest.approx(40, rel=0.011),
        "latency_ms_p99": pytest.approx(40, rel=0.011),
    }
    assert summary == expected


def test_an_empty_session() -> None:
    session = Session(LIVE, threshold=0.5)
    assert session.summary() == {}
    assert session.summaries() == []
    session.update([], 0.0, "cnn")
    summary = session.summary()
    assert (summary["frames"], summary["frames_without_face"], summary["faces"]) == (1, 1, 0)
    assert summary["mean_confidence_with_mask"] is summary["fps"] is summary["latency_ms_p50"] is None


def test_a_pause_does_not_change_the_frame_rate() -> None:
    session = Session(LIVE, threshold=0.5)
    for time in (0.0, 0.05, 0.1, 60.0, 60.05):
        session.update([], time, "cnn")
    assert session.summary()["fps"] == 20


def test_each_model_has_its_own_metrics_and_faces_keep_their_numbers() -> None:
    session = Session(LIVE, threshold=0.5)
    session.update([prediction(at(50), 0.9)], 0.0, "cnn")
    [face] = session.update([prediction(at(50), 0.2)], 0.05, "mobilenet")
    assert (face.number, face.smoothed) == (1, pytest.approx(0.2))  # not averaged with the other model's
    [face] = session.update([prediction(at(50), 0.2)], 0.1, "mobilenet")
    assert face.smoothed == pytest.approx(0.2)
    session.update([prediction(at(50), 0.7)], 0.15, "cnn")
    cnn, mobilenet = session.summaries()
    assert (cnn["model"], cnn["frames"], cnn["mean_confidence_with_mask"]) == ("cnn", 2, 0.8)
    assert (mobilenet["model"], mobilenet["frames"], mobilenet["faces_without_mask"]) == ("mobilenet", 2, 2)
    assert cnn["distinct_faces"] == mobilenet["distinct_faces"] == 1


@given(st.lists(st.floats(0.02, 1e5), min_size=1, max_size=200), st.sampled_from([50, 90, 99]))
def test_percentiles_are_accurate_to_a_percent(values: list[float], percent: int) -> None:
    latencies = LatencyHistogram()
    for value in values:
        latencies.add(value)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert latencies.percentile(percent) == pytest.approx(exact, rel=0.011, abs=0.012)


def test_memory_does_not_grow_with_a_session() -> None:
    rng = np.random.default_rng(0)
    session = Session(LIVE, threshold=0.5)
    for frame in range(3000):  # a new face every second
        session.update([prediction(at(frame // 20 % 2 * 400), 0.9)], frame / 20, "cnn")
        session.add_latency(float(rng.uniform(5, 50)), "cnn")
    metrics = session.metrics["cnn"]
    assert session.summary()["distinct_faces"] == 150
    assert len(metrics.counted) <= 2
    assert len(metrics.latency.counts) < 130


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (5, 5), (4, 9), (12, 7), (40, 40)])
def test_the_assignment_is_the_one_of_scipy(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        similarity = rng.random(shape) * (rng.random(shape) < rng.random())  # some pairs are impossible
        rows, columns = linear_sum_assignment(similarity, maximize=True)
        expected = [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if similarity[i, j] > 0]
        assert assign(similarity) == expected


def test_the_number_of_tracked_faces_is_limited() -> None:
    """Frames that all have the same time never let a face expire."""
    tracker = FaceTracker(live())
    for number in range(20):
        spread = [prediction(at(1000 * number + 100 * i, y=100 * number)) for i in range(40)]
        faces = tracker.update(spread, 1.0)
        assert len(faces) <= MAX_FACES
        assert {face.box for face in faces if face.detected} == {one.box for one in spread}
    assert [face.number for face in faces] == sorted(face.number for face in faces)


extreme = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([5e-324, -5e-324, 1.7e308, -1.7e308, 0.0])


@given(st.lists(extreme, min_size=1, max_size=30))
def test_any_times_give_finite_metrics(times: list[float]) -> None:
    session = Session(live(), 0.5)
    for time in times:
        [face] = session.update([prediction(at(50))], time, "cnn")
        assert math.isfinite(face.smoothed)
    summary = session.summary()
    assert all(math.isfinite(value) for value in summary.values() if isinstance(value, int | float))
    assert summary["fps"] is None or 0 < float(summary["fps"]) <= 1000
