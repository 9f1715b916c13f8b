"""The whole graph by real DVC and MLflow in a scratch repository, on small drawn pictures."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from pipeline.data import packing
from tools import scratch

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
    "xai.pictures": 8,
    "xai.max_steps": 8,
    "xai.faithfulness_steps": 4,
    "xai.randomization_pictures": 2,
    "audit.folds": 3,
    "audit.shown": 5,
    "export.calibration_pictures": 8,
    "clip.pictures": 2,
    "clip.seconds": 0.4,
    "clip.fps": 5,
}
TRAINING = ["download", "split", "pretrained", "features", "train_cnn", "train_mobilenet"]
JUDGING = ["evaluate", "unseen_eval", "xai", "export", "end_to_end", "replay", "report", "register"]  # by the models
STAGES = [*TRAINING, *JUDGING, "unseen_download", "unseen_faces", "audit", "clip"]
KINDS = ("", "unseen_", "xai_", "end_to_end_", "replay_")
METRICS = {f"metrics/{kind}{model}.json" for kind in KINDS for model in ("cnn", "mobilenet")}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def dvc(folder: Path, *arguments: str) -> str:
    """DVC's output; on failure its messages are in the test's report."""
    try:
        return scratch.dvc(*arguments, folder=folder, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error}\n{error.stdout}\n{error.stderr}")


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
    assert sorted(stages_run(dvc(folder, "repro"))) == sorted(STAGES)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "results")
    return folder


def rows(repo: Path) -> dict[tuple[str, str], Run]:
    """MLflow's active model rows: (experiment, model) → run."""
    client = MlflowClient(f"sqlite:///{repo / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("face-mask")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.kind = 'model'")
    by_name = {(run.data.tags["dvc.experiment"], run.data.tags["model"]): run for run in found}
    assert len(by_name) == len(found), "more than one row a model"
    return by_name


def only_experiment(repo: Path) -> str:
    """The name of the first experiment, that of the workspace."""
    return next(name for name, _ in rows(repo) if name.startswith("workspace-"))


def test_git_holds_what_it_should_and_nothing_else(repo):
    assert git(repo, "status", "--porcelain") == ""
    tracked = set(git(repo, "ls-files").split())
    assert {"dvc.lock", "metrics/cnn.json", "metrics/split.json", "plots/roc_cnn.csv", "plots/audit.png"} <= tracked
    assert {"report/report.html", "report/report.md", "report/figures/curves.svg", "data/exclude.txt"} <= tracked
    assert not [path for path in tracked if path.endswith((".zip", ".npy", ".h5", ".db"))]


def test_the_arrays_hold_every_picture_once_and_the_manifest_says_which(repo):
    images = packing.open_images(repo / packing.IMAGES_PATH)
    manifest = packing.read_manifest(repo / packing.MANIFEST_PATH)
    assert images.shape == (120, 32, 32, 3) and images.dtype == np.uint8
    assert packing.open_array(repo / packing.FEATURES_PATH, "features").shape == (120, 1280)
    assert sorted(manifest["row"]) == list(range(120))
    assert manifest["split"].value_counts().to_dict() == {"train": 72, "val": 24, "test": 24}
    assert len(manifest["content_hash"].unique()) == 120


