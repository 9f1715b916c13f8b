"""A training that was interrupted continues after its last finished epoch, as if it had never stopped."""

from __future__ import annotations

import errno
import random

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import yaml

from pipeline.training import fit, optimizer, resume
from tests.test_models import image_set, training_batches

EPOCHS, STEPS = 4, 2
PATH = resume.FOLDER / "cnn.npz"


class Interrupted(Exception):
    """Ends a training as `kill -9` would: the file of the last finished epoch is all that is left."""


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resume, "declared_digest", lambda stage, also: f"digest of {stage}")


def small_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((48,)),
            layers.Dense(4, "relu"),
            layers.Dropout(0.3),
            layers.Dense(2, "softmax", name="probabilities"),
        ]
    )


def train(stop_in: int | None = None) -> tuple[keras.Model, pd.DataFrame]:
    """Train for EPOCHS epochs, or until the end of epoch `stop_in`, the results of which are lost."""
    model, checkpoint = small_model(), resume.Checkpoint("cnn")
    pixels = np.random.default_rng(0).random((STEPS * EPOCHS, 8, 48), np.float32)
    one_hot = np.tile(np.eye(2, dtype=np.float32), (STEPS * EPOCHS, 4, 1))
    dataset = tf.data.Dataset.from_tensor_slices((pixels, one_hot))
    with pytest.MonkeyPatch.context() as patched:
        if stop_in:
            record = fit.BestEpoch.on_epoch_end

            def on_epoch_end(self, epoch, logs):
                if epoch + 1 == stop_in:
                    raise Interrupted
                record(self, epoch, logs)

            patched.setattr(fit.BestEpoch, "on_epoch_end", on_epoch_end)
        history = fit.fit(
            model,
            dataset.skip(checkpoint.epochs * STEPS),
            dataset.take(1),
            optimizer=optimizer.muon(
                optimizer.cosine_schedule(0.1, STEPS * EPOCHS), weight_decay=0.01, ema_momentum=0.9
            ),
            steps_per_epoch=STEPS,
            epochs=EPOCHS,
            label_smoothing=0.0,
            patience=10,
            rate_key="cnn.learning_rate",
            checkpoint=checkpoint,
        )
    return model, history


def test_an_interrupted_training_ends_as_an_undisturbed_one_bit_for_bit(capsys):
    """With Muon's momentum, the moving average, the best weights, Dropout's random state and the batches' numbers."""
    undisturbed, history = train()
    assert "continuing" not in capsys.readouterr().out
    PATH.unlink()
    with pytest.raises(Interrupted):
        train(stop_in=3)
    resumed, same = train()
    assert "cnn: continuing after epoch 2, from models/.resume/cnn.npz\n" in capsys.readouterr().out
    pd.testing.assert_frame_equal(history, same, check_exact=True)
    variables = resume.variables_of(undisturbed), resume.variables_of(resumed)
    assert [len(found) for found in variables] == [4 + 1 + 1 + 3 * 4] * 2
    for one, other in zip(*variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), one.path)


def test_batches_start_with_any_number():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    images = image_set(pixels, np.arange(16), np.arange(16) % 2)
    for one, other in zip(
        training_batches(images, batch_size=8, seed=1).skip(3).take(2).as_numpy_iterator(),
        training_batches(images, batch_size=8, seed=1, first=3).take(2).as_numpy_iterator(),
        strict=True,
    ):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


def saved() -> None:
    """Write a checkpoint of one epoch."""
    model = small_model()
    model.compile(optimizer.adamw(0.1, weight_decay=0.0, ema_momentum=0.0))
    model.optimizer.build(model.trainable_variables)
    resume.Checkpoint("cnn").save(model, model.get_weights(), {"history": [{"epoch": 1}]})


def test_a_checkpoint_of_other_parameters_is_not_used(monkeypatch, capsys):
    saved()
    assert resume.Checkpoint("cnn").epochs == 1
    monkeypatch.setattr(resume, "declared_digest", lambda stage, also: "other")
    capsys.readouterr()
    assert resume.Checkpoint("cnn").epochs == 0
    assert capsys.readouterr().out == (
        "cnn: models/.resume/cnn.npz is of other data, parameters or code: training from epoch 1\n"
    )


def test_a_damaged_checkpoint_is_reported_in_one_line_and_not_used(capsys):
    saved()
    whole, rng = PATH.read_bytes(), random.Random(0)
    for i in range(100):
        damaged = bytearray(whole)
        if i % 2:
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        else:
            del damaged[rng.randrange(len(whole)) :]
        PATH.write_bytes(damaged)
        capsys.readouterr()
        found, line = resume.Checkpoint("cnn"), capsys.readouterr().out
        if found.epochs:  # a bit that nothing reads, such as that of a date
            assert [one.tobytes() for one in found.variables + found.best_weights] == reference(whole)
        else:
            assert line.startswith("cnn: models/.resume/cnn.npz is damaged (") and line.count("\n") == 1


def reference(whole: bytes) -> list[bytes]:
    PATH.write_bytes(whole)
    found = resume.Checkpoint("cnn")
    return [one.tobytes() for one in found.variables + found.best_weights]


def test_without_space_the_training_goes_on_and_the_old_checkpoint_stays(monkeypatch, capsys):
    saved()
    before = PATH.read_bytes()

    def full(*arguments, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    saved()
    assert PATH.read_bytes() == before and list(resume.FOLDER.iterdir()) == [PATH]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "cnn: models/.resume/cnn.npz: No space left on device: if interrupted now, the training would lose this epoch"
    )


def test_a_finished_training_leaves_no_file():
    saved()
    (resume.FOLDER / ".99999999.cnn.npz").touch()  # of a process that was killed
    resume.Checkpoint("cnn").clear()
    assert not resume.FOLDER.exists()
    resume.Checkpoint("cnn").clear()


def test_the_digest_is_of_all_that_the_stage_declares(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 1\ncnn: {epochs: 2}\nevaluate: {threshold: 0.5}\n")
    assert resume.declared_digest("train_cnn") == ""
    (tmp_path / "package").mkdir()
    stage = {"deps": ["module.py", "package", "data.npy"], "params": ["seed", "cnn"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train_cnn": stage}}))
    for name in ("module.py", "package/one.py", "data.npy"):
        (tmp_path / name).write_text("old")
    digests = [resume.declared_digest("train_cnn")]
    for name in ("module.py", "package/one.py", "data.npy"):
        (tmp_path / name).write_text("new")
        digests.append(resume.declared_digest("train_cnn"))
    (tmp_path / "params.yaml").write_text("seed: 1\ncnn: {epochs: 3}\nevaluate: {threshold: 0.5}\n")
    digests.append(resume.declared_digest("train_cnn"))
    monkeypatch.setattr(np, "__version__", "0")
    digests.append(resume.declared_digest("train_cnn"))
    assert len(set(digests)) == 6
    (tmp_path / "params.yaml").write_text("seed: 1\ncnn: {epochs: 3}\nevaluate: {threshold: 0.6}\n")
    assert resume.declared_digest("train_cnn") == digests[-1]
    lock = {"stages": {"split": {"outs": [{"path": "data.npy", "md5": "0", "hash": "md5"}]}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert resume.declared_digest("train_cnn") != digests[-1]

    teacher = tmp_path / "teacher.h5"
    teacher.write_bytes(b"one")
    with_teacher = resume.declared_digest("train_cnn", [teacher])
    teacher.write_bytes(b"other")
    assert resume.declared_digest("train_cnn", [teacher]) != with_teacher
