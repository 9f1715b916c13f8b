"""bench/: the parts of the training benchmarks that compute without measuring."""

import argparse
import itertools
import json
import math
from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from bench import curves, limits, rows_training, step_profile, training_worker
from bench.peers import looped_gradients
from bench.training_worker import Phase

CURVE: dict[str, Any] = {
    "target": 0.9,
    "epochs": [
        {"phase": "head", "epoch": 1, "steps": 10, "val_accuracy": 0.7, "seconds": 1.0},
        {"phase": "head", "epoch": 2, "steps": 20, "val_accuracy": 0.8, "seconds": 2.0},
        {"phase": "fine-tune", "epoch": 1, "steps": 5, "val_accuracy": 0.9, "seconds": 4.0},
        {"phase": "fine-tune", "epoch": 2, "steps": 10, "val_accuracy": 0.95, "seconds": 6.0},
    ],
}
SHORT = CURVE | {"epochs": CURVE["epochs"][:2]}


def test_a_curve_counts_steps_of_each_phase_until_the_target():
    assert curves.reached(CURVE)
    assert curves.steps(CURVE) == {"head": 20, "fine-tune": 5}
    assert curves.seconds(CURVE) == 4.0


def test_a_curve_that_does_not_reach_the_target_counts_all_steps():
    assert not curves.reached(SHORT)
    assert curves.steps(SHORT) == {"head": 20}
    assert curves.seconds(SHORT) == 2.0


def test_time_to_accuracy_is_steps_times_step_time_and_says_what_is_a_lower_bound():
    peer = {"target": 0.9, "epochs": [{"phase": "train", "steps": 100, "val_accuracy": 0.8, "seconds": 9.0}]}
    known = {"ours_cnn": CURVE, "torch_cnn": peer}
    of_phase = {"ours_cnn": {"head": [0.1, 0.1], "fine-tune": [1.0, 1.0]}, "torch_cnn": {"train": [0.5, 0.5]}}
    (row,) = rows_training.to_accuracy("seconds", "ours_cnn", of_phase, known, goal=3)
    assert row.medians == pytest.approx({"ours": 7.0, rows_training.TITLES["torch_cnn"]: 50.0})
    assert row.ratio == pytest.approx(50 / 7)
    assert "did not reach it in 100 steps (best: 80.0 %)" in row.note


def test_time_to_accuracy_is_left_out_without_a_curve_of_ours(capsys):
    assert rows_training.to_accuracy("seconds", "ours_cnn", {}, {"ours_cnn": SHORT}, goal=3) == []
    assert "python -m bench.curves ours_cnn" in capsys.readouterr().out


def test_a_run_ends_at_the_target_and_prints_a_line_per_epoch(capsys):
    accuracies = iter([0.5, 0.9, 0.95])
    phases = [
        Phase("once", 64, 2, 1, lambda: None, lambda: None),
        Phase("train", 64, 3, 5, lambda: None, lambda: None, lambda: next(accuracies)),
    ]
    arguments = argparse.Namespace(epochs=None, max_steps=None, target=0.9, seconds=math.inf)
    training_worker.curve(phases, arguments)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["phase"], one["steps"], one["val_accuracy"]) for one in lines] == [
        ("once", 2, None),
        ("train", 3, 0.5),
        ("train", 6, 0.9),
    ]


def test_timing_leaves_out_the_batches_that_wait(monkeypatch):
    clock = itertools.count()
    calls = []
    monkeypatch.setattr(training_worker, "settle", lambda: None)
    monkeypatch.setattr(training_worker.time, "perf_counter", lambda: next(clock))
    measured = training_worker.timed(lambda: calls.append(1), 64, warm=3, count=4)
    assert len(calls) == 7
    assert measured == {"images_per_second": 64.0, "seconds": 1.0, "least_seconds": 1.0}


def test_operations_of_layers_and_of_the_optimizer():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="probabilities"),
        ]
    )
    convolution, dense = 2 * 6 * 6 * 4 * 27, 2 * 144 * 2
    assert list(limits.forward_flops(model).values()) == [convolution, dense]
    muon = limits.muon_flops(model.layers[0].kernel)  # a matrix of 27×4; the output layer has none
    assert muon == 4 * 27 * 4**2 + 5 * 8 * 4**3
    assert limits.training_flops(model, 10) == 10 * (2 * convolution + 3 * dense) + muon


@pytest.mark.parametrize("rule", ["gausslegendre", "trapezoid"])
def test_rules_of_integration_are_exact_for_lines(rule):
    alphas, weights = looped_gradients.points_and_weights(rule, 50)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert (alphas * weights).sum() == pytest.approx(0.5, abs=1e-5)


def test_peers_attributions_are_complete_for_a_linear_model():
    weights = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    kernel = np.stack([np.zeros(12), weights.ravel()], axis=1)

    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.layers[-1].set_weights([kernel, np.zeros(2)])
    image = np.full((2, 2, 3), 10, np.uint8)
    for attribute in (
        lambda image, steps: looped_gradients.loop(model, image, steps),
        looped_gradients.batched(model, "gausslegendre"),
    ):
        np.testing.assert_allclose(attribute(image, 20), 10 * weights, rtol=1e-4)
        assert looped_gradients.steps_needed(attribute, image, 660.0, 0.01, 800) == 50


def test_a_profile_groups_the_time_of_operations():
    matrix = tf.random.uniform((300, 300))
    taken = step_profile.profile(tf.function(lambda: tf.nn.relu(matrix @ matrix)), 5)
    sums = step_profile.grouped(taken, {"product": "MatMul", "never": "Conv2D"})
    assert sums["product"] > 0 and "never" not in sums
    with pytest.raises(RuntimeError, match="no operation of convolution 1, forward"):
        step_profile.show("a step", sums, {"convolution 1, forward": 1e9})
    nested = Counter({"a/dense_1/MatMul:_MklMatMul": 2.0, "b/Relu:Relu": 1.0, "c/d:Mul": 0.5})
    assert step_profile.grouped(nested, step_profile.OF_STEP) == {"dense layers": 2, "bias and ReLU": 1, "other": 0.5}
