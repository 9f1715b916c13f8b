"""The clip is what its recipe says, and its replay is what the live page would count."""

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

from pipeline import clip, params
from pipeline import replay as replay_stage
from pipeline.data import panning, synthetic_scenes, unseen
from pipeline.data.synthetic import draw_picture
from pipeline.serve import films, replay
from pipeline.serve.following import Face
from pipeline.serve.session import Session
from tests import litert_models


@given(st.data())
def test_a_view_keeps_the_frames_shape_and_stays_in_the_picture(data):
    width, height = (data.draw(st.integers(60, 900)) for _ in range(2))
    left, top = (data.draw(st.floats(0, side - 21)) for side in (width, height))
    right = data.draw(st.floats(left + 20, width))
    bottom = data.draw(st.floats(top + 20, height))
    x0, y0, x1, y1 = panning.view((left, top, right, bottom), data.draw(st.floats(0, 1)), (width, height), (640, 480))
    assert (x1 - x0) / (y1 - y0) == pytest.approx(4 / 3)
    assert -1e-6 <= x0 < x1 <= width + 1e-6 and -1e-6 <= y0 < y1 <= height + 1e-6


def test_a_face_in_a_large_picture_comes_nearer_and_is_where_the_table_says():
    picture = Image.new("RGB", (2000, 2000), "black")
    picture.paste("white", (1000, 900, 1040, 960))
    heights = []
    for progress in (0.0, 0.4, 1.0):
        seen = panning.view((1000, 900, 1040, 960), progress, picture.size, (640, 480))
        frame = panning.filmed(picture, seen, (640, 480))
        rows, columns = np.nonzero(frame[..., 0] > 127)
        box = panning.in_view((1000, 900, 1040, 960), seen, (640, 480))
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx(box, abs=1.5)
        heights.append((box[3] - box[1]) / 480)
    assert heights[0] == pytest.approx(panning.FAR) and heights[2] == pytest.approx(panning.NEAR)


def test_classes_take_turns_and_the_same_seed_casts_the_same():
    labels = ["a"] * 7 + ["b"] * 3 + ["c"]
    chosen = panning.alternating(labels, ("b", "a"), 20, 1)
    assert [labels[i] for i in chosen] == ["b", "a"] * 3 and len(set(chosen)) == 6
    assert panning.alternating(labels, ("b", "a"), 3, 1) == chosen[:3]
    assert sorted(panning.alternating(labels, ("b", "missing"), 4, 1)) == [7, 8, 9]
    assert panning.alternating(labels, ("missing",), 4, 1) == []


def face(label: str, box: tuple, found: bool = True) -> Face:
    return Face(1, box, 1.0, 0.5, 0.5, label, 0.0, found)


def test_the_filmed_faces_label_is_that_of_the_face_that_overlaps_most():
    truth = replay.Truth(overlap=0.4)
    here, near, elsewhere = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (50.0, 50.0, 60.0, 60.0)
    truth.add([face("with_mask", here), face("without_mask", near)], "with_mask", here)
    truth.add([face("with_mask", elsewhere), face("without_mask", near)], "with_mask", here)
    truth.add([face("unsure", here)], "without_mask", here)
    truth.add([face("without_mask", here, found=False)], "without_mask", here)
    truth.add([], "without_mask", here)
    assert truth.summary() == {
        "filmed_face_found": 3 / 5, "filmed_face_right": 1 / 5, "filmed_face_wrong": 1 / 5, "filmed_face_unsure": 1 / 5
    }  # fmt: skip
    assert set(replay.Truth(0.4).summary().values()) == {None}


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """A second of a drawn scene of several people, with nothing before and after."""
    path = tmp_path_factory.mktemp("film") / "scene.mp4"
    with films.writing(path) as append:
        for i in range(12):
            number = 1 if 3 <= i < 9 else None
            encoded = synthetic_scenes.draw(number, 0)[0] if number else None
            append(np.zeros((336, 504, 3), np.uint8) if encoded is None else decoded(encoded), i / 12)
    return path


