"""The whole graph with real DVC and MLflow in a scratch repository, on small synthetic images."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from face_mask.schema import LABELS
from pipeline.dataset import packing
from tools import preloaded, scratch

SMALL = {
    "image_size": 32,
    "data.source": "synthetic",
    "data.synthetic_per_class": 60,
    "split.train": 0.6,
    "split.val": 0.2,
    "cnn.epochs": 2,
    "mobilenet.pretrained": "none",
    "mobilenet.head_epochs": 1,
    "mobilenet.fine_tune_epochs": 1,
    "unseen.source": "synthetic",
    "unseen.synthetic_scenes": 12,
    "hard_cases.faces": 2,
    "hard_cases.val_faces": 1,
    "xai.images": 8,
    "xai.max_steps": 8,
    "xai.faithfulness_steps": 4,
    "xai.randomization_images": 2,
    "audit.folds": 3,
    "audit.shown": 5,
    "export.calibration_images": 8,
    "clip.faces": 2,
    "clip.seconds": 0.4,
    "clip.fps": 5,
}
TRAINING = ["download", "decode", "split", "pretrained", "features", "counterfactuals", "train_cnn", "train_mobilenet"]
# The stages that depend on the trained models.
USING = ["predict", "evaluate", "unseen_eval", "hard_cases_eval", "xai", "export", "end_to_end", "package",
         "live_eval", "report", "register"]  # fmt: skip
STAGES = [*TRAINING, *USING, "unseen_download", "unseen_faces", "draw_hard_cases", "audit", "clip"]
KINDS = ("", "unseen_", "xai_", "hard_cases_", "end_to_end_", "live_")
METRICS = {f"metrics/{kind}{model}.json" for kind in KINDS for model in ("cnn", "mobilenet")}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def dvc(folder: Path, *arguments: str, **options: Any) -> str:
    """Run DVC and return its output; if it fails, the test fails with its messages."""
    try:
        return scratch.dvc(*arguments, folder=folder, capture_output=True, text=True, **options).stdout
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error}\n{error.stdout}\n{error.stderr}")


def run_stages(folder: Path, *arguments: str) -> str:
    """Run DVC with stages that start at once. Their libraries, and the seed of `hash`, are new for each call."""
    with preloaded.serving(folder, scratch.environment()) as environment:
        return dvc(folder, *arguments, env=environment)


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Path:
    """A Git and DVC repository in which `dvc repro` has run once and its results are committed."""
    folder = tmp_path_factory.mktemp("repository")
    scratch.copy_tree(folder)
    scratch.set_params(folder, SMALL)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "code")
    assert sorted(stages_run(dvc(folder, "repro"))) == sorted(STAGES)  # as a user runs it: each stage a new process
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "results")
    return folder


def rows(repo: Path) -> dict[tuple[str, str], Run]:
    """MLflow's active model runs by (experiment, model)."""
    client = MlflowClient(f"sqlite:///{repo / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("face-mask")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.kind = 'model'")
    by_name = {(run.data.tags["dvc.experiment"], run.data.tags["model"]): run for run in found}
    assert len(by_name) == len(found), "more than one run per model"
    return by_name


def only_experiment(repo: Path) -> str:
    """The name of the workspace's experiment."""
    return next(name for name, _ in rows(repo) if name.startswith("workspace-"))


def test_git_tracks_what_it_should_and_nothing_else(repo):
    assert git(repo, "status", "--porcelain") == ""
    tracked = set(git(repo, "ls-files").split())
    assert {"dvc.lock", "metrics/cnn.json", "metrics/split.json", "plots/roc.csv", "plots/audit.png"} <= tracked
    assert {"report/report.html", "report/report.md", "report/figures/curves.svg", "data/exclude.txt"} <= tracked
    results = [path for path in tracked if not path.startswith("pipeline/")]  # which has the landmarks of a median face
    assert not [path for path in results if path.endswith((".zip", ".npy", ".h5", ".db"))]


def test_the_arrays_contain_every_image_once_as_listed_in_the_manifest(repo):
    images = packing.open_images(repo / packing.IMAGES_PATH)
    manifest = packing.read_manifest(repo / packing.MANIFEST_PATH)
    assert images.shape == (120, 32, 32, 3) and images.dtype == np.uint8
    assert packing.open_array(repo / packing.FEATURES_PATH, "features").shape == (6, 120, 1280)
    assert sorted(manifest["row"]) == list(range(120))
    assert manifest["split"].value_counts().to_dict() == {"train": 72, "val": 24, "test": 24}
    assert len(manifest["content_hash"].unique()) == 120


