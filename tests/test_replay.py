"""The clip is what its docstring describes, and its replay counts what it shows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from face_mask import litert, replay, video
from face_mask.classifier import FaceClassifier
from face_mask.session import Session
from face_mask.tracker import Face
from pipeline import clip, live_eval
from pipeline.core import params
from pipeline.dataset import unseen
from pipeline.synthetic import panning, scenes
from pipeline.synthetic.faces import draw_image
from tests import litert_models


@given(st.data())
def test_a_view_keeps_the_aspect_ratio_and_stays_in_the_image(data):
    width, height = (data.draw(st.integers(60, 900)) for _ in range(2))
    left, top = (data.draw(st.floats(0, side - 21)) for side in (width, height))
    right = data.draw(st.floats(left + 20, width))
    bottom = data.draw(st.floats(top + 20, height))
    x0, y0, x1, y1 = panning.view((left, top, right, bottom), data.draw(st.floats(0, 1)), (width, height), (640, 480))
    assert (x1 - x0) / (y1 - y0) == pytest.approx(4 / 3)
    assert -1e-6 <= x0 < x1 <= width + 1e-6 and -1e-6 <= y0 < y1 <= height + 1e-6


def test_a_face_in_a_large_image_grows_and_its_box_is_exact():
    image = Image.new("RGB", (2000, 2000), "black")
    image.paste("white", (1000, 900, 1040, 960))
    heights = []
    for progress in (0.0, 0.4, 1.0):
        view = panning.view((1000, 900, 1040, 960), progress, image.size, (640, 480))
        frame = panning.render(image, view, (640, 480))
        rows, columns = np.nonzero(frame[..., 0] > 127)
        box = panning.to_frame((1000, 900, 1040, 960), view, (640, 480))
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx(box, abs=1.5)
        heights.append((box[3] - box[1]) / 480)
    assert heights[0] == pytest.approx(panning.FAR) and heights[2] == pytest.approx(panning.NEAR)


def test_classes_alternate_and_the_same_seed_draws_the_same():
    labels = ["a"] * 7 + ["b"] * 3 + ["c"]
    chosen = panning.alternate(labels, ("b", "a"), 20, 1)
    assert [labels[i] for i in chosen] == ["b", "a"] * 3 and len(set(chosen)) == 6
    assert panning.alternate(labels, ("b", "a"), 3, 1) == chosen[:3]
    assert sorted(panning.alternate(labels, ("b", "missing"), 4, 1)) == [7, 8, 9]
    assert panning.alternate(labels, ("missing",), 4, 1) == []


def face(label: str, box: tuple, detected: bool = True) -> Face:
    return Face(1, box, 1.0, 0.5, 0.5, label, 0.0, detected)


def test_the_annotated_face_is_compared_with_the_tracked_one_of_the_largest_overlap():
    accuracy = replay.FrameAccuracy(iou_threshold=0.4)
    here, near, elsewhere = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (50.0, 50.0, 60.0, 60.0)
    accuracy.add([face("with_mask", here), face("without_mask", near)], "with_mask", here)
    accuracy.add([face("with_mask", elsewhere), face("without_mask", near)], "with_mask", here)
    accuracy.add([face("unsure", here)], "without_mask", here)
    accuracy.add([face("without_mask", here, detected=False)], "without_mask", here)
    accuracy.add([], "without_mask", here)
    assert accuracy.summary() == {
        "face_detected": 3 / 5, "face_correct": 1 / 5, "face_incorrect": 1 / 5, "face_unsure": 1 / 5
    }  # fmt: skip
    assert set(replay.FrameAccuracy(0.4).summary().values()) == {None}


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """A video of one second: a drawn scene of several people, black before and after."""
    path = tmp_path_factory.mktemp("video") / "scene.mp4"
    with video.writer(path) as append:
        for i in range(12):
            number = 1 if 3 <= i < 9 else None
            encoded = scenes.draw(number, 0)[0] if number else None
            append(np.zeros((336, 504, 3), np.uint8) if encoded is None else decoded(encoded), i / 12)
    return path


def decoded(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with small models: brighter means with_mask."""
    folder = tmp_path_factory.mktemp("models")
    litert_models.write(folder, params.load().image_size)
    return folder