def test_the_metric_files_have_the_fixed_keys_and_follow_from_the_predictions(repo):
    shares = ["accuracy", "accuracy_low", "accuracy_high", "roc_auc", "average_precision", "brier", "ece"]
    by_class = [f"{one}_{label}" for one in ("precision", "recall", "f1") for label in packing.LABELS]
    wanted = {"n", *shares, *by_class, "false_positives", "false_negatives"}
    with (repo / "data/predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    test = [row for row in predictions if row["split"] == "test"]
    for name in ("cnn", "mobilenet"):
        found = json.loads((repo / "metrics" / f"{name}.json").read_text())
        assert wanted <= set(found["test"])
        right = [(float(row[name]) >= 0.5) == (row["label"] == "with_mask") for row in test]
        assert found["test"]["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-6)
        assert found["overfit_gap"] == pytest.approx(found["train"]["accuracy"] - found["test"]["accuracy"], abs=2e-6)
    table = dvc(repo, "metrics", "show", "--json")
    assert set(json.loads(table)[""]["data"]) == METRICS


def test_the_unseen_metrics_have_the_fixed_keys_and_follow_from_the_predictions(repo):
    ends = ("n", "n_with_mask", "n_without_mask", "accuracy", "accuracy_low", "accuracy_high",
            "balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high",
            "recall_with_mask", "recall_without_mask", "roc_auc", "roc_auc_low", "roc_auc_high",
            "mean_confidence_with_mask", "mean_confidence_with_mask_low", "mean_confidence_with_mask_high",
            "mean_confidence_without_mask", "mean_confidence_without_mask_low", "mean_confidence_without_mask_high",
            "n_incorrect", "incorrect_called_mask", "by_size")  # fmt: skip
    with (repo / "data/unseen/predictions.csv").open() as file:
        faces = list(csv.DictReader(file))
    judged = [face for face in faces if face["label"] != "incorrect"]
    counted = json.loads((repo / "metrics/unseen_faces.json").read_text())
    assert counted["used"]["with_mask"] + counted["used"]["without_mask"] == len(judged) > 10
    for name in ("cnn", "mobilenet"):
        found = json.loads((repo / "metrics" / f"unseen_{name}.json").read_text())
        assert tuple(found) == ends
        right = [(float(face[name]) >= 0.5) == (face["label"] == "with_mask") for face in judged]
        assert (found["n"], found["accuracy"]) == (len(right), pytest.approx(sum(right) / len(right), abs=1e-6))
        assert rows(repo)[only_experiment(repo), name].data.metrics["unseen.accuracy"] == found["accuracy"]


def test_other_unseen_pictures_run_no_training(repo):
    status = {"unseen.source": "folder", "unseen.path": "somewhere", "unseen.margin": 0.5, "unseen.min_face": 20}
    try:
        scratch.set_params(repo, status)
        stale = json.loads(dvc(repo, "status", "--json"))
        # … and unseen_eval and clip, once what they read differs.
        assert set(stale) == {"unseen_download", "unseen_faces", "end_to_end", "replay", "register", "report"}
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


def test_the_audit_names_the_labels_that_it_counts_and_shows_the_worst(repo):
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
    top = yaml.safe_load((repo / "dvc.yaml").read_text())["plots"]
    for entry in top:
        (title,) = entry
        (figure,) = plots["data"][title]
        content = figure["content"] if isinstance(figure["content"], dict) else json.loads(figure["content"])
        text = json.dumps(content) + json.dumps(figure)
        assert "cnn.csv" in text and "mobilenet.csv" in text, title


def test_nothing_to_do_is_quick_and_changes_nothing(repo):
    started = time.time()
    assert stages_run(dvc(repo, "repro")) == []
    took = time.time() - started
    bare = time.time()
    subprocess.run([sys.executable, "-m", "dvc", "version"], cwd=repo, check=True, capture_output=True)
    # 3 s on an idle machine; against DVC's own start, since these machines are noisy.
    assert took < max(3, 4 * (time.time() - bare))
    assert git(repo, "status", "--porcelain") == ""


def test_the_models_stand_in_mlflow_one_row_each_with_parameters_and_figures(repo):
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


def test_the_models_stand_in_the_registry_once_and_point_to_their_trainings(repo):
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
    assert sorted(stages_run(dvc(repo, "repro", "--force"))) == sorted(STAGES)
    assert (repo / "dvc.lock").read_bytes() == before
    git(repo, "checkout", "-q", "metrics/export.json")  # the one file with times in it, which DVC does not track
    assert git(repo, "status", "--porcelain") == ""
    assert len(rows(repo)) == 2


def test_another_dropout_runs_the_trainings_and_what_follows_and_the_way_back_runs_nothing(repo):
    output = dvc(repo, "exp", "run", "--name", "other-dropout", "-S", "model.dropout=0.1")
    assert sorted(stages_run(output)) == sorted(["train_cnn", "train_mobilenet", *JUDGING])
    found = rows(repo)
    assert len(found) == 4
    assert found["other-dropout", "cnn"].data.params["model.dropout"] == "0.1"
    assert "test.accuracy" in found["other-dropout", "cnn"].data.metrics
    shown = dvc(repo, "exp", "show", "--csv")
    assert "other-dropout" in shown
    changes = json.loads(dvc(repo, "metrics", "diff", "--json"))
    assert {f"metrics/{kind}{model}.json" for kind in KINDS[:3] for model in ("cnn", "mobilenet")} <= set(changes)
    assert set(changes) <= METRICS  # what the small models find in the scenes may be the same
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


def test_a_killed_training_leaves_no_half_written_model(repo, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(repo, folder, ignore=shutil.ignore_patterns(".git", "mlflow.db*", "mlartifacts"))
    for path in (folder / "models").glob("cnn*"):
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