def test_the_metric_files_have_the_fixed_keys_and_follow_from_the_predictions(repo):
    scalars = ["accuracy", "accuracy_low", "accuracy_high", "roc_auc", "average_precision", "brier", "ece"]
    by_class = [f"{one}_{label}" for one in ("precision", "recall", "f1") for label in LABELS]
    expected = {"n", *scalars, *by_class, "false_positives", "false_negatives"}
    with (repo / "data/predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    test = [row for row in predictions if row["split"] == "test"]
    for name in ("cnn", "mobilenet"):
        found = json.loads((repo / "metrics" / f"{name}.json").read_text())
        assert expected <= set(found["test"])
        correct = [(float(row[name]) >= 0.5) == (row["label"] == "with_mask") for row in test]
        assert found["test"]["accuracy"] == pytest.approx(sum(correct) / len(correct), abs=1e-6)
        assert found["overfit_gap"] == pytest.approx(found["train"]["accuracy"] - found["test"]["accuracy"], abs=2e-6)
    table = dvc(repo, "metrics", "show", "--json")
    assert set(json.loads(table)[""]["data"]) == METRICS


def test_the_unseen_metrics_have_the_fixed_keys_and_follow_from_the_predictions(repo):
    ends = ("n", "n_with_mask", "n_without_mask", "accuracy", "accuracy_low", "accuracy_high",
            "balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high",
            "recall_with_mask", "recall_without_mask", "roc_auc", "roc_auc_low", "roc_auc_high",
            "mean_confidence_with_mask", "mean_confidence_with_mask_low", "mean_confidence_with_mask_high",
            "mean_confidence_without_mask", "mean_confidence_without_mask_low", "mean_confidence_without_mask_high",
            "n_incorrect", "incorrect_called_mask", "by_size", "conformal")  # fmt: skip
    with (repo / "data/unseen/predictions.csv").open() as file:
        faces = list(csv.DictReader(file))
    in_class = [face for face in faces if face["label"] != "incorrect"]
    counted = json.loads((repo / "metrics/unseen_faces.json").read_text())
    assert counted["used"]["with_mask"] + counted["used"]["without_mask"] == len(in_class) > 10
    for name in ("cnn", "mobilenet"):
        found = json.loads((repo / "metrics" / f"unseen_{name}.json").read_text())
        assert tuple(found) == ends
        correct = [(float(face[name]) >= 0.5) == (face["label"] == "with_mask") for face in in_class]
        assert (found["n"], found["accuracy"]) == (len(correct), pytest.approx(sum(correct) / len(correct), abs=1e-6))
        assert rows(repo)[only_experiment(repo), name].data.metrics["unseen.accuracy"] == found["accuracy"]


def test_other_unseen_images_run_no_training(repo):
    status = {"unseen.source": "folder", "unseen.path": "somewhere", "unseen.margin": 0.5, "unseen.min_face": 20}
    try:
        scratch.set_params(repo, status)
        stale = json.loads(dvc(repo, "status", "--json"))
        # … and unseen_eval and clip, once their inputs differ.
        using = {"package", "end_to_end", "live_eval", "register", "report"}
        assert set(stale) == {"unseen_download", "unseen_faces"} | using
    finally:
        git(repo, "checkout", "-q", "params.yaml")


def test_another_threshold_does_not_run_predict(repo):
    try:
        scratch.set_params(repo, {"evaluate.threshold": 0.6})
        stale = set(json.loads(dvc(repo, "status", "--json")))
        assert "evaluate" in stale and not stale & {"predict", "train_cnn", "train_mobilenet"}
    finally:
        git(repo, "checkout", "-q", "params.yaml")


def test_explanations_add_up_to_fixed_keys_a_table_and_panels(repo):
    wanted = ["n", "completeness_error_max", "completeness_error_median", "face_gain", "lower_face_gain"]
    wanted += ["insertion_auc", "deletion_auc", "randomization_spearman"]
    with (repo / "data/xai.csv").open() as file:
        table = list(csv.DictReader(file))
    for name in ("cnn", "mobilenet"):
        found = json.loads((repo / "metrics" / f"xai_{name}.json").read_text())
        assert set(wanted) <= set(found)
        areas = [float(row["deletion_auc"]) for row in table if row["model"] == name]
        assert found["n"] == len(areas) > 0
        assert found["deletion_auc"] == pytest.approx(sum(areas) / len(areas), abs=1e-5)
        (run,) = [run for (_, model), run in rows(repo).items() if model == name]
        assert run.data.metrics["xai.deletion_auc"] == found["deletion_auc"]
    drawn = sorted(path.name for path in (repo / "plots/xai").iterdir())
    assert drawn and all(name.startswith(("test_with", "unseen_with")) and name.endswith(".png") for name in drawn)


def test_the_audit_lists_the_labels_that_it_counts_and_shows_the_least_probable(repo):
    with (repo / "data/audit/label_issues.csv").open() as file:
        reader = csv.DictReader(file)
        issues = list(reader)
    assert reader.fieldnames == ["path", "label", "suggested", "probability", "split", "rank"]
    found = json.loads((repo / "metrics/audit.json").read_text())
    assert found["n"] == 120 and found["n_suspected"] == len(issues) == sum(found["by_split"].values())
    with Image.open(repo / "plots/audit.png") as sheet:
        assert sheet.width == 5 * 154 + 10


def test_every_plot_draws_both_models_in_one_figure(repo):
    plots = json.loads(dvc(repo, "plots", "show", "--json"))
    assert not plots.get("errors")
    stages = yaml.safe_load((repo / "dvc.yaml").read_text())["stages"]
    entries = [entry for stage in stages.values() for entry in stage.get("plots", ())]
    curves = [next(iter(entry)) for entry in entries if next(iter(entry)).endswith(".csv")]
    assert len(curves) >= 7
    for path in curves:
        (figure,) = plots["data"][path]
        content = figure["content"] if isinstance(figure["content"], dict) else json.loads(figure["content"])
        text = json.dumps(content) + json.dumps(figure)
        assert '"CNN"' in text and '"MobileNetV2"' in text, path


def test_nothing_to_do_is_quick_and_changes_nothing(repo):
    took, baseline = [], []
    for _ in range(3):  # these machines are noisy
        started = time.time()
        assert stages_run(dvc(repo, "repro")) == []
        took.append(time.time() - started)
        started = time.time()
        subprocess.run([sys.executable, "-m", "dvc", "version"], cwd=repo, check=True, capture_output=True)
        baseline.append(time.time() - started)
        if min(took) < max(3, 4 * min(baseline)):  # 3 s on an idle machine; else relative to DVC's own start
            break
    else:
        pytest.fail(f"{took} against {baseline}")
    assert git(repo, "status", "--porcelain") == ""


def test_mlflow_has_one_run_per_model_with_parameters_and_metrics(repo):
    found = rows(repo)
    assert sorted(model for _, model in found) == ["cnn", "mobilenet"]
    for (_, model), run in found.items():
        metrics = json.loads((repo / "metrics" / f"{model}.json").read_text())
        logged = run.data.metrics
        assert logged["test.accuracy"] == metrics["test"]["accuracy"]
        assert logged["train.accuracy"] == metrics["train"]["accuracy"]
        assert logged["val.accuracy"] == metrics["val"]["accuracy"]
        assert run.data.params["model.dropout"] == str(
            yaml.safe_load(Path("params.yaml").read_text())["model"]["dropout"]
        )
        digest = hashlib.sha256((repo / "models" / f"{model}.weights.h5").read_bytes()).hexdigest()
        assert run.data.tags["model.digest"] == digest
        assert {"seconds", "peak_memory_mb", "epoch.val_accuracy"} <= set(logged)


def test_the_registry_has_each_model_once_with_its_training_run(repo):
    client = MlflowClient(f"sqlite:///{repo / 'mlflow.db'}")
    found = client.search_model_versions("name = 'face-mask'")
    runs = {model: run for (_, model), run in rows(repo).items()}
    assert sorted(version.tags["model"] for version in found) == ["cnn", "mobilenet"]
    for version in found:
        run = runs[version.tags["model"]]
        assert version.run_id == run.info.run_id
        assert version.tags["model.digest"] == run.data.tags["model.digest"]
        assert float(version.tags["val.accuracy"]) == run.data.metrics["val.accuracy"]


def test_a_second_run_gives_the_same_lock_byte_for_byte(repo):
    before = (repo / "dvc.lock").read_bytes()
    assert sorted(stages_run(run_stages(repo, "repro", "--force"))) == sorted(STAGES)
    assert (repo / "dvc.lock").read_bytes() == before
    git(repo, "checkout", "-q", "metrics/export.json")  # the only file with durations, which DVC does not track
    assert git(repo, "status", "--porcelain") == ""
    assert len(rows(repo)) == 2


def test_another_dropout_runs_the_trainings_and_what_follows_and_the_way_back_runs_nothing(repo):
    output = run_stages(repo, "exp", "run", "--name", "other-dropout", "-S", "model.dropout=0.1")
    assert sorted(stages_run(output)) == sorted(["train_cnn", "train_mobilenet", *USING])
    found = rows(repo)
    assert len(found) == 4
    assert found["other-dropout", "cnn"].data.params["model.dropout"] == "0.1"
    assert "test.accuracy" in found["other-dropout", "cnn"].data.metrics
    shown = dvc(repo, "exp", "show", "--csv")
    assert "other-dropout" in shown
    changes = json.loads(dvc(repo, "metrics", "diff", "--json"))
    assert {f"metrics/{kind}{model}.json" for kind in KINDS[:3] for model in ("cnn", "mobilenet")} <= set(changes)
    assert set(changes) <= METRICS  # the detection metrics of such small models may be equal
    assert all(change["old"] != change["new"] for change in changes["metrics/cnn.json"].values())

    git(repo, "checkout", "-q", ".")
    output = dvc(repo, "repro")
    assert stages_run(output) == []
    assert git(repo, "status", "--porcelain") == ""


def test_a_changed_module_or_parameter_makes_the_lock_check_fail(repo, tmp_path):
    def check(folder: Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "tools.check_lock"]
        return subprocess.run(command, cwd=folder, env=scratch.environment(), capture_output=True, text=True)

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    assert check(clone).returncode == 0, check(clone).stderr  # a clone has neither data nor cache
    module = clone / "pipeline/models/cnn.py"
    code = module.read_text()
    module.write_text(code + "\n# changed\n")
    done = check(clone)
    assert done.returncode == 1 and "pipeline/models/cnn.py is modified" in done.stderr
    module.write_text(code)
    params = clone / "params.yaml"
    params.write_text(re.sub(r"dropout: [\d.]+", "dropout: 0.77", params.read_text()))
    done = check(clone)
    assert done.returncode == 1 and "model.dropout is modified" in done.stderr


# What replaces the modules that tools/graph.py exempts from the dependencies.
NO_TRACKING = """
from contextlib import contextmanager
class Nothing:
    def __getattr__(self, name):
        return lambda *args, **kwargs: None
@contextmanager
def stage(name):
    yield Nothing()
check = Nothing().check
"""
NO_RESUME = """
class Checkpoint:
    epochs, progress, best_weights, digest = 0, {}, [], ""
    def __init__(self, name, also=()): pass
    def save(self, *args): pass
    def clear(self): pass
"""
NO_CLUSTER = """
from contextlib import contextmanager
@contextmanager
def ordered_map(function, items, locally):
    yield locally()
"""
NO_QUIET = """
from contextlib import nullcontext as stderr_closed
def install(): pass
"""
NO_ERRORS = """
import errno
RECOVERABLE = NO_SPACE = (errno.ENOSPC,)
class UserError(Exception): pass
def run(main): main()
def printable(text): return text
"""


def test_modules_that_no_stage_lists_as_dependencies_cannot_change_an_output(repo, tmp_path):
    folder = tmp_path / "bare"
    ignored = shutil.ignore_patterns(".git", "cache", "tmp", "mlflow.db*", "mlartifacts", "__pycache__")
    shutil.copytree(repo, folder, ignore=ignored)
    shutil.rmtree(folder / "pipeline/tracking")
    for path, code in (
        ("pipeline/tracking.py", NO_TRACKING),
        ("pipeline/training/resume.py", NO_RESUME),
        ("pipeline/core/cluster.py", NO_CLUSTER),
        ("pipeline/core/quiet.py", NO_QUIET),
        ("face_mask/quiet.py", NO_QUIET),
        ("face_mask/errors.py", NO_ERRORS),
    ):
        (folder / path).write_text(code)
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    written = {path for stage in stages.values() for path in outputs(stage)}
    expected = {path: digest(folder / path) for path in written}
    for path in written:
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    preparing = ["download", "decode", "pretrained", "features", "split", "unseen_download", "unseen_faces"]
    using = [stage for stage in USING if stage not in ("report", "register")]  # register writes to MLflow alone
    training = ["audit", "counterfactuals", "train_cnn", "train_mobilenet"]
    order = [*preparing, *training, "draw_hard_cases", "clip", *using, "report"]
    assert sorted([*order, "register"]) == sorted(STAGES)
    program = (
        "import importlib, keras, sys\n"
        "for name in sys.argv[1:]: keras.utils.clear_session(); importlib.import_module(f'pipeline.{name}').main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *order], cwd=folder, env=scratch.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path: digest(folder / path) for path in written} == expected


def outputs(stage: dict) -> list[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, ())]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def digest(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return {one.relative_to(path).as_posix(): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


def test_a_killed_training_leaves_no_half_written_model(repo, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(repo, folder, ignore=shutil.ignore_patterns(".git", "mlflow.db*", "mlartifacts"))
    for path in (folder / "models").glob("*cnn*"):
        path.unlink()
    scratch.set_params(folder, {"cnn.epochs": 500, "cnn.patience": 500})
    command = [sys.executable, "-u", "-m", "pipeline.train_cnn"]
    process = subprocess.Popen(command, cwd=folder, env=scratch.environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 2/" in line:
            break
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert [path.name for path in (folder / "models").iterdir() if "cnn" in path.name] == []


@pytest.fixture(params=["folder", "s3"])
def remote(request, tmp_path, monkeypatch) -> Iterator[list[list[str]]]:
    """The commands of docs/remote.md that add a remote: a folder, or a bucket of rclone's S3 server on this machine."""
    storage = tmp_path / "storage"
    if request.param == "folder":
        yield [["remote", "add", "--default", "storage", str(storage)]]
        return
    pytest.importorskip("dvc_s3", reason="needs dvc-s3")
    rclone = shutil.which("rclone", path=scratch.environment()["PATH"])
    if rclone is None:
        pytest.skip("needs rclone")
    (storage / "face-mask").mkdir(parents=True)  # a bucket
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [rclone, "serve", "s3", "--auth-key", "key,secret", "--addr", address, str(storage)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        next(line for line in server.stderr if "Starting s3 server" in line)
        yield [
            ["remote", "add", "--default", "storage", "s3://face-mask/dvc"],
            ["remote", "modify", "storage", "endpointurl", f"http://{address}"],
        ]
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_a_clone_gets_models_and_data_from_a_remote(repo, remote, tmp_path):
    """As in docs/remote.md: push, then in a clone that has no cache get, artifacts get, and pull."""
    author, clone = tmp_path / "author", tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(author))
    (author / ".dvc/config.local").write_text(f"[cache]\n    dir = {repo / '.dvc/cache'}\n")
    for command in remote:
        dvc(author, *command)
    git(author, "commit", "-qam", "remote")
    for name in ("mobilenet", "face-mask"):
        git(author, "tag", "--annotate", f"{name}@v1.0.0", "--message", "first version")
    dvc(author, "push")
    git(tmp_path, "clone", "-q", str(author), str(clone))
    assert not (clone / ".dvc/cache").exists() and not list(clone.glob("models/exported/*.tflite"))

    exported, packaged = "models/exported/mobilenet.float32.tflite", "face_mask/model/model.tflite"
    dvc(tmp_path, "get", str(clone), exported, "--out", "by_path.tflite")
    dvc(tmp_path, "artifacts", "get", str(clone), "mobilenet", "--out", "by_name.tflite")
    dvc(tmp_path, "artifacts", "get", str(clone), "face-mask", "--out", "packaged.tflite")
    assert digest(tmp_path / "by_path.tflite") == digest(tmp_path / "by_name.tflite") == digest(repo / exported)
    assert digest(tmp_path / "packaged.tflite") == digest(repo / packaged)

    dvc(clone, "pull")
    stages = yaml.safe_load((repo / "dvc.yaml").read_text())["stages"]
    written = {path for stage in stages.values() for path in outputs(stage)}
    assert {path: digest(clone / path) for path in written} == {path: digest(repo / path) for path in written}
    assert stages_run(dvc(clone, "repro")) == []
    assert git(clone, "status", "--porcelain") == ""
