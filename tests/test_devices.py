"""A batch that is split between several devices or machines trains the same model as on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from face_mask.errors import UserError
from pipeline.training import fit
from tests.rtsp_server import free_port

slow = pytest.mark.skipif(
    os.environ.get("FACE_MASK_DEVICES_TESTS") != "1", reason="FACE_MASK_DEVICES_TESTS is not 1: two minutes"
)
# TensorFlow's devices and machines must be known before it is first used, so in processes of their own.
TRAIN = """
import json, sys
import keras, numpy as np, tensorflow as tf
from face_mask import errors
from pipeline.training import fit, optimizer, resume

resume.declared_digest = lambda stage, also: stage if sys.argv[1:] else ""

def train(devices, precision="float32"):
    fit.make_repeatable(0)
    x = np.random.default_rng(0).random((57, 48), np.float32)
    y = np.eye(2, dtype=np.float32)[(x[:, 0] > 0.5).astype(int)]
    with fit.on_devices(devices, 16) as machines:
        checkpoint = resume.Checkpoint("cnn")
        model = keras.Sequential(
            [keras.Input((48,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax", name="probabilities")]
        )
        history = fit.fit(
            model,
            tf.data.Dataset.from_tensor_slices((x[:32], y[:32])).repeat().skip(checkpoint.epochs * 32).batch(16),
            tf.data.Dataset.from_tensor_slices((x[32:], y[32:])).batch(64),
            optimizer=optimizer.muon(
                optimizer.cosine_schedule(0.05, 8), weight_decay=0.01, ema_momentum=0.9, precision=precision
            ),
            steps_per_epoch=2, epochs=4, label_smoothing=0.1, patience=9, rate_key="x",
            checkpoint=checkpoint, machines=machines,
        )
    replicas = len(getattr(model.trainable_variables[0].value, "values", [0]))
    weights = [float(one) for array in model.get_weights() for one in array.ravel()]
    print("result", json.dumps([replicas, history.to_dict("list"), weights]), flush=True)
"""
TWO_DEVICES = f"""{TRAIN}
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
train(1)
train("all")
train("all", "bfloat16")  # of the optimizer, which counts steps that it skips
"""
ONE_OF_TWO = f"""{TRAIN}
if sys.argv[1] == "killed":
    class Killed(fit.BestEpoch):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch == 2:
                import os
                os.kill(os.getpid(), 9)
    fit.BestEpoch = Killed
errors.run(lambda: train(1), "train_cnn")
"""


def results(output: str) -> list:
    return [json.loads(line.removeprefix("result")) for line in output.splitlines() if line.startswith("result")]


def check_equal(one: list, other: list) -> None:
    (_, history, weights), (_, same, others) = one, other
    assert history.keys() == same.keys()
    for name, values in history.items():
        assert same[name] == pytest.approx(values, rel=1e-5, abs=1e-7), name
    assert others == pytest.approx(weights, rel=1e-3, abs=1e-5)


def run_in(folder: Path, code: str, *arguments: str, **environment: str) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(Path.cwd())} | environment
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True
    )


@slow
def test_two_devices_train_as_one_does(tmp_path):
    """With Muon, the moving average and the best epoch; 25 validation images are not split evenly."""
    output, errors = run_in(tmp_path, TWO_DEVICES).communicate()
    assert len(results(output)) == 3, errors
    one, two, counting = results(output)
    assert (one[0], two[0], counting[0]) == (1, 2, 2)
    check_equal(one, two)
    check_equal(one, counting)


@slow
def test_two_machines_train_as_one_does_also_after_one_was_killed(tmp_path):
    (alone,) = results(run_in(tmp_path, f"{TRAIN}\ntrain(1)").communicate()[0])

    def start(*how: str) -> list[subprocess.Popen]:
        workers = [f"127.0.0.1:{free_port()}" for _ in how]
        tasks = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}} for i in range(len(how))]
        return [run_in(tmp_path, ONE_OF_TWO, one, TF_CONFIG=json.dumps(t)) for one, t in zip(how, tasks, strict=True)]

    first, second = start("lives", "killed")
    output, errors = first.communicate()
    second.communicate()
    assert second.returncode == -9 and first.returncode == 1 and "Traceback" not in errors, errors
    assert "train_cnn: another machine of TF_CONFIG stopped: start all again, and they continue" in errors
    first, second = start("lives", "lives")
    output, errors = first.communicate()
    assert first.returncode == 0 and "continuing after epoch 3" in output, errors
    check_equal(alone, results(output)[0])
    assert second.communicate()[0].endswith("the first machine of TF_CONFIG writes the results\n")
    assert second.returncode == 0


def test_more_devices_than_there_are_is_an_error_that_names_the_key(monkeypatch):
    monkeypatch.setattr(fit.tf.config, "list_logical_devices", lambda kind: [] if kind == "GPU" else [Device("CPU:0")])
    with pytest.raises(
        UserError, match=r"^training\.devices is 2, and TensorFlow has 0 GPUs: lower it in params\.yaml$"
    ):
        fit.on_devices(2, 64).__enter__()
    for devices in (1, "all"):
        with fit.on_devices(devices, 64) as machines:
            assert machines is None and fit.tf.distribute.get_strategy().num_replicas_in_sync == 1


def test_a_batch_that_cannot_be_split_is_an_error(monkeypatch):
    monkeypatch.setattr(fit.tf.config, "list_logical_devices", lambda kind: [Device(f"{kind}:{i}") for i in range(3)])
    with pytest.raises(UserError, match="batches of 64 images cannot be split evenly between 3 devices"):
        fit.on_devices("all", 64).__enter__()


class Device:
    def __init__(self, name: str):
        self.name = name