def test_a_replay_counts_the_faces_of_the_video(scene, models):
    p = params.load()
    session = Session(p.live, p.evaluate.threshold)
    path = litert.path_of("cnn", folder=models)
    cnn = FaceClassifier.load(path, name="cnn", size=p.image_size, margin=p.unseen.margin, threshold=0.5)
    frames = replay.replay_video(scene, [cnn], {"cnn": session}, p.live.detector_side)
    faces = [sum(face.detected for face in tracked["cnn"]) for tracked in frames]
    summary = session.summary()
    assert len(faces) == summary["frames"] == 12
    assert faces[:3] == faces[9:] == [0, 0, 0] and min(faces[3:9]) >= 1
    assert summary["frames_without_face"] == 6 and summary["faces"] == sum(faces)
    assert summary["distinct_faces"] == max(faces)
    assert summary["latency_ms_p50"]


def test_the_command_prints_the_summary_and_names_what_is_wrong(scene, models, tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "face_mask.replay", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    good = run(scene, "--model", "cnn", "--models", models)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["frames"] == 12
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    for wrong, message in (
        ([tmp_path / "missing.mp4"], "missing.mp4 is not a file"),
        ([tmp_path / "broken.mp4", "--model", "cnn", "--models", models], "broken.mp4 cannot be read"),
        ([scene, "--models", tmp_path], "run `dvc repro export`"),
    ):
        bad = run(*wrong)
        assert bad.returncode == 1 and message in bad.stderr and len(bad.stderr.splitlines()) == 1


def test_the_clip_shows_large_faces_of_both_classes_at_most_one_per_image():
    rows = [
        ("a.jpg#1", "with_mask", unseen.UNSEEN, 60.0),
        ("a.jpg#2", "without_mask", unseen.UNSEEN, 60.0),
        ("b.jpg#1", "without_mask", unseen.UNSEEN, 47.0),
        ("c.jpg#1", "without_mask", unseen.UNSEEN, 50.0),
        ("d.jpg#1", "without_mask", "near_duplicate_of_training", 90.0),
        ("e.jpg#1", "incorrect", unseen.UNSEEN, 90.0),
        ("f#2.jpg", "with_mask", unseen.UNSEEN, np.nan),
    ]
    manifest = pd.DataFrame(rows, columns=["path", "label", "split", "face_size"])
    assert set(clip.select_faces(manifest, 10, 0)["path"]) <= {"a.jpg#1", "c.jpg#1", "f#2.jpg"}
    assert clip.select_faces(manifest, 10, 0)["label"].tolist() == ["with_mask", "without_mask"]
    # A set of one class is also possible.
    with_mask = clip.select_faces(manifest[manifest["label"] == "with_mask"], 10, 0)
    assert sorted(with_mask["path"]) == ["a.jpg#1", "f#2.jpg"] and sorted(with_mask["image"]) == ["a.jpg", "f#2.jpg"]
    assert clip.select_faces(manifest[manifest["label"] == "incorrect"], 10, 0).empty


@pytest.mark.parametrize("labels", [["with_mask", "with_mask"], ["incorrect", "incorrect"]])
def test_an_unseen_set_of_one_class_or_none_makes_a_clip_that_is_replayed(
    labels, models, tmp_path, monkeypatch, capsys, logged
):
    """unseen.source=folder accepts any of the three classes, so no later stage may fail on one."""
    values = Path("params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(values)
    for folder in ("data/raw", "data/unseen", "models"):
        Path(folder).mkdir(parents=True)
    Path("models/exported").symlink_to(models)
    for name in ("cnn", "mobilenet"):
        Path(f"models/{name}.weights.h5").touch()
    rows = []
    with zipfile.ZipFile(unseen.ARCHIVE, "w") as zf:
        for i, label in enumerate(labels):
            encoded = io.BytesIO()
            draw_image(0, "with_mask", i, size=128).save(encoded, "JPEG")
            zf.writestr(f"{label}/{i}.jpg", encoded.getvalue())
            rows.append({"path": f"{label}/{i}.jpg", "label": label, "split": unseen.UNSEEN, "row": i})
    pd.DataFrame(rows, columns=unseen.COLUMNS).to_csv(unseen.MANIFEST_PATH, index=False)
    clip.main()
    live_eval.main()
    metrics = json.loads(Path("metrics/live_cnn.json").read_text())
    assert metrics["frames"] == len(pd.read_csv(clip.TABLE)) > 0
    if labels[0] == "with_mask":
        assert metrics["face_detected"] > 0
    else:
        assert metrics["face_detected"] is None and metrics["faces"] == 0
        assert "no frame has an annotated face" in capsys.readouterr().out
