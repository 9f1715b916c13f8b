"""Faults of the data inside the pipeline: too few images, workers that are killed, inputs that are cut."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import random
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from face_mask import cores, files
from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline import (
    clip,
    counterfactuals,
    decode,
    download,
    draw_hard_cases,
    hard_cases_eval,
    live_eval,
    split,
    unseen_download,
    unseen_faces,
)
from pipeline.dataset import hard_cases, packing, unseen
from pipeline.reporting import inputs
from pipeline.tracking import context
from tests import live_workspace, report_inputs
from tests.faults import processes, workspaces
from tests.test_end_to_end import SMALL
from tests.test_unseen_download import png

Seen = Callable[[str], None]
WORKERS = pytest.mark.skipif(cores.available() < 2, reason="with one core there are no workers")


def with_images(folder: Path, with_mask: int, without_mask: int, *, alike: bool = False, bad: bool = False) -> Path:
    """A workspace whose source is a folder with so many images of each class."""
    workspaces.make(folder, {"data.source": "folder", "data.path": "images", "data.max_bad_fraction": 1.0})
    number = 0
    for label, count in (("with_mask", with_mask), ("without_mask", without_mask)):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(count):
            content = b"not an image" if bad else png(0 if alike else number)
            (folder / "images" / label / f"{i}.png").write_bytes(content)
            number += 1
    return folder


def run_to_split(folder: Path) -> None:
    """Run the stages before the split; features are zeros, since so few images are compared by hash alone."""
    with contextlib.chdir(folder):
        download.main()
        decode.main()
        n = len(np.load(packing.IMAGES_PATH))
        np.save(packing.FEATURES_PATH, np.zeros((6, n, 1280), np.float32))


@pytest.mark.full
@pytest.mark.parametrize(
    ("number_of_images", "options", "words"),
    [
        ((0, 3), {}, "has no images in a folder with_mask/"),
        ((1, 1), {}, "1 images per class are too few"),
        ((2, 2), {}, "2 images per class are too few"),
        ((3, 3), {}, "3 images per class are too few"),
        ((9, 3), {}, "3 images per class are too few"),
        ((12, 12), {"bad": True}, "no image of class without_mask is left"),
        ((12, 12), {"alike": True}, "images without near-duplicates are too few for the test split"),
        ((12, 12), {"excluded": True}, "no image of class without_mask is left"),
    ],
)
@pytest.mark.fault(
    11, "0 to 3 images in a class; all undecodable, all excluded, all alike", "download or split ends in one line"
)
def test_too_few_images(
    tmp_path: Path, seen: Seen, logged: list, number_of_images: tuple[int, int], options: dict[str, bool], words: str
) -> None:
    excluded = options.pop("excluded", False)
    folder = with_images(tmp_path / "w", *number_of_images, **options)
    stage = "split"
    if 0 in number_of_images:
        stage = "download"
    else:
        run_to_split(folder)
    if excluded:
        listed = zipfile.ZipFile(folder / "data/raw/images.zip").namelist()
        (folder / "data/exclude.txt").write_text("\n".join(listed))
    before = processes.snapshot(folder)
    outcome = workspaces.stage(folder, stage)
    assert outcome.code == 1 and words in outcome.error()
    assert processes.snapshot(folder) == before
    seen(f"{stage}, {' and '.join(map(str, number_of_images))}: exit code 1, “{words}”")


def many_images(folder: Path, count: int) -> Path:
    """A workspace with an archive of images that take the workers some seconds to decode."""
    workspaces.make(folder, {})
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    Image.fromarray(noise).resize((1000, 700)).save(buffer, "JPEG")
    (folder / "data/raw").mkdir()
    with zipfile.ZipFile(folder / "data/raw/images.zip", "w") as zf:
        for i in range(count):
            zf.writestr(f"{('with_mask', 'without_mask')[i % 2]}/{i}.jpg", buffer.getvalue())
    return folder


def workers_of(process: subprocess.Popen, folder: Path) -> list[psutil.Process]:
    """Wait until the decoded images of one chunk are written; the worker processes then."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(path.stat().st_size > 1000 for path in (folder / "data/split").glob(".*.images.npy")):
            children = psutil.Process(process.pid).children()
            return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(0.01)
    raise AssertionError("nothing was decoded")


