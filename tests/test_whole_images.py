"""Detection and classification of whole images: matching, metrics, and the stage `end_to_end`."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from face_mask import cores, cropping, decoding, detector
from face_mask.cropping import intersection_over_union
from face_mask.errors import UserError
from pipeline import end_to_end
from pipeline.core.values import flatten
from pipeline.dataset import face_crops, unseen
from pipeline.scoring.detection import detected_face_metrics, detection_metrics, match
from pipeline.scoring.metrics import wilson
from pipeline.synthetic import scenes as drawn_scenes
from tests import litert_models

ROOT = Path(__file__).resolve().parents[1]
NONE = np.empty((0, 4))

# Matching


def test_intersection_over_union_in_closed_form() -> None:
    first = np.array([(0, 0, 10, 10), (20, 20, 30, 40)])
    second = np.array([(0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (22, 22, 28, 28)])
    assert intersection_over_union(first, second) == pytest.approx(np.array([[1, 50 / 150, 0, 0], [0, 0, 0, 36 / 200]]))
    assert intersection_over_union(NONE, second).shape == (0, 4)


def test_a_face_is_matched_from_the_threshold_on_and_with_one_detection_only() -> None:
    face, twice = (0, 0, 10, 10), [(0, 0, 10, 9), (0, 0, 10, 10)]
    assert match(np.array([face]), np.array(twice), 0.5).tolist() == [1]
    assert match(np.array([face, face]), np.array(twice[:1]), 0.5).tolist() in ([0, -1], [-1, 0])
    half = np.array([(0, 0, 10, 5)])
    assert match(np.array([face]), half, 0.5).tolist() == [0]
    assert match(np.array([face]), half, 0.51).tolist() == [-1]
    assert match(NONE, half, 0.5).tolist() == [] and match(half, NONE, 0.5).tolist() == [-1]


def test_more_matches_are_preferred_to_a_larger_overlap() -> None:
    faces = np.array([(0, 0, 10, 10), (3, 0, 13, 10)])
    detections = np.array([(0, 0, 10, 10), (-5, 0, 5, 10)])  # the first fits both faces, the second only the first
    assert match(faces, detections, 0.3).tolist() == [1, 0]


corner, side = st.integers(0, 60), st.integers(4, 30)
boxes = st.lists(st.builds(lambda x, y, w, h: (x, y, x + w, y + h), corner, corner, side, side), max_size=6)


@given(boxes, boxes, st.floats(0.05, 0.95))
def test_a_matching_is_one_to_one_and_leaves_no_possible_pair(faces, detections, threshold) -> None:
    indices = match(np.array(faces), np.array(detections), threshold)
    used = indices[indices >= 0].tolist()
    assert len(indices) == len(faces) and len(set(used)) == len(used)
    iou = intersection_over_union(np.array(faces), np.array(detections))
    assert all(iou[i, k] >= threshold for i, k in enumerate(indices) if k >= 0)
    unused = np.setdiff1d(np.arange(len(detections)), used)
    assert not (iou[indices < 0][:, unused] >= threshold).any()


# Metrics


def faces_of(*rows: tuple[str, float, bool, float]) -> tuple[pd.DataFrame, np.ndarray]:
    table = pd.DataFrame(rows, columns=["label", "face_size", "detected", "y"])
    return table, table["y"].to_numpy(float)


FALSE = pd.DataFrame({"face_size": [10.0, 32.0, 80.0], "apart": [True, False, True]})


def test_the_metrics_in_closed_form() -> None:
    faces, y_prob = faces_of(
        ("with_mask", 40, True, 0.9), ("with_mask", 50, True, 0.4), ("with_mask", 50, False, np.nan),
        ("without_mask", 96, True, 0.1), ("without_mask", 40, False, np.nan), ("without_mask", 40, True, 0.5),
        ("incorrect", 40, True, 0.9), ("incorrect", 40, False, np.nan),
    )  # fmt: skip
    d = detection_metrics(faces, FALSE, 4, 32, 0.95)
    assert (d["n"], d["recall"], d["n_with_mask"], d["n_without_mask"], d["n_incorrect"]) == (8, 5 / 8, 3, 3, 2)
    assert (d["recall_with_mask"], d["recall_without_mask"], d["recall_incorrect"]) == (2 / 3, 2 / 3, 1 / 2)
    assert (d["recall_with_mask_low"], d["recall_with_mask_high"]) == wilson(2, 3)
    assert (d["false_detections"], d["false_per_image"]) == (3, 3 / 4)
    assert (d["false_of_min_face"], d["false_apart"], d["false_apart_of_min_face"]) == (2, 2, 1)
    assert {k: (v["n"], v["recall"]) for k, v in d["by_size"].items()} == {
        "32_47": (5, 3 / 5), "48_95": (2, 1 / 2), "96_up": (1, 1.0),
    }  # fmt: skip
    c = detected_face_metrics(faces, y_prob, 0.5, 0.95)
    assert (c["n_detected"], c["n_detected_with_mask"], c["n_detected_without_mask"], c["n_incorrect_detected"]) == (
        4,
        2,
        2,
        1,
    )
    assert (c["accuracy"], c["recall_with_mask"], c["recall_without_mask"]) == (2 / 4, 1 / 2, 1 / 2)
    assert (c["accuracy_low"], c["accuracy_high"]) == wilson(2, 4)
    assert (c["incorrect_called_mask"], c["n_end_to_end"], c["end_to_end_accuracy"]) == (1.0, 6, 2 / 6)
    assert (c["end_to_end_accuracy_with_mask"], c["end_to_end_accuracy_without_mask"]) == (1 / 3, 1 / 3)


def test_metrics_of_no_face_are_none_and_valid_json() -> None:
    faces, y_prob = faces_of()
    both = detection_metrics(faces, FALSE[:0], 0, 32, 0.95) | detected_face_metrics(faces, y_prob, 0.5, 0.95)
    flat = flatten(json.loads(json.dumps(both, allow_nan=False)))
    counts = {"n", "false_detections", "false_of_min_face", "false_apart", "false_apart_of_min_face"}
    for key, value in flat.items():
        last = key.split(".")[-1]
        assert value == (0 if last in counts or last.startswith("n_") else None), key


# The stage


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    litert_models.write(folder, 32)
    return folder


@pytest.fixture
def stage(
    logged: list[dict], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, dict]]:
    """Runs the stage on these files in a scratch repository; returns the metrics of both models.

    The manifest is as unseen_faces writes it; `left_out` are paths marked as near-duplicates of training images.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cores, "available", lambda: 1)  # starting processes does not pay for six images
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"image_size": 32}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    Path("models").mkdir()
    Path("models/exported").symlink_to(models)
    for name in ("cnn", "mobilenet"):
        shutil.copy(models / f"{name}.weights.h5", "models")

    def run(files: Iterable[tuple[str, bytes]], left_out: Iterable[str] = ()) -> dict[str, dict]:
        unseen.ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(unseen.ARCHIVE, "w") as zf:
            for name, content in files:
                zf.writestr(name, content)
        rows: list[dict] = []
        for one in end_to_end.annotated_images.read(unseen.ARCHIVE).images:
            rows += face_crops.crop_faces(one, unseen.ARCHIVE, 32, 0.25, 32)[2]
        manifest = pd.DataFrame(rows).reindex(columns=unseen.COLUMNS).assign(row=-1)
        manifest.loc[manifest["path"].isin(left_out), "split"] = "near_duplicate_of_training"
        unseen.MANIFEST_PATH.parent.mkdir(parents=True, exist_ok=True)
        manifest.to_csv(unseen.MANIFEST_PATH, index=False)
        end_to_end.main()
        return {name: json.loads(Path(f"metrics/end_to_end_{name}.json").read_text()) for name in ("cnn", "mobilenet")}

    return run


