"""Attributions against closed forms, and the metrics of their reliability against hand-made maps."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.explain import faithfulness, focus, panels, randomization, sampling, summary
from pipeline.explain import integrated_gradients as ig
from pipeline.explain.baselines import NAMES, baselines
from pipeline.explain.grad_cam import grad_cam, halves
from pipeline.explain.logits import logits_model
from pipeline.models import cnn, mobilenet
from pipeline.synthetic.faces import draw_image

SIDE = 32
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 6, 3)).astype(np.uint8)
FACES = np.stack(
    [np.asarray(draw_image(0, label, i, size=SIDE)) for i, label in enumerate(("with_mask", "without_mask") * 2)][:3]
)
WEIGHTS = RNG.normal(size=(6, 6, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=["cnn", "mobilenet"])
def model(request) -> keras.Model:
    keras.utils.set_random_seed(1)
    if request.param == "cnn":
        model = cnn.build(SIDE, 0.5)
    else:
        model = mobilenet.assemble(mobilenet.build_backbone(SIDE), mobilenet.build_head(0.5), SIDE)
    # Scale the output layer so that the margins differ as much as those of a trained model.
    some = np.concatenate([FACES, np.zeros_like(FACES[:1]), np.full_like(FACES[:1], 255)])
    weights = model.get_weights()
    weights[-2] *= 5 / np.diff(logits_model(model)(some).numpy()).std()
    model.set_weights(weights)
    return model


def linear(points):
    """F(x) = w·x, whose attribution is w (x - baseline), whatever the path."""
    return np.broadcast_to(WEIGHTS, points.shape).copy(), (points * WEIGHTS).sum(axis=(1, 2, 3))


def quadratic(points):
    """F(x) = ½ Σ w x², whose attribution is ½ w (x² - baseline²)."""
    return points * WEIGHTS, (points.astype(np.float64) ** 2 * WEIGHTS / 2).sum(axis=(1, 2, 3))


def kinked(points):
    """F(x) = max(0, Σ x - 0.3 of the largest sum), a ReLU: its gradient jumps once on the path from black."""
    height = points.sum(axis=(1, 2, 3)) - 0.3 * 255 * points[0].size
    return np.ones_like(points) * (height > 0)[:, None, None, None], np.maximum(height, 0)


def kinked_at_fixed_sum(points):
    """`kinked` for images of one colour, in float64: the result does not depend on the other images in the call."""
    height = points[:, 0, 0, 0].astype(np.float64) * 6 * 6 * 3 - 0.3 * 255 * 6 * 6 * 3
    return np.ones_like(points) * (height > 0)[:, None, None, None], np.maximum(height, 0)


# ---- the margin ----


def test_the_margin_is_the_log_odds_of_the_probabilities(model):
    logits = logits_model(model)(FACES).numpy().astype(np.float64)
    probabilities = model(FACES).numpy().astype(np.float64)
    assert logits[:, 1] - logits[:, 0] == pytest.approx(np.log(probabilities[:, 1] / probabilities[:, 0]), abs=1e-4)
    assert model(FACES).numpy().sum(axis=1) == pytest.approx(1)  # the model itself keeps its softmax


def test_a_model_without_the_softmax_is_refused():
    with pytest.raises(ValueError, match='0 softmax layers named "probabilities"'):
        logits_model(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="probabilities")]))


# ---- Integrated Gradients ----


@pytest.mark.parametrize("baseline", NAMES)
@pytest.mark.parametrize(
    ("function", "integral"), [(linear, lambda x: WEIGHTS * x), (quadratic, lambda x: WEIGHTS * x**2 / 2)]
)
def test_attributions_of_linear_and_quadratic_models_are_exact(baseline, function, integral):
    found = ig.integrated_gradients(function, IMAGES, baseline=baseline)
    starts = np.stack([baselines(baseline, image) for image in IMAGES])
    expected = (integral(IMAGES[:, None].astype(np.float64)) - integral(starts.astype(np.float64))).mean(axis=1)
    assert found.attributions == pytest.approx(expected, rel=1e-3, abs=0.05)
    assert found.completeness_error.max() < 1e-3
    assert set(found.steps) == {ig.FIRST_STEPS * starts.shape[1]}  # the trapezoid rule needs no more


def test_steps_are_added_until_the_attributions_add_up(monkeypatch):
    monkeypatch.setattr(ig, "FIRST_STEPS", 2)
    bright = np.full((2, 6, 6, 3), 200, np.uint8) + np.arange(2, dtype=np.uint8)[:, None, None, None]
    errors, steps = [], []
    for completeness in (0.3, 0.01, 0.0001):
        found = ig.integrated_gradients(kinked, bright, baseline="black", completeness=completeness)
        assert (found.completeness_error <= completeness).all()
        difference = kinked(bright.astype(np.float32))[1]
        assert np.abs(found.attributions.sum(axis=(1, 2, 3)) / difference - 1) == pytest.approx(
            found.completeness_error, abs=1e-5
        )
        errors.append(found.completeness_error.max())
        steps.append(found.steps.max())
    assert errors == sorted(errors, reverse=True) and steps[0] < steps[1] < steps[2] < 50


def test_steps_end_at_the_most_that_are_allowed_and_the_error_says_so():
    def wild(points):
        return np.sin(points * 1000), np.arange(len(points), dtype=float) * 1e6

    found = ig.integrated_gradients(wild, IMAGES[:2], baseline="black", max_steps=20)
    assert (found.steps == 20).all() and (found.completeness_error > 0.01).all()
    with pytest.raises(ValueError, match="max_steps = 7"):
        ig.integrated_gradients(linear, IMAGES, max_steps=7)


def test_calls_are_small_and_the_ends_of_paths_are_computed_once():
    counts: list[int] = []
    points: list[bytes] = []

    def watched(batch):
        counts.append(len(batch))
        points.extend(one.tobytes() for one in batch)
        return linear(batch)

    images = RNG.integers(1, 255, (ig.IMAGES_AT_ONCE + 2, 6, 6, 3), np.uint8)
    ig.integrated_gradients(watched, images)
    assert max(counts) <= ig.BATCH
    assert len(points) == len(set(points)) == 2 + len(images) * (1 + 2 * (ig.FIRST_STEPS - 1))


MANY_STEPS = 4096  # of one path: enough to converge. Untrained weights need more steps than trained ones


@pytest.mark.parametrize("max_steps", [ig.FIRST_STEPS, 64, MANY_STEPS])
def test_attributions_of_both_models_add_up_as_they_say(model, max_steps):
    """The returned error is the true one, and it is within the tolerance unless the steps ran out.

    The number of steps that untrained weights take depends on the last digits of a processor's arithmetic, so it is not
    asserted: the maximum over twelve seeds, for both paths together, was 1181.
    """
    found = ig.integrated_gradients(ig.gradients_of(model), FACES, max_steps=max_steps)
    assert found.attributions.shape == FACES.shape
    logits = logits_model(model)
    starts = np.stack([baselines("black_white", image) for image in FACES])
    margins = [np.diff(logits(x.astype(np.float32)).numpy())[:, 0] for x in (FACES, starts[:, 0], starts[:, 1])]
    difference = margins[0] - (margins[1] + margins[2]) / 2
    true_error = np.abs(found.attributions.sum(axis=(1, 2, 3)) - difference) / np.maximum(np.abs(difference), ig.FLOOR)
    assert found.completeness_error == pytest.approx(true_error, rel=1e-3, abs=1e-3)
    assert ((found.completeness_error <= 0.01) | (found.steps > max_steps)).all()
    assert (found.steps <= 2 * max_steps).all()
    if max_steps == MANY_STEPS:
        assert found.completeness_error.max() <= 0.01


def test_attributions_do_not_depend_on_the_other_images(model):
    """With the first steps only, since the last digit of an error can decide which steps are halved next."""
    gradients = ig.gradients_of(model)
    together = ig.integrated_gradients(gradients, FACES, max_steps=ig.FIRST_STEPS)
    for i, image in enumerate(FACES):
        alone = ig.integrated_gradients(gradients, image[None], max_steps=ig.FIRST_STEPS)
        largest = float(np.abs(alone.attributions).max())
        assert alone.attributions[0] == pytest.approx(together.attributions[i], abs=0.02 * largest)


def test_added_steps_do_not_depend_on_the_other_images():
    """Images of different brightness: the kink is at a different point of each path, and each is halved as needed."""
    images = np.stack([np.full((6, 6, 3), 90 + 10 * i, np.uint8) for i in range(ig.IMAGES_AT_ONCE + 2)])
    together = ig.integrated_gradients(kinked_at_fixed_sum, images, baseline="black", completeness=0.001)
    assert len(set(together.steps)) > 1
    for i, image in enumerate(images):
        alone = ig.integrated_gradients(kinked_at_fixed_sum, image[None], baseline="black", completeness=0.001)
        assert alone.steps[0] == together.steps[i]
        assert alone.attributions[0] == pytest.approx(together.attributions[i], rel=1e-4)


# ---- baselines ----


def test_a_black_patch_counts_against_the_default_baseline_and_not_against_black():
    image = np.full((6, 6, 3), 180, np.uint8)
    image[3:, 1:5] = 0
    default = ig.integrated_gradients(linear, image[None]).attributions[0]
    black = ig.integrated_gradients(linear, image[None], baseline="black").attributions[0]
    assert (black[3:, 1:5] == 0).all() and (np.abs(default[3:, 1:5]) > 0).all()


@given(arrays.arrays(np.uint8, (8, 8, 3)))
@settings(max_examples=30)
def test_baselines_are_images_and_the_default_is_blind_to_no_colour(image):
    for name in NAMES:
        starts = baselines(name, image)
        assert starts.shape == (1 + (name == "black_white"), 8, 8, 3) and starts.dtype == np.float32
        assert starts.min() >= 0 and starts.max() <= 255.001
    distances = np.abs(image.astype(float) - baselines("black_white", image)).sum(axis=0)
    assert (distances == 255).all()


def test_an_unknown_baseline_is_refused():
    with pytest.raises(ValueError, match="unknown baseline 'grey'"):
        baselines("grey", IMAGES[0])


# ---- Grad-CAM ----


def test_grad_cam_locates_the_evidence_for_the_class():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(2, 1, use_bias=False),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax", name="probabilities", use_bias=False),
        ]
    )
    # Channel 0 passes red and is evidence for with_mask, channel 1 passes blue and is evidence for without_mask.
    model.set_weights([np.array([[[[1, 0], [0, 0], [0, 1]]]], np.float32), np.array([[0, 1], [1, 0]], np.float32)])
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[0, :4, :, 0] = 255
    image[0, 4:, :, 2] = 255
    with_mask, without_mask = grad_cam(model, image.repeat(2, axis=0), np.array([1, -1]))
    assert with_mask[:4] == pytest.approx(1) and with_mask[4:] == pytest.approx(0)
    assert without_mask[:4] == pytest.approx(0) and without_mask[4:] == pytest.approx(1)
    assert (grad_cam(model, np.zeros_like(image), np.array([1])) == 0).all()


def test_grad_cam_of_both_models_is_of_the_last_convolution_and_of_image_size(model):
    linear_model = logits_model(model)
    before, after = halves(linear_model)
    points = FACES.astype(np.float32)
    assert after(before(points)).numpy() == pytest.approx(linear_model(points).numpy(), abs=1e-5)
    assert before(points).shape[1:] == ((13, 13, 64) if model.name == "cnn" else (1, 1, 1280))
    cams = grad_cam(model, FACES, np.array([1, -1, 1]))
    assert cams.shape == (3, SIDE, SIDE) and cams.min() >= 0 and cams.max() <= 1


def test_grad_cam_needs_a_convolution():
    with pytest.raises(ValueError, match="no convolution"):
        halves(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


# ---- focus ----


def test_gains_of_hand_made_maps():
    box = np.array([0.25, 0.25, 0.75, 0.75])
    inside = np.zeros((8, 8))
    inside[2:6, 2:6] = 1
    assert focus.gain(np.ones((8, 8)), box) == pytest.approx(1)
    assert focus.gain(inside, box) == pytest.approx(4)
    assert focus.gain(inside, focus.lower_half(box)) == pytest.approx(4)
    assert focus.gain(1 - inside, box) == 0
    assert focus.gain(inside - 5 * (1 - inside), box) == pytest.approx(4)  # negative attribution does not count
    assert np.isnan(focus.gain(-inside, box))
    assert np.isnan(focus.gain(inside, np.full(4, np.nan))) and np.isnan(focus.gain(inside, np.array([0.5, 0, 0.5, 1])))


@given(st.lists(st.floats(-0.2, 1.2), min_size=4, max_size=4), st.integers(16, 40))
@settings(max_examples=60)
def test_an_even_map_gains_nothing_from_any_box_and_no_gain_passes_its_bound(sides, size):
    left, right = sorted(sides[:2])
    top, bottom = sorted(sides[2:])
    box = np.array([left, top, right, bottom])
    area = focus.coverage(box, size).mean()
    width, height = np.clip([right, bottom], 0, 1) - np.clip([left, top], 0, 1)
    assert area == pytest.approx(width * height, abs=1e-9)
    if area > 1e-6:
        assert focus.gain(np.ones((size, size)), box) == pytest.approx(1)
        assert focus.gain(np.random.default_rng(0).random((size, size)), box) <= 1 / area * (1 + 1e-9)


def test_evidence_for_the_predicted_class_is_positive():
    attributions = np.ones((2, 4, 4, 3))
    towards = focus.towards_predicted(attributions, np.array([True, False]))
    assert (towards[0] == 3).all() and (towards[1] == -3).all()


def gains(face: tuple[float, float], lower: tuple[float, float], difference: tuple[float, float]) -> dict[str, float]:
    found = dict(zip(("xai.versus.lower_face_gain_low", "xai.versus.lower_face_gain_high"), difference, strict=True))
    for key, (low, high) in (("xai.face_gain", face), ("xai.lower_face_gain", lower)):
        found |= {key: (low + high) / 2, f"{key}_low": low, f"{key}_high": high}
    return found


@pytest.mark.parametrize(
    ("own", "difference", "chance", "other"),
    [
        ((1.5, 1.7), (0.1, 0.2), "above chance", "more focused than"),
        ((0.9, 1.05), (-0.4, -0.1), "not distinguishable from chance", "less focused than"),
        ((0.5, 0.9), (-0.4, 0.1), "below chance", "not distinguishable from"),
        ((1.2, 1.5), (0.0, 0.3), "above chance", "not distinguishable from"),
    ],
)
def test_insight_follows_the_stated_rule(own, difference, chance, other):
    insight = focus.insight(gains((1.1, 1.3), own, difference))
    lower = f"lower half gain {sum(own) / 2:.2f} ({chance})"
    assert insight == f"face gain 1.20 (above chance), {lower}; {other} the other model"


def test_without_intervals_nothing_is_claimed():
    insight = focus.insight({"xai.face_gain": 1.5, "xai.lower_face_gain": 2.0})
    assert insight == "face gain 1.50 (no interval), lower half gain 2.00 (no interval)"


def test_an_unknown_gain_is_reported_as_unknown():
    unknown = dict.fromkeys(("xai.face_gain", "xai.lower_face_gain", "xai.versus.lower_face_gain_low"))
    assert focus.insight(unknown) == "face gain unknown, lower half gain unknown"


# ---- metrics ----


def test_intervals_hold_the_mean_and_leave_out_what_is_unknown():
    def of(values) -> list:
        return list(summary.intervals(pd.DataFrame({"x": values}), ["x"], 0.95, seed=1).values())

    mean, low, high = of([1, 2, 3, np.nan])
    assert mean == 2 and 1 <= low < 2 < high <= 3
    assert of([4.0]) == [4, 4, 4]
    assert of([np.nan]) == [None, None, None]
    _, low, high = of(RNG.normal(size=2000))
    assert high - low == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.1)


def rows_of_model(gains: list[float]) -> pd.DataFrame:
    n = len(gains)
    table = pd.DataFrame({"path": [str(i) for i in range(n)], "set": ["test"] * n, "steps": 9})
    for name in ("completeness_error", *summary.AREAS):
        table[name] = 0.5
    return table.assign(face_gain=gains, lower_face_gain=gains, randomization_spearman=[0.1] + [np.nan] * (n - 1))


def test_the_metrics_contain_paired_differences_and_image_counts():
    found = summary.model_metrics(rows_of_model([2, 3, np.nan]), rows_of_model([1, 2, 1]), 0.95, 0)
    assert (found["n"], found["n_face"], found["n_randomization"], found["face_gain"]) == (3, 2, 1, 2.5)
    versus = found["versus"]
    assert (versus["face_gain"], versus["face_gain_low"], versus["face_gain_high"]) == (1, 1, 1)
    assert found["unseen"]["n"] == 0 and found["unseen"]["face_gain"] is None
    with pytest.raises(ValueError, match="same images"):
        summary.model_metrics(rows_of_model([1, 2]), rows_of_model([1]), 0.95, 0)


# ---- faithfulness ----


def test_insertion_and_deletion_of_a_model_that_sees_one_cell():
    image = np.full((32, 32, 3), 127, np.uint8)
    image[:2, :2] = 255  # the first of 16×16 cells

    def sees_the_cell(pixels):
        return (pixels[:, :2, :2].mean(axis=(1, 2, 3)) > 254).astype(float)

    correct = np.zeros((32, 32))
    correct[:2, :2] = 1
    random = RNG.random((16, 16))
    found = faithfulness.areas(sees_the_cell, image, correct, steps=16, random=random)
    # The cell is the first to be restored or removed: one trapezoid of 16 lies on the edge.
    assert found["insertion_auc"] == pytest.approx(1 - 1 / 32) and found["deletion_auc"] == pytest.approx(1 / 32)
    found = faithfulness.areas(sees_the_cell, image, -correct, steps=16, random=random)
    assert found["insertion_auc"] == pytest.approx(1 / 32) and found["deletion_auc"] == pytest.approx(1 - 1 / 32)


def test_the_order_is_by_cell_for_any_side_and_both_ends_are_complete():
    for size in (16, 32, 50, 128):
        towards = RNG.normal(size=(size, size))
        order = faithfulness.ranks(faithfulness.cells(towards), size)
        assert sorted(set(order.ravel())) == list(range(256))
        first = towards[order == 0].mean()
        assert first == pytest.approx(max(towards[order == k].mean() for k in range(256)))
    images = faithfulness.transition(
        np.zeros((32, 32, 3)), np.ones((32, 32, 3)), faithfulness.ranks(RNG.random((16, 16)), 32), 4
    )
    assert images.mean(axis=(1, 2, 3)).tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_the_table_is_of_the_predicted_class(model):
    towards = RNG.normal(size=(3, SIDE, SIDE))
    with_mask = faithfulness.areas_table(model, FACES, towards, np.array([True] * 3), steps=4, seed=0)
    without_mask = faithfulness.areas_table(model, FACES, towards, np.array([False] * 3), steps=4, seed=0)
    assert with_mask.to_numpy() + without_mask.to_numpy() == pytest.approx(1, abs=1e-5)


# ---- parameter randomization ----


def test_rank_correlation_is_one_with_itself_and_near_none_with_noise():
    maps = RNG.normal(size=(2, 32, 32, 3))
    assert randomization.rank_correlations(maps, -2 * maps) == pytest.approx(1)
    assert np.abs(randomization.rank_correlations(maps, RNG.normal(size=maps.shape))).max() < 0.2
    assert randomization.rank_correlations(maps, np.zeros_like(maps)).tolist() == [0, 0]


def test_a_randomized_model_has_other_weights_and_the_same_by_the_same_seed(model):
    weights, again, other = (randomization.randomized(model, seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))
    kernels = [i for i, one in enumerate(weights) if one.ndim > 1]
    assert not any(
        np.array_equal(weights[i], other[i]) or np.array_equal(weights[i], model.get_weights()[i]) for i in kernels
    )


# ---- sampling and panels ----


def all_images(counts: dict[tuple[str, str], int]) -> pd.DataFrame:
    rows = [
        {"path": f"{name}/{label}/{i:03}", "set": name, "label": label, "correct": i % 5 > 0}
        for (name, label), count in counts.items()
        for i in range(count)
    ]
    return pd.DataFrame(rows)


def test_the_sample_is_balanced_and_limited_by_what_there_is():
    images = all_images({("test", "with_mask"): 40, ("test", "without_mask"): 40, ("unseen", "with_mask"): 3})
    chosen = sampling.choose(images, 24, seed=1)
    counts = chosen[chosen["sampled"]].groupby(["set", "label"]).size().to_dict()
    assert counts == {("test", "with_mask"): 6, ("test", "without_mask"): 6, ("unseen", "with_mask"): 3}
    shown = chosen[chosen["panel"] != ""]
    assert shown["panel"].value_counts()["test_with_mask_incorrect"] == 4
    assert all(
        name.endswith("_correct") == correct for name, correct in zip(shown["panel"], shown["correct"], strict=True)
    )
    again = sampling.choose(images, 24, seed=1)
    assert chosen.equals(again) and not chosen.equals(sampling.choose(images, 24, seed=2))


def test_a_panel_is_the_same_file_twice_and_no_attribution_is_white(tmp_path):
    assert (panels.scaled(np.zeros((8, 8, 3))) == 0).all()
    assert panels.heat_map(np.zeros((2, 2))) == pytest.approx(1, abs=0.01)
    shown = panels.scaled(RNG.normal(size=(SIDE, SIDE, 3)))
    assert np.abs(shown).max() == 1
    view = panels.View(0.9876, True, 0.004, RNG.normal(size=(SIDE, SIDE, 3)), RNG.random((SIDE, SIDE)))
    assert panels.heading("cnn", view) == "CNN: with_mask 98.7 %, completeness error 0.4 %"
    assert panels.panel_title("test_without_mask_incorrect") == "Test images without mask, at least one model incorrect"
    for name in ("one.png", "two.png"):
        panels.draw(tmp_path / name, "title", [FACES[0]], ["with_mask"], {"cnn": [view], "mobilenet": [view]})
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