def decoded(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with small models: brighter is masked."""
    folder = tmp_path_factory.mktemp("models")
    litert_models.write(folder, params.load().image_size)
    return folder


def test_a_replay_counts_what_the_film_shows(film, models):
    p = params.load()
    session = Session(p.live, p.evaluate.threshold)
    frames = replay.watch(film, {"cnn": session}, p, models)
    faces = [sum(face.found for face in shown["cnn"]) for _, shown in frames]
    summary = session.summary()
    assert len(faces) == summary["frames"] == 12
    assert faces[:3] == faces[9:] == [0, 0, 0] and min(faces[3:9]) >= 1
    assert summary["frames_without_face"] == 6 and summary["faces"] == sum(faces)
    assert summary["distinct_faces"] == max(faces)
    assert summary["latency_ms_p50"]


def test_the_command_prints_the_summary_and_names_what_is_wrong(film, models, tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pipeline.serve.replay", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    good = run(film, "--model", "cnn", "--models", models)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["frames"] == 12
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    for wrong, said in (
        ([tmp_path / "missing.mp4"], "missing.mp4 is no file"),
        ([tmp_path / "broken.mp4", "--model", "cnn", "--models", models], "broken.mp4 cannot be read"),
        ([film, "--models", tmp_path], "run `dvc repro export`"),
    ):
        bad = run(*wrong)
        assert bad.returncode == 1 and said in bad.stderr and len(bad.stderr.splitlines()) == 1


def test_the_cast_is_of_both_classes_large_enough_and_one_a_picture():
    rows = [
        ("a.jpg#1", "with_mask", unseen.UNSEEN, 60.0),
        ("a.jpg#2", "without_mask", unseen.UNSEEN, 60.0),
        ("b.jpg#1", "without_mask", unseen.UNSEEN, 47.0),
        ("c.jpg#1", "without_mask", unseen.UNSEEN, 50.0),
        ("d.jpg#1", "without_mask", "near_twin_trained_on", 90.0),
        ("e.jpg#1", "incorrect", unseen.UNSEEN, 90.0),
        ("f#2.jpg", "with_mask", unseen.UNSEEN, np.nan),
    ]
    manifest = pd.DataFrame(rows, columns=["path", "label", "split", "face_size"])
    assert set(clip.cast(manifest, 10, 0)["path"]) <= {"a.jpg#1", "c.jpg#1", "f#2.jpg"}
    assert clip.cast(manifest, 10, 0)["label"].tolist() == ["with_mask", "without_mask"]
    masked = clip.cast(manifest[manifest["label"] == "with_mask"], 10, 0)  # a set of one class is filmed as well
    assert sorted(masked["path"]) == ["a.jpg#1", "f#2.jpg"] and sorted(masked["picture"]) == ["a.jpg", "f#2.jpg"]
    assert clip.cast(manifest[manifest["label"] == "incorrect"], 10, 0).empty


@pytest.mark.parametrize("labels", [["with_mask", "with_mask"], ["incorrect", "incorrect"]])
def test_a_foreign_set_of_one_class_or_none_is_filmed_and_replayed(labels, models, tmp_path, monkeypatch, capsys):
    """unseen.source=folder takes any of the three classes, so what follows must not stop at any."""
    values = Path("params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    for module in (clip, replay_stage):
        monkeypatch.setattr(module.tracking, "check", lambda: None)
        monkeypatch.setattr(module.tracking, "log_stage", lambda *_, **__: None)
        monkeypatch.setattr(module.tracking, "log_model_metrics", lambda *_, **__: None)
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
            draw_picture(0, "with_mask", i, size=128).save(encoded, "JPEG")
            zf.writestr(f"{label}/{i}.jpg", encoded.getvalue())
            rows.append({"path": f"{label}/{i}.jpg", "label": label, "split": unseen.UNSEEN, "row": i})
    pd.DataFrame(rows, columns=unseen.COLUMNS).to_csv(unseen.MANIFEST_PATH, index=False)
    clip.main()
    replay_stage.main()
    found = json.loads(Path("metrics/replay_cnn.json").read_text())
    assert found["frames"] == len(pd.read_csv(clip.TABLE)) > 0
    if labels[0] == "with_mask":
        assert found["filmed_face_found"] > 0
    else:
        assert found["filmed_face_found"] is None and found["faces"] == 0
        assert "nobody is filmed" in capsys.readouterr().out