@WORKERS
@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.fault(
    12, "`kill -9` of a decode worker at a random moment", "one line with the cause; no other worker lives on"
)
def test_a_killed_worker(tmp_path: Path, seen: Seen, seed: int) -> None:
    folder = many_images(tmp_path / "w", 6000)
    (folder / "data/split").mkdir()
    for path in (packing.IMAGES_PATH, packing.DECODED_PATH):
        (folder / path).write_bytes(b"of the last run")
    before = processes.snapshot(folder)
    workers: list[psutil.Process] = []

    def kill_one(process: subprocess.Popen) -> None:
        workers.extend(workers_of(process, folder))
        chance = random.Random(seed)
        time.sleep(chance.uniform(0, 0.5))
        chance.choice(workers).kill()

    outcome = workspaces.stage(folder, "decode", meanwhile=kill_one)
    assert outcome.code == 1
    assert "a worker process was killed, most likely because the memory ran out: run again" in outcome.error()
    assert len(workers) > 1 and not any(worker.is_running() for worker in workers)
    assert processes.snapshot(folder) == before
    seen("exit code 1, “a worker process was killed, most likely because the memory ran out”")


@WORKERS
@pytest.mark.full
@pytest.mark.fault(12, "`kill -9` of the stage itself while workers decode", "the workers end too")
def test_workers_end_with_their_parent(tmp_path: Path, seen: Seen) -> None:
    folder = many_images(tmp_path / "w", 6000)
    workers: list[psutil.Process] = []

    def kill_parent(process: subprocess.Popen) -> None:
        workers.extend(workers_of(process, folder))
        os.kill(process.pid, signal.SIGKILL)

    outcome = workspaces.stage(folder, "decode", meanwhile=kill_parent)
    assert outcome.code == -signal.SIGKILL and len(workers) > 1
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    seen(f"{len(workers)} workers ended by themselves")


