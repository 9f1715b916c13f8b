"""Architecture, augmentation, features, batches, training and saving, on small images."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from face_mask import lockfile
from face_mask.errors import UserError
from pipeline.dataset import packing
from pipeline.models import cnn, imagenet_weights, mobilenet, pooled_features, saving
from pipeline.models.predicting import predict
from pipeline.training import augmentation, batches, fit
from pipeline.training import optimizer as optimizers

STILL: dict[str, Any] = {
    "rotation": 0.0,
    "zoom": 0.0,
    "shift": 0.0,
    "shear": 0.0,
    "light": 0.0,
    "colour": 0.0,
    "blur": 0.0,
    "downscale_prob": 0.0,
    "min_side": 28,
    "occlusion": 0.0,
}
STRONG: dict[str, Any] = {
    "rotation": 25.0,
    "zoom": 0.3,
    "shift": 0.2,
    "shear": 10.0,
    "light": 0.4,
    "colour": 0.3,
    "blur": 0.5,
    "downscale_prob": 0.5,
    "min_side": 16,
    "occlusion": 0.5,
}


def test_the_cnn_is_the_one_given():
    model = cnn.build(128, 0.5)
    assert model.count_params() == 7_400_706
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        *["Rescaling", "Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "Flatten"],
        *["Dense", "Dropout", "Dense", "Dropout", "Dense"],
    ]
    assert [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [32, 64]
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [128, 64, 2]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]


def test_the_form_that_is_trained_is_the_same_function_with_the_same_gradients_of_the_same_weights():
    model = cnn.build(32, 0.0)
    trained = cnn.for_training(model)
    assert all(one is other for one, other in zip(model.weights, trained.weights, strict=True))
    for variable in model.weights[1:4:2]:
        variable.assign(np.random.default_rng(0).normal(0, 0.1, variable.shape))  # biases, which are initially 0
    pixels = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    gradients = []
    for one in (model, trained):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(one(pixels)[:, 1])
        gradients.append(tape.gradient(loss, one.trainable_variables))
    assert (model(pixels).numpy() == trained(pixels).numpy()).all()
    for plain, fast in zip(*gradients, strict=True):
        assert np.abs(plain - fast).max() <= 1e-4 * np.abs(plain).max()


@pytest.mark.parametrize("name", ["cnn", "mobilenet"])
def test_a_model_takes_raw_pixels_and_gives_probabilities(name):
    model = cnn.build(64, 0.5) if name == "cnn" else whole_mobilenet(64)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    probabilities = model(pixels).numpy()
    assert probabilities.shape == (3, 2) and probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert model(pixels.astype(np.float32)).numpy() == pytest.approx(probabilities, abs=1e-5)


def whole_mobilenet(size: int) -> keras.Model:
    return mobilenet.assemble(mobilenet.build_backbone(size), mobilenet.build_head(0.5), size)


@pytest.mark.parametrize(("blocks", "first"), [(1, "block_16_expand"), (7, "block_10_expand"), (17, "Conv1")])
def test_unfreezing_starts_where_it_says_and_leaves_batch_normalisation_frozen(blocks, first):
    backbone = mobilenet.build_backbone(64)
    mobilenet.unfreeze(backbone, blocks)
    trainable = [layer for layer in backbone.layers if layer.trainable and layer.weights]
    assert trainable[0].name == first and trainable[-1].name == "Conv_1"
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in trainable)


# ---- augmentation ----


def faces(n: int = 6, side: int = 48) -> np.ndarray:
    """Smooth random images: resampling by less than a pixel changes them little."""
    coarse = np.random.default_rng(1).integers(0, 256, (n, 6, 6, 3)).astype(np.float32)
    return tf.cast(tf.image.resize(coarse, [side, side], "bicubic"), tf.uint8).numpy()


def test_without_augmentation_images_are_only_flipped():
    images = faces()
    found = augmentation.augment(tf.constant(images), tf.constant([1, 2]), **STILL).numpy()
    flips = 0
    for before, after in zip(images, found, strict=True):
        if np.abs(after - before[:, ::-1]).max() <= 1:
            flips += 1
        else:
            assert np.abs(after - before).max() <= 1
    assert 0 < flips < len(images)


def test_augmentation_depends_on_the_seed_alone_and_stays_in_range():
    images = tf.constant(faces())
    once, again, other = (augmentation.augment(images, tf.constant([7, i]), **STRONG).numpy() for i in (1, 1, 2))
    assert (once == again).all()
    assert np.abs(once - other).mean() > 5
    assert once.dtype == np.float32 and once.shape == images.shape
    assert once.min() >= 0 and once.max() <= 255


@pytest.mark.parametrize("change", ["rotation", "zoom", "shift", "shear"])
def test_geometry_moves_a_centred_disc_no_further_than_specified(change):
    side, n = 96, 64
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disc = ((x - 20) ** 2 + y**2 < 36).astype(np.uint8)[..., None] * np.full(3, 255, np.uint8)
    limit = {"rotation": 20.0, "zoom": 0.2, "shift": 0.1, "shear": 10.0}[change]
    images = tf.constant(np.repeat(disc[None], n, axis=0))
    moved = augmentation.augment(images, tf.constant([3, 4]), **{**STILL, change: limit}).numpy()[..., 0]
    weight = moved.sum(axis=(1, 2))
    at_x, at_y = (moved * x).sum(axis=(1, 2)) / weight, (moved * y).sum(axis=(1, 2)) / weight
    radius, angle = np.hypot(at_x, at_y), np.degrees(np.arctan2(at_y, np.abs(at_x)))
    if change == "rotation":
        assert radius == pytest.approx(20, abs=0.7)
        assert np.abs(angle).max() < 20.5 and np.abs(angle).max() > 14
        assert angle.min() < -5 and angle.max() > 5
    elif change == "zoom":
        # 1.2 times either way, and the two sides may differ by a twentieth more
        assert radius.min() > 20 / 1.2 / 1.06 and radius.max() < 20 * 1.2 * 1.06 and radius.std() > 1
        assert np.abs(angle).max() < 1
    elif change == "shift":
        assert np.abs(np.abs(at_x) - 20).max() < 0.1 * side + 0.7 and np.abs(at_y).max() < 0.1 * side + 0.7
        assert at_y.std() > 2
    else:
        assert np.abs(angle).max() < 11 and (np.abs(radius - 20) < 2).all()


def test_occlusion_blur_and_downscaling_affect_the_specified_fraction():
    images = tf.constant(np.repeat(faces(1), 400, axis=0))
    sharp = np.abs(np.diff(faces(1).astype(float), axis=2)).mean()
    for change in ("occlusion", "blur", "downscale_prob"):
        found = augmentation.augment(images, tf.constant([5, 6]), **{**STILL, change: 0.3}).numpy()
        plain = np.minimum(
            np.abs(found - images.numpy()).max(axis=(1, 2, 3)),
            np.abs(found - images.numpy()[:, :, ::-1]).max(axis=(1, 2, 3)),
        )
        assert 0.2 < (plain > 1.5).mean() < 0.4
        if change != "occlusion":
            assert np.abs(np.diff(found, axis=2)).mean() < sharp


def test_a_downscaled_image_keeps_the_detail_of_the_minimum_side_only():
    """A chequerboard of single pixels is too fine for any downscaled image: it turns grey."""
    side = 64
    at = np.arange(side)
    board = np.repeat((255 * ((at[:, None] + at) % 2)).astype(np.float32)[None, :, :, None], 3, axis=3)
    coarse = np.repeat((255 * ((at[:, None] // 16 + at // 16) % 2)).astype(np.float32)[None, :, :, None], 3, axis=3)
    for number in range(5):
        seed = tf.constant([9, number])
        lost = augmentation.downscale(tf.constant(board), seed, 1.0, 28).numpy()
        assert lost.shape == board.shape and lost.std() < 0.4 * board.std()
        kept = augmentation.downscale(tf.constant(coarse), seed, 1.0, 28).numpy()
        assert np.corrcoef(kept.ravel(), coarse.ravel())[0, 1] > 0.9
        assert (augmentation.downscale(tf.constant(board), seed, 0.0, 28).numpy() == board).all()


# ---- features ----


def features_of(backbone: keras.Model, images: np.ndarray, path: Path) -> np.ndarray:
    """(2, n, 1280) features of the images and of their mirror images."""
    views = [lambda batch: batch, lambda batch: batch[:, :, ::-1]]
    forward, starts = pooled_features.forward_function(backbone), range(0, len(images), pooled_features.BATCH)
    batches = (pooled_features.pool_views(images[i : i + pooled_features.BATCH], forward, views) for i in starts)
    pooled_features.write_pooled(path, batches, len(images))
    return np.load(path)


def test_features_are_the_backbones_means_of_every_view_including_the_last_incomplete_batch(tmp_path):
    images, backbone = faces(pooled_features.BATCH + 3, 32), mobilenet.build_backbone(32)
    found = features_of(backbone, images, tmp_path / "features.npy")
    assert found.shape == (2, len(images), 1280) and found.dtype == np.float32
    for features, view in zip(found, (images, images[:, :, ::-1]), strict=True):
        expected = backbone(view[-5:].astype(np.float32) / 127.5 - 1, training=False).numpy().mean(axis=(1, 2))
        assert features[-5:] == pytest.approx(expected, rel=1e-4, abs=1e-4 * float(expected.max()))  # all are tiny


def test_the_features_are_written_as_numpy_would(tmp_path):
    found = features_of(mobilenet.build_backbone(32), faces(pooled_features.BATCH + 3, 32), tmp_path / "features.npy")
    np.save(tmp_path / "expected.npy", found)
    assert (tmp_path / "features.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_without_weights_the_backbone_that_gave_the_features_is_the_one_that_is_trained(tmp_path, monkeypatch):
    """The stages `features` and `train_mobilenet` both initialize it from the seed."""
    monkeypatch.chdir(tmp_path)
    imagenet_weights.write(imagenet_weights.obtain("none"), mobilenet.BACKBONE)
    found = []
    for seed in (4, 4, 5):
        fit.make_repeatable(seed)
        found.append(features_of(mobilenet.starting_backbone(32), faces(2, 32), tmp_path / "features.npy"))
    assert (found[0] == found[1]).all() and np.abs(found[0] - found[2]).max() > 0.01 * np.abs(found[0]).max()


def test_missing_or_damaged_features_are_one_line_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"features\.npy is missing: run `dvc repro features`"):
        packing.open_features()
    packing.FEATURES_PATH.parent.mkdir(parents=True)
    packing.FEATURES_PATH.write_bytes(b"half")
    with pytest.raises(UserError, match=r"features\.npy is damaged .*: run `dvc repro --force features`"):
        packing.open_features()


# ---- batches ----


def image_set(pixels, rows, classes, changed=None, changed_classes=()) -> batches.Images:
    """Images and all of the changed copies, none by default."""
    copies = pixels[:0] if changed is None else changed
    return batches.Images(pixels, rows, classes, copies, np.arange(len(copies)), np.array(changed_classes, np.int64))


def training_batches(images: batches.Images, counterfactual_prob: float = 0.0, **options) -> tf.data.Dataset:
    """Batches without augmentation."""
    return batches.training_batches(images, changes=STILL, counterfactual_prob=counterfactual_prob, **options)


def test_an_epoch_contains_every_image_once_with_its_class_in_a_new_order():
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    rows, classes = np.arange(4, 40), np.arange(4, 40) % 2
    dataset = training_batches(image_set(images, rows, classes), batch_size=9, seed=3)
    seen = []
    for pixels, one_hot in dataset.take(8).as_numpy_iterator():
        values = pixels[:, 0, 0, 0].round().astype(int)
        assert (one_hot.argmax(axis=1) == values % 2).all()
        seen += values.tolist()
    assert sorted(seen[:36]) == sorted(seen[36:]) == rows.tolist()
    assert seen[:36] != seen[36:]
    again = [batch[0] for batch in dataset.take(8).as_numpy_iterator()]
    assert [int(v) for pixels in again for v in pixels[:, 0, 0, 0].round()] == seen


def test_counterfactuals_replace_their_fraction_of_the_images_with_both_classes_alike():
    images = np.zeros((64, 32, 32, 3), np.uint8)
    rows, classes = np.arange(64), np.arange(64) % 2
    # Three of class 0 and one of class 1, which the pixels tell.
    changed, changed_classes = np.full((4, 32, 32, 3), 100, np.uint8), np.array([0, 0, 1, 0])
    changed[2] = 200

    def values(probability: float, number: int = 4) -> tuple[np.ndarray, np.ndarray]:
        given = image_set(images, rows, classes, changed[:number], changed_classes[:number])
        taken = list(training_batches(given, probability, batch_size=16, seed=7).take(100).as_numpy_iterator())
        pixels = np.concatenate([pixels[:, 0, 0, 0].round() for pixels, _ in taken])
        return pixels, np.concatenate([one_hot for _, one_hot in taken]).argmax(axis=1)

    pixels, found = values(0.25)
    replaced = pixels > 0
    assert ((pixels[replaced] == 200) == found[replaced]).all()
    # 1,600 draws: more than four standard deviations are rejected.
    assert abs(replaced.mean() - 0.25) < 0.045 and abs((pixels[replaced] == 200).mean() - 0.5) < 0.1
    assert (values(0.25)[0] == pixels).all() and not values(0.0)[0].any()
    assert not values(0.25, number=2)[0].any()  # of one class alone: none


def test_a_teacher_softens_the_targets_of_the_same_images():
    images, classes = toy()
    teacher = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    plain = training_batches(image_set(images, np.arange(64), classes), batch_size=16, seed=1)
    softened = batches.with_teacher(plain, teacher)
    for (pixels, one_hot), (same, target) in zip(
        plain.take(2).as_numpy_iterator(), softened.take(2).as_numpy_iterator(), strict=True
    ):
        assert (pixels == same).all()
        flat = np.sqrt(teacher(pixels).numpy())
        np.testing.assert_allclose(target, one_hot / 2 + flat / flat.sum(axis=1, keepdims=True) / 2, atol=1e-5)


def test_suspected_labels_are_left_out_of_training_on_request_with_their_copies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = pd.DataFrame({"path": list("abcd"), "label": ["with_mask"] * 4, "row": range(4)})
    manifest["split"] = ["train", "test", "train", "val"]
    copies = pd.DataFrame({"kind": "hand", "label": "without_mask", "split": "train", "source_row": [0, 2, 2]})
    for path, table in ((packing.MANIFEST_PATH, manifest), (packing.SUSPECTS_PATH, manifest.iloc[[1, 2]])):
        path.parent.mkdir(parents=True)
        table.to_csv(path, index=False)
    packing.COUNTERFACTUALS_PATH.parent.mkdir(parents=True)
    copies.to_csv(packing.COUNTERFACTUALS_PATH.with_name("manifest.csv"), index=False)
    np.save(packing.IMAGES_PATH, np.zeros((4, 8, 8, 3), np.uint8))
    np.save(packing.COUNTERFACTUALS_PATH, np.zeros((3, 8, 8, 3), np.uint8))

    everything, some = batches.read("train"), batches.read("train", exclude_suspects=True)
    assert everything.rows.tolist() == [0, 2] and everything.changed_rows.tolist() == [0, 1, 2]
    assert some.rows.tolist() == [0] and some.changed_rows.tolist() == [0]
    assert batches.read("test", exclude_suspects=True).rows.tolist() == [1]
    assert not len(batches.read("val").changed_rows)


def test_validation_batches_are_the_images_in_order_and_their_proportion_of_copies():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    rows, classes = np.array([5, 2, 19, 0, 7, 3]), np.array([1, 0, 0, 1, 1, 0])
    given = image_set(images, rows, classes, images[10:], np.arange(10) % 2)

    def contents(probability: float) -> tuple[np.ndarray, list[int]]:
        dataset = batches.validation_batches(given, seed=1, counterfactual_prob=probability, batch_size=4)
        parts = list(dataset.as_numpy_iterator())
        one_hot = np.concatenate([one_hot for _, one_hot in parts])
        return np.concatenate([pixels for pixels, _ in parts]), one_hot.argmax(axis=1).tolist()

    pixels, found = contents(0.0)
    assert (pixels == images[rows]).all() and found == classes.tolist()
    pixels, found = contents(0.4)  # 4 of 10
    assert (pixels[:6] == images[rows]).all() and found == [*classes.tolist(), 0, 0, 1, 1]
    copies = [next(i for i in range(10) if (images[10 + i] == one).all()) for one in pixels[6:]]
    assert [i % 2 for i in copies] == [0, 0, 1, 1] and len(set(copies)) == 4
    assert len(contents(0.9)[1]) == 16 and len(contents(1.0)[1]) == 16  # all that there are


# ---- training ----


def toy() -> tuple[np.ndarray, np.ndarray]:
    """Bright images are class 1, dark ones class 0."""
    classes = np.arange(64) % 2
    noise = np.random.default_rng(0).integers(0, 100, (64, 32, 32, 3))
    return (noise + 120 * classes[:, None, None, None]).astype(np.uint8), classes


@functools.cache  # what a batch contains depends on its number alone, and tracing the augmentation takes a second
def toy_batches() -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """For training and for validation."""
    images, classes = toy()
    return (
        training_batches(image_set(images, np.arange(48), classes[:48]), batch_size=16, seed=1),
        batches.validation_batches(image_set(images, np.arange(48, 64), classes[48:]), seed=1, counterfactual_prob=0.0),
    )


def train_toy(
    epochs: int, ema_momentum: float = 0.9, optimizer=optimizers.muon, learning_rate: float = 2e-3, steps: int = 3
) -> tuple[keras.Model, pd.DataFrame]:
    keras.utils.set_random_seed(0)
    model = cnn.build(32, 0.2)
    history = fit.fit(
        model,
        *toy_batches(),
        optimizer=optimizer(
            optimizers.cosine_schedule(learning_rate, steps * epochs), weight_decay=0.0, ema_momentum=ema_momentum
        ),
        steps_per_epoch=steps,
        epochs=epochs,
        label_smoothing=0.0,
        patience=10,
        rate_key="cnn.learning_rate",
    )
    return model, history


def test_training_batches_are_not_autotuned_which_would_delay_the_end(monkeypatch):
    seen: list[tf.data.Dataset] = []
    fit = keras.Model.fit

    def spy(model, batches, validation_data, **options):
        seen.extend([batches, validation_data])
        return fit(model, batches, validation_data=validation_data, **options)

    monkeypatch.setattr(keras.Model, "fit", spy)
    train_toy(1)
    assert [one.options().autotune.enabled for one in seen] == [False, False]


@pytest.mark.parametrize("optimizer", [optimizers.muon, optimizers.adamw])
@pytest.mark.parametrize("ema_momentum", [0.0, 0.9])
def test_training_learns_and_leaves_the_model_at_its_best_epoch(ema_momentum, optimizer):
    model, history = train_toy(6, ema_momentum, optimizer)
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    images, classes = toy()
    probability = model(images[48:]).numpy()[np.arange(16), classes[48:]]
    # A loss below 1e-5 depends on the last digit of probabilities close to 1 in float32.
    assert -np.log(probability).mean() == pytest.approx(history["val_loss"].min(), rel=1e-3, abs=1e-6)


def test_training_stops_when_validation_does_not_improve():
    losses = iter([0.5, 0.4, 0.45, 0.41, 0.4, 0.3])
    callback = fit.BestEpoch("x", 6, patience=3, rate_key="x")
    callback.set_model(cnn.build(32, 0.0))
    callback.model.compile(keras.optimizers.SGD())
    callback.model.stop_training = False
    stopped = None
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"loss": 1, "accuracy": 1, "val_loss": loss, "val_accuracy": 1})
        if callback.model.stop_training:
            stopped = epoch + 1
            break
    assert stopped == 5 and callback.best_epoch == 2


def test_the_schedule_warms_up_and_ends_at_zero():
    schedule = optimizers.cosine_schedule(0.1, 200)
    assert float(schedule(0)) == 0 and float(schedule(200)) == pytest.approx(0, abs=1e-8)
    assert float(schedule(10)) == pytest.approx(0.1)
    assert float(schedule(105)) == pytest.approx(0.05, rel=1e-3)  # half way down the cosine


def test_orthogonalized_has_singular_values_near_one_and_the_same_directions():
    for shape in [(300, 24), (24, 300), (40, 40)]:
        matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        found = np.asarray(optimizers.orthogonalized(tf.constant(matrix)))
        values = np.linalg.svd(found, compute_uv=False)
        assert values.max() < 1.3 and np.median(values) > 0.65
        u, _, v = np.linalg.svd(matrix, full_matrices=False)
        along = np.diag(u.T @ found @ v.T)
        assert along == pytest.approx(values[np.argsort(np.argsort(-along))], abs=1e-3)


def test_iterating_on_the_gram_matrix_equals_the_plain_iteration():
    matrix = np.random.default_rng(1).normal(size=(16, 200))
    x = matrix / np.linalg.norm(matrix)
    for _ in range(optimizers.STEPS):
        gram = x @ x.T
        x = optimizers.A * x + (optimizers.B * gram + optimizers.C * gram @ gram) @ x
    found = np.asarray(optimizers.orthogonalized(tf.constant(matrix.astype(np.float32))))
    assert found == pytest.approx(x, abs=2e-4)


def test_muon_steps_hidden_kernels_and_leaves_the_rest_to_adam():
    model, twin = cnn.build(32, 0.0), cnn.build(32, 0.0)
    twin.set_weights(model.get_weights())
    before = model.get_weights()
    gradients = [np.random.default_rng(i).normal(size=one.shape).astype(np.float32) for i, one in enumerate(before)]
    for one, optimizer in ((model, optimizers.muon), (twin, optimizers.adamw)):
        made = optimizer(0.01, weight_decay=0.0, ema_momentum=0.0)
        made.apply([tf.constant(g) for g in gradients], one.trainable_variables)
    for variable, old, adam in zip(model.trainable_variables, before, twin.get_weights(), strict=True):
        step = variable.numpy() - old
        if variable.path.endswith("kernel") and "probabilities" not in variable.path:
            assert np.sqrt((step**2).mean()) == pytest.approx(0.2 * 0.01, rel=0.25)
        else:
            assert variable.numpy() == pytest.approx(adam, abs=1e-6)  # a step is 0.01


@pytest.mark.parametrize("make", [optimizers.muon, optimizers.adamw])
def test_a_step_with_a_gradient_that_is_not_finite_is_skipped_and_counted(make):
    initial = cnn.build(32, 0.0)
    results = []
    for poisoned in ({}, {1: np.nan, 2: np.inf}):
        model = keras.models.clone_model(initial)
        model.set_weights(initial.get_weights())
        schedule = optimizers.cosine_schedule(0.01, 10)
        optimizer = make(schedule, weight_decay=0.1, ema_momentum=0.9, precision="bfloat16")
        apply = tf.function(lambda g, o=optimizer, m=model: o.apply(g, m.trainable_variables))
        optimizer.build(model.trainable_variables)
        for number in range(3):
            rng = np.random.default_rng(number)
            good = [tf.constant(rng.normal(size=one.shape).astype(np.float32)) for one in model.weights]
            if number in poisoned:
                apply([*good[:2], good[2] * poisoned[number], *good[3:]])
            apply(good)
        assert fit.skipped_steps(optimizer) == {"skipped_steps": float(len(poisoned))}
        assert int(optimizer.iterations) == 3
        results.append([one.numpy() for one in (*model.weights, *optimizer._model_variables_moving_average)])
    for undisturbed, disturbed in zip(*results, strict=True):
        assert np.isfinite(disturbed).all() and (undisturbed == disturbed).all()


def test_a_model_trained_in_bfloat16_is_saved_as_one_in_float32(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    images, classes = toy()
    given = image_set(images, np.arange(64), classes)
    with fit.computing_in("bfloat16"):
        model = cnn.build(32, 0.2)
    optimizer = optimizers.muon(2e-3, weight_decay=0.0, ema_momentum=0.9, precision="bfloat16")
    history = fit.fit(
        cnn.for_training(model),
        training_batches(given, batch_size=16, seed=1),
        batches.validation_batches(given, seed=1, counterfactual_prob=0.0),
        optimizer=optimizer,
        steps_per_epoch=4,
        epochs=2,
        label_smoothing=0.0,
        patience=2,
        rate_key="cnn.learning_rate",
    )
    assert len(history) == 2 and fit.skipped_steps(optimizer) == {"skipped_steps": 0.0}
    assert "skipped" not in capsys.readouterr().out
    assert model.layers[1].compute_dtype == "bfloat16" and keras.config.dtype_policy().name == "float32"
    saving.save(model, "cnn")
    loaded = saving.load("cnn")
    assert {layer.dtype_policy.name for layer in loaded.layers} == {"float32"}
    assert all((a == b).all() for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True))
    assert loaded(images).numpy() == pytest.approx(model(images).numpy(), abs=0.05)


@pytest.mark.parametrize("make", [optimizers.muon, optimizers.adamw])
@pytest.mark.parametrize("ema_momentum", [0.0, 0.9])
def test_a_diverged_training_is_one_line_with_the_parameter_and_the_epoch(make, ema_momentum):
    with pytest.raises(UserError, match=r"of cnn diverged in epoch \d of 4 \(.*\): lower cnn\.learning_rate"):
        train_toy(4, ema_momentum, make, learning_rate=1e30)


def test_weights_that_are_not_finite_are_a_divergence_even_if_the_loss_is_finite():
    callback = fit.BestEpoch("x", 6, patience=3, rate_key="x.rate")
    callback.set_model(cnn.build(32, 0.0))
    callback.model.compile(keras.optimizers.SGD())
    spoil(callback.model)
    with pytest.raises(UserError, match=r"diverged in epoch 1 of 6 \(weights are not finite\): lower x\.rate"):
        callback.on_epoch_end(0, {"loss": 1, "accuracy": 1, "val_loss": 1, "val_accuracy": 1})


def test_a_single_step_has_the_whole_learning_rate_and_trains():
    assert float(optimizers.cosine_schedule(0.1, 1)(0)) == pytest.approx(0.1)
    model, history = train_toy(1, 0.0, steps=1)
    assert len(history) == 1 and np.isfinite(history["val_loss"]).all()
    keras.utils.set_random_seed(0)
    initial = cnn.build(32, 0.2)
    assert np.abs(model.get_weights()[0] - initial.get_weights()[0]).max() > 1e-4


# ---- saving ----


def spoil(model: keras.Model, index: int = 0) -> None:
    """Make one value NaN, of the first weights or those with the given index."""
    values = model.weights[index].numpy()
    values.flat[1] = np.nan
    model.weights[index].assign(values)


@pytest.mark.parametrize("build", [lambda: cnn.build(32, 0.0), imagenet_weights.untrained])
def test_weights_encoded_in_memory_are_the_bytes_that_keras_writes(build, tmp_path):
    model = build()
    model.save_weights(tmp_path / "model.weights.h5")
    assert saving.encode(model) == (tmp_path / "model.weights.h5").read_bytes()


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded_nor_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = cnn.build(32, 0.0)
    saving.save(model, "cnn")
    before = saving.weights_path("cnn").read_bytes()
    spoil(model)
    with pytest.raises(UserError, match=r"models/cnn\.weights\.h5: .* not finite: run `dvc repro --force train_cnn`"):
        saving.save(model, "cnn")
    assert saving.weights_path("cnn").read_bytes() == before
    model.save_weights(saving.weights_path("cnn"))
    with pytest.raises(UserError, match=r"models/cnn\.weights\.h5: the weights of .*kernel are not finite"):
        saving.load("cnn")
    spoil(model, -1)  # the output layer: NaN in the first is hidden by ReLU
    with pytest.raises(UserError, match="cnn predicts probabilities that are not finite"):
        predict(model, toy()[0], np.arange(4))


def test_weights_that_are_not_those_in_the_lock_are_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = cnn.build(32, 0.0)
    saving.save(model, "cnn")
    outs = [{"path": str(path), "md5": lockfile.file_md5(path)} for path in saving.paths("cnn")[1:]]
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"train_cnn": {"cmd": "…", "outs": outs}}}))
    saving.load("cnn")
    model.set_weights([values + 1 for values in model.get_weights()])
    saving.save(model, "cnn")  # whole, but of another training
    with pytest.raises(UserError, match=r"models/cnn\.weights\.h5 does not match dvc\.lock: run `dvc "):
        saving.load("cnn")


def test_a_saved_model_has_the_same_bytes_each_time_and_loads_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, _ = train_toy(epochs=1)
    contents = []
    for _ in range(2):
        saving.save(model, "cnn")
        contents.append((saving.weights_path("cnn").read_bytes(), saving.architecture_path("cnn").read_bytes()))
    assert contents[0] == contents[1]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["cnn.json", "cnn.weights.h5"]
    with h5py.File(saving.weights_path("cnn")) as file:
        assert "optimizer" not in file
    assert "Muon" not in saving.architecture_path("cnn").read_text()
    images = toy()[0][:5]
    loaded = saving.load("cnn")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True))
    assert loaded(images).numpy() == pytest.approx(model(images).numpy(), abs=1e-5)


def test_missing_and_damaged_models_are_clear_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"models/cnn\.json is missing: run `dvc repro train_cnn`"):
        saving.load("cnn")
    saving.save(cnn.build(32, 0.0), "cnn")
    saving.weights_path("cnn").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"cnn\.weights\.h5 is damaged"):
        saving.load("cnn")
    saving.architecture_path("cnn").write_text(json.dumps({"class_name": "Sequential"}))
    with pytest.raises(UserError, match="damaged"):
        saving.load("cnn")


def test_tensorflow_starts_without_noise():
    code = "import pipeline, keras, tensorflow as tf; tf.function(lambda x: x + 1)(tf.constant(1))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_import_error_in_tensorflow_still_has_its_traceback():
    code = "import pipeline, sys; sys.modules['google.protobuf'] = None; import tensorflow"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "Traceback" in done.stderr and "protobuf" in done.stderr