@pytest.fixture(scope="module")
def scenes() -> list[tuple[str, bytes]]:
    return [*drawn_scenes.files(6, seed=42)]


def test_the_stage_detects_and_classifies_the_faces_of_whole_images(stage, scenes, capsys) -> None:
    metrics = stage(scenes)
    table = pd.read_csv(end_to_end.TABLE)
    manifest = unseen.read_manifest()
    assert table["path"].tolist() == manifest.loc[manifest["split"] == unseen.UNSEEN, "path"].tolist()
    assert list(table) == ["path", "label", "face_size", "detected", "cnn", "mobilenet"]
    assert table["detected"].mean() > 0.7 and (table["cnn"].notna() == (table["detected"] == 1)).all()
    assert metrics["cnn"] == metrics["mobilenet"]  # the same model twice
    assert (metrics["cnn"]["images"], metrics["cnn"]["detection"]["n"]) == (6, len(table))
    assert metrics["cnn"]["detection"]["recall"] == pytest.approx(table["detected"].mean(), abs=1e-6)
    rates, masks = metrics["cnn"]["rates"], table[table["label"] == "with_mask"]
    assert (rates["min_face"], rates["with_mask_n"], rates["with_mask_detected"], rates["with_mask_correct"]) == (
        32, len(masks), masks["detected"].sum(), (masks["cnn"] >= 0.5).sum()
    )  # fmt: skip
    assert metrics["cnn"]["prevalence"]["splits"] and 0 < metrics["cnn"]["prevalence"]["annotated"] < 1
    in_classes = table[table["label"] != "incorrect"]
    correct = (in_classes["cnn"] >= 0.5) == (in_classes["label"] == "with_mask")
    both = correct & (in_classes["detected"] == 1)
    assert metrics["cnn"]["end_to_end_accuracy"] == pytest.approx(both.mean(), abs=1e-6)
    assert metrics["cnn"]["accuracy"] == pytest.approx(correct[in_classes["detected"] == 1].mean(), abs=1e-6)
    assert "with_mask" in capsys.readouterr().out

    # The detector's box is classified, cropped as faces are everywhere.
    content = dict(scenes)
    image = np.asarray(decoding.open_rgb(content["images/scene_1.jpg"])[0])
    probabilities = []
    for *box, _ in detector.detect(image).tolist():
        square = cropping.square_around((box[0], box[1], box[2], box[3]), 0.25, image.shape[1], image.shape[0])
        pixels = decoding.to_square(Image.fromarray(image).crop(square), 32)
        probabilities.append(litert_models.probability(pixels))
    of_scene = table.loc[table["path"].str.startswith("images/scene_1.jpg#"), "cnn"].dropna()
    assert len(of_scene) and all(min(abs(p - q) for q in probabilities) < 1e-4 for p in of_scene)

    paths = [end_to_end.TABLE, *sorted(Path("metrics").iterdir())]
    first = [path.read_bytes() for path in paths]
    stage(reversed(scenes))
    assert [path.read_bytes() for path in paths] == first