# What each stage reads of earlier stages and parses itself; weights and exported models are in test_model_files.py.
IMAGES, MANIFEST, FEATURES = packing.IMAGES_PATH, packing.MANIFEST_PATH, packing.FEATURES_PATH
COPIES = packing.COUNTERFACTUALS_PATH.with_name("manifest.csv")
READ_BY: dict[str, list[Path]] = {
    "decode": [decode.ARCHIVE],
    "features": [IMAGES],
    "split": [packing.DECODED_PATH, FEATURES],
    "audit": [IMAGES, MANIFEST, FEATURES],
    "counterfactuals": [IMAGES, MANIFEST],
    "train_cnn": [IMAGES, MANIFEST, packing.COUNTERFACTUALS_PATH, COPIES],
    "train_mobilenet": [IMAGES, MANIFEST, FEATURES, packing.COUNTERFACTUALS_PATH, COPIES],
    "predict": [IMAGES, MANIFEST],
    "export": [IMAGES, MANIFEST],
    "evaluate": [packing.PREDICTIONS_PATH, Path("models/history_cnn.csv"), Path("models/history_mobilenet.csv")],
    "unseen_faces": [unseen.ARCHIVE, unseen.PROVENANCE, MANIFEST],
    "unseen_eval": [unseen.IMAGES_PATH, unseen.MANIFEST_PATH],
    "draw_hard_cases": [IMAGES, MANIFEST, unseen.IMAGES_PATH, unseen.MANIFEST_PATH],
    "hard_cases_eval": [
        hard_cases.IMAGES_PATH,
        hard_cases.MANIFEST_PATH,
        hard_cases.FACES_PATH,
        packing.PREDICTIONS_PATH,
    ],
    "end_to_end": [unseen.ARCHIVE, unseen.MANIFEST_PATH],
    "clip": [unseen.ARCHIVE, unseen.MANIFEST_PATH],
    "live_eval": [live_eval.CLIP, live_eval.TABLE],
    "report": [Path(path) for path in inputs.WRITTEN_BY if Path(path).suffix],
}
# Nothing that their readers have says how many rows they had, so a cut at the end of a line is not seen.
COUNT_UNKNOWN = {Path("models/history_cnn.csv"), Path("models/history_mobilenet.csv"), Path("plots/training.csv")}


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with all inputs of READ_BY: those of the data are real, and those of the report made up."""
    folder = tmp_path_factory.mktemp("complete") / "w"
    workspaces.make(folder, SMALL)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.StageRun, "finish", lambda run: None)
        run_to_split(folder)
        for stage in (split, counterfactuals, unseen_download, unseen_faces, draw_hard_cases, clip):
            stage.main()
        from pipeline.models import imagenet_weights, mobilenet  # they import TensorFlow

        imagenet_weights.write(imagenet_weights.obtain("none"), mobilenet.BACKBONE)
        live_workspace.write_models(folder / "models/exported", 32)
        fabricated = folder.parent / "fabricated"
        report_inputs.fabricate(fabricated)
        for path in READ_BY["report"]:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fabricated / path, path)
        shutil.copytree(fabricated / "plots/xai", "plots/xai")
        used = packing.read_manifest().query("split in ['train', 'val', 'test']")[["path", "label", "split"]]
        files.write_csv(packing.PREDICTIONS_PATH, used.assign(cnn=0.25, mobilenet=0.75))
        others = unseen.read_manifest().query("split == 'unseen'")[["path", "label"]]
        files.write_csv(hard_cases_eval.UNSEEN_PREDICTIONS, others.assign(cnn=0.25, mobilenet=0.75))
        for model in MODELS:
            epochs = pd.DataFrame({"epoch": range(5), "loss": 0.5, "val_loss": 0.5, "val_accuracy": 0.5})
            files.write_csv(f"models/history_{model}.csv", epochs)
    return folder


def cuts(path: Path, seed: int) -> dict[str, bytes]:
    """The content of a file, cut in several places; each cut has a name."""
    content, chance = path.read_bytes(), random.Random(f"{seed}:{path.name}")
    middle = content[: chance.randrange(2, len(content) - 2)].rstrip(b"\n")
    found = {"empty": b"", "one byte": content[:1], "in the middle": middle}
    lines = content.splitlines(keepends=True)
    if len(lines) > 1 and path.suffix in (".csv", ".json") and path not in COUNT_UNKNOWN:
        found |= {"after the first line": lines[0], "after a line": b"".join(lines[: chance.randrange(1, len(lines))])}
    return found


@pytest.mark.full
@pytest.mark.parametrize("stage", READ_BY)
@pytest.mark.fault(8, "each input of a stage cut at byte and line boundaries", "refused in one line; outputs unchanged")
def test_cut_inputs(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list, seen: Seen, stage: str
) -> None:
    shutil.copytree(complete, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    main = importlib.import_module(f"pipeline.{stage}").main
    refused = 0
    for path in READ_BY[stage]:
        whole = path.read_bytes()
        for name, content in cuts(path, seed=1).items():
            path.write_bytes(content)
            before = processes.snapshot(Path())
            with pytest.raises(UserError) as caught:
                main()
                pytest.fail(f"{path} cut {name} is accepted")
            message = str(caught.value)
            assert "\n" not in message.strip() and str(path) in message and "dvc repro" in message, (
                path,
                name,
                message,
            )
            assert processes.snapshot(Path()) == before, (path, name)
            refused += 1
        path.write_bytes(whole)
    assert not logged
    unseen_cuts = ", of training.csv not between lines" if stage == "report" else ""
    unseen_cuts = ", of the histories not between lines" if stage == "evaluate" else unseen_cuts
    seen(f"{stage}: {refused} cuts of {len(READ_BY[stage])} files refused{unseen_cuts}")
