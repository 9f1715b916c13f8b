"""Faults of model files: flipped bits, NaN, and files that change while a server runs."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from face_mask import litert, lockfile, models
from pipeline.synthetic.faces import draw_image
from tests import litert_models
from tests.faults import finished_repository, processes
from tests.test_serve import exported, migrated  # noqa: F401 - fixtures
from tests.test_serve import workspace as registry_workspace
from tools import scratch

LOAD = """
import sys, mlflow
model = mlflow.pyfunc.load_model("models:/face-mask@champion")
if len(sys.argv) > 1:
    import pathlib
    pathlib.Path("loaded").touch()
    sys.stdin.readline()
print(model.predict(model.input_example[0] if isinstance(model.input_example, tuple) else model.input_example))
"""
PACKAGED = (models.PACKAGED / models.FILE).read_bytes()
COMMANDS = (["face_mask.predict", "a.png"], ["face_mask.live", "--port", "0", "--no-open"])


def environment() -> dict[str, str]:
    return scratch.environment() | {"PYTHONPATH": str(processes.REPOSITORY)}


def flip_a_bit(path: Path, seed: int) -> None:
    """Flip one bit of a file in place, at a random position."""
    content = bytearray(path.read_bytes())
    generator = random.Random(seed)
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.chmod(0o644)
    path.write_bytes(content)


def lock(folder: Path) -> None:
    """Write dvc.lock with the files of models/exported as outputs of `export`."""
    outs = [
        {"path": path.relative_to(folder).as_posix(), "hash": "md5", "md5": lockfile.file_md5(path)}
        for path in sorted((folder / litert.MODELS).glob("*.tflite"))
    ]
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"export": {"outs": outs}}}))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A workspace with both models, copies of the packaged one, and an image with a face."""
    for name in ("cnn", "mobilenet"):
        path = litert.path_of(name, folder=tmp_path / litert.MODELS)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PACKAGED)
    shutil.copy("params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    lock(tmp_path)
    draw_image(1, "with_mask", 13, 208).save(tmp_path / "a.png")
    return tmp_path


def run(folder: Path, *arguments: str, seconds: float = 120) -> processes.Outcome:
    return processes.run(["-m", *arguments], cwd=folder, env=environment(), seconds=seconds)


@pytest.mark.fault(7, "one bit flipped in an exported model", "no command uses it: one line, exit code 1, no class")
def test_a_flipped_bit_in_an_exported_model_is_refused_by_every_command(here: Path, seen) -> None:
    flip_a_bit(here / "models/exported/mobilenet.float32.tflite", seed=7)
    for command in COMMANDS:
        outcome = run(here, *command)
        assert outcome.code == 1 and outcome.stdout == ""
        assert "mobilenet.float32.tflite does not match dvc.lock: run `dvc checkout --force" in outcome.error()
    seen("predict, live: exit code 1, “… does not match dvc.lock: run `dvc checkout --force …`”")


@pytest.mark.fault(7, "one bit flipped in the packaged model", "refused in one line wherever the bit is")
def test_a_flipped_bit_in_the_packaged_model_is_refused(tmp_path: Path, monkeypatch, seen) -> None:
    shutil.copytree(models.PACKAGED, tmp_path / "model")
    monkeypatch.setattr(models, "PACKAGED", tmp_path / "model")
    monkeypatch.setattr(models, "workspace", lambda: None)
    for seed in range(20):
        shutil.copy(models.PACKAGE / "model" / models.FILE, tmp_path / "model")
        flip_a_bit(tmp_path / "model" / models.FILE, seed)
        with pytest.raises(models.UserError, match=r"model\.tflite is damaged \(its SHA-256 .*install the package"):
            models.find().load()
    seen("20 of 20 positions: “… is damaged (its SHA-256 is not …): install the package again”")


@pytest.mark.full
@pytest.mark.fault(
    7, "one bit flipped in each output in DVC's cache, and restored by `dvc checkout`",
    "the next stage refuses the file in one line and changes nothing; the advice in that line restores it",
)  # fmt: skip
def test_a_flipped_bit_in_the_cache_is_refused_by_the_stage_that_reads_it(
    tmp_path_factory, tmp_path: Path, seen
) -> None:
    repo = finished_repository.copy(finished_repository.build(tmp_path_factory), tmp_path / "repo")
    graph = yaml.safe_load((repo / "dvc.yaml").read_text())["stages"]
    readers = {dep: stage for stage, entry in reversed(graph.items()) for dep in entry["deps"]}
    outs = [one for stage in graph.values() for kind in ("outs", "metrics", "plots") for one in stage.get(kind, ())]
    kept = {path for one in outs if isinstance(one, dict) for path, how in one.items() if how.get("cache") is False}
    cached, refused, unread = 0, 0, []
    for number, (path, (_, md5)) in enumerate(sorted(lockfile.outputs(repo).items())):
        cache = repo / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        if not cache.is_file() or path in kept:
            continue  # a folder, or Git keeps it
        cached += 1
        content = cache.read_bytes()
        flip_a_bit(cache, seed=number)
        (repo / path).unlink()
        scratch.dvc("checkout", path, folder=repo, capture_output=True)
        assert lockfile.file_md5(repo / path) != md5, "DVC now notices the damage: docs/reliability.md says it does not"
        if path in readers:
            before = processes.snapshot(repo)
            outcome = run(repo, f"pipeline.{readers[path]}")
            assert outcome.code == 1 and f"{path} does not match dvc.lock" in outcome.error()
            assert processes.snapshot(repo) == before
            refused += 1
        else:
            unread.append(path)
        cache.write_bytes(content)
        (repo / path).write_bytes(content)
    path = "models/exported/mobilenet.float32.tflite"  # as the message advises
    stage, md5 = lockfile.outputs(repo)[path]
    cache = repo / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    flip_a_bit(cache, seed=1)
    flip_a_bit(repo / path, seed=2)
    cache.unlink()
    scratch.dvc("repro", "--force", "--single-item", stage, folder=repo, capture_output=True)
    lockfile.check(repo / path, repo)
    assert lockfile.file_md5(cache) == md5 == lockfile.outputs(repo)[path][1]
    assert refused and all(path.endswith((".onnx", ".csv")) for path in unread), unread
    seen(
        f"{refused} of {cached} outputs refused by the next stage, exit code 1, nothing changed; no stage reads the"
        f" other {len(unread)}; the advice restored the file"
    )


def nan_in(content: bytes) -> bytes:
    """The model of litert_models with NaN in place of a weight."""
    weight = struct.pack("<f", litert_models.SLOPE)
    assert content.count(weight) == 3
    return content.replace(weight, struct.pack("<f", float("nan")), 1)


@pytest.mark.full
@pytest.mark.fault(9, "NaN in an exported model", "an error in one line, never a class")
def test_nan_in_an_exported_model_is_an_error_and_never_a_class(here: Path, tmp_path_factory, seen) -> None:
    folder = tmp_path_factory.mktemp("model")
    litert_models.write(folder, 128, ("cnn",))
    content = nan_in(litert.path_of("cnn", folder=folder).read_bytes())
    litert.path_of("mobilenet", folder=here / litert.MODELS).write_bytes(content)
    lock(here)  # as if the training had gone wrong, so that the digest is right
    for command in COMMANDS:
        outcome = run(here, *command)
        assert (outcome.code, outcome.stdout) == (1, "")
        assert "mobilenet.float32.tflite is damaged (a probability is not a number" in outcome.error()
    seen("predict, live: exit code 1, “… is damaged (a probability is not a number from 0 to 1): …”")


@pytest.mark.full
@pytest.mark.fault(
    9, "NaN, infinity or nothing as validation accuracy, in the metrics file or in a version's tag",
    "the model never becomes champion; one line says why",
)  # fmt: skip
def test_nan_never_opens_the_registrys_gate(tmp_path: Path, exported, migrated, seen) -> None:  # noqa: F811
    from mlflow import MlflowClient

    from pipeline.registry import champion, model_registry

    repo = registry_workspace(tmp_path / "repo", exported)
    shutil.copy(migrated, repo / "mlflow.db")
    for text in ("NaN", "Infinity", "1e999", "null", '"0.99"', "7"):
        (repo / "metrics/mobilenet.json").write_text(f'{{"val": {{"accuracy": {text}}}}}')
        outcome = run(repo, "pipeline.register")
        assert outcome.code == 1 and "metrics/mobilenet.json is damaged" in outcome.error()
    client = MlflowClient(f"sqlite:///{repo / 'mlflow.db'}")
    assert not client.search_registered_models()
    (repo / "metrics/mobilenet.json").write_text(json.dumps({"val": {"accuracy": 0.99}}))
    assert run(repo, "pipeline.register").code == 0
    for tag in ("nan", "inf", "NaN%", "", "7"):
        client.set_model_version_tag("face-mask", "2", "val.accuracy", tag)
        tagged = model_registry.as_version(client.get_model_version("face-mask", "2"))
        assert champion.choose([tagged], None, min_val_accuracy=0.0, margin=0.0)[0] is None
    seen("register: exit code 1, “metrics/mobilenet.json is damaged (…)”, no version added; 5 tags: no champion")


def artifact(repo: Path) -> Path:
    """The LiteRT file of the champion, mobilenet, in MLflow's store."""
    (path,) = (repo / "mlartifacts").rglob("mobilenet.float32.tflite")
    return path


@pytest.mark.full
@pytest.mark.fault(
    25, "the registered model's file damaged, replaced or deleted",
    "the model server does not start with it; one that runs goes on with the file it has loaded",
)  # fmt: skip
def test_a_registered_model_that_changes_is_not_served(tmp_path: Path, exported, migrated, seen) -> None:  # noqa: F811
    repo = registry_workspace(tmp_path / "repo", exported)
    shutil.copy(migrated, repo / "mlflow.db")
    assert run(repo, "pipeline.register").code == 0
    path = artifact(repo)
    content = path.read_bytes()
    variables = environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{repo / 'mlflow.db'}"}

    command = [sys.executable, "-c", LOAD, "wait"]
    with subprocess.Popen(
        command, cwd=repo, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as loaded:
        try:
            deadline = time.monotonic() + 120
            while not (repo / "loaded").exists():
                assert loaded.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            path.write_bytes(b"not a model")  # in place
            path.unlink()
            answer = loaded.communicate("\n", timeout=120)[0]
        except BaseException:
            loaded.kill()
            raise
    path.write_bytes(content)
    before = processes.run(["-c", LOAD], cwd=repo, env=variables)
    assert before.code == 0 and before.stdout == answer

    flip_a_bit(path, seed=25)
    damaged = processes.run(["-c", LOAD], cwd=repo, env=variables)
    assert damaged.code != 0 and damaged.stdout == ""
    assert "mobilenet.float32.tflite is damaged (its SHA-256 is not" in damaged.stderr.splitlines()[-1]
    server = run(repo, "tools.serve", "--port", "0", seconds=240)
    assert server.code == 1 and "is damaged (its SHA-256 is not" in server.error()
    seen(
        f"loaded before: the same answer; after: “… is damaged (its SHA-256 is not …)”; `make serve`: exit code"
        f" {server.code} in one line"
    )


def test_the_image_of_these_tests_has_a_face(here: Path) -> None:
    with Image.open(here / "a.png") as image:
        assert image.size == (208, 208)
    outcome = run(here, "face_mask.predict", "a.png")
    assert outcome.code == 0 and "a.png" in outcome.stdout and "_mask" in outcome.stdout