def test_near_duplicates_of_training_images_are_left_out_and_their_detections_are_not_false(stage, scenes) -> None:
    whole = stage(scenes)["cnn"]
    faces = pd.read_csv(end_to_end.TABLE)["path"].tolist()
    one = [path for path in faces if path.startswith("images/scene_2.jpg#")]
    without = stage(scenes, left_out=one)["cnn"]
    assert (without["images"], without["detection"]["n"]) == (5, whole["detection"]["n"] - len(one))
    less = stage(scenes, left_out=one[:1])["cnn"]
    assert (less["images"], less["detection"]["n"]) == (6, whole["detection"]["n"] - 1)
    assert less["detection"]["false_detections"] == whole["detection"]["false_detections"]


def test_a_detection_where_no_face_is_annotated_is_false(stage, scenes) -> None:
    whole = stage(scenes)["cnn"]["detection"]
    files = dict(scenes)
    annotation = files["annotations/scene_1.xml"]
    first, last = annotation.index(b"<object>"), annotation.rindex(b"</object>") + len(b"</object>")
    files["annotations/scene_1.xml"] = annotation[:first] + annotation[last:]
    less = stage(files.items())["cnn"]
    assert less["images"] == 6  # an image without any face is included for its false detections
    gone = len(detector.detect(np.asarray(decoding.open_rgb(files["images/scene_1.jpg"])[0])))
    assert gone and less["detection"]["false_detections"] >= whole["false_detections"] + gone - 1
    assert less["detection"]["false_apart"] >= whole["false_apart"] + gone


def test_a_missing_or_damaged_image_without_faces_is_skipped(stage, scenes) -> None:
    whole = stage(scenes)["cnn"]["detection"]
    annotation = dict(scenes)["annotations/scene_1.xml"]
    first, last = annotation.index(b"<object>"), annotation.rindex(b"</object>") + len(b"</object>")
    empty = annotation[:first] + annotation[last:]
    more = [
        (f"annotations/{name}.xml", empty.replace(b"scene_1.", f"{name}.".encode())) for name in ("gone", "damaged")
    ]
    assert stage([*scenes, *more, ("images/damaged.jpg", b"not an image")])["cnn"]["detection"] == {
        **whole,
        "false_per_image": pytest.approx(whole["false_detections"] / 7, rel=1e-5),
    }


def test_a_set_of_class_folders_has_no_boxes_and_empty_metrics(stage, capsys) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "PNG")
    metrics = stage([("with_mask/a.png", buffer.getvalue()), ("without_mask/b.png", buffer.getvalue())])
    assert metrics["cnn"]["images"] == metrics["cnn"]["detection"]["n"] == metrics["cnn"]["n_detected"] == 0
    assert set(metrics["cnn"]) == set(metrics["mobilenet"]) and metrics["cnn"]["end_to_end_accuracy"] is None
    assert metrics["cnn"]["rates"]["with_mask_n"] == 0 and metrics["cnn"]["prevalence"]["corrected"] is None
    assert "has no boxes (folders)" in capsys.readouterr().out
    assert end_to_end.TABLE.read_text() == "path,label,face_size,detected,cnn,mobilenet\n"


def test_a_missing_model_is_one_line_and_nothing_is_written(stage, scenes) -> None:
    shutil.move("models", "elsewhere")
    with pytest.raises(UserError, match=r"cnn\.float32\.tflite is missing: run `dvc repro export`"):
        stage(scenes)
    assert not end_to_end.TABLE.exists() and not Path("metrics").exists()
