"""Hard cases: the table of cases, changes of photos, subsets of constructed faces, metrics, and both stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from face_mask import cores
from face_mask.conformal import Calibration
from face_mask.schema import LABELS, MODELS
from pipeline import draw_hard_cases, hard_cases_eval
from pipeline.dataset import hard_cases, packing, unseen
from pipeline.drawing import compositing, face_mesh, geometry, masks, objects
from pipeline.hard_cases import colours, conditions, drawn_set, subsets
from pipeline.hard_cases.cases import CASES, GROUPS, WORN_WITH_A_MASK
from pipeline.models import saving
from pipeline.scoring import hard_case_metrics
from pipeline.scoring.metrics import wilson
from pipeline.tracking import context

PARAMS = Path("params.yaml").absolute()
SKIN = np.array([200, 150, 120], np.uint8)


def points(side: int = 96) -> np.ndarray:
    """Landmarks of a frontal face that takes half of an image's width."""
    return geometry.CANONICAL * side / 6 + [side / 2, side * 0.42]


def face_image(side: int = 96) -> np.ndarray:
    """A face as one plain colour on a dark background."""
    area = geometry.face_area(points(side), side)[..., None]
    return (area * SKIN + (1 - area) * 30).astype(np.uint8)


def test_the_cases_are_consistent():
    keys = [(case.name, case.label) for case in CASES]
    assert len(set(keys)) == len(keys)
    assert {case.group for case in CASES} == set(GROUPS)
    assert {case.source for case in CASES} | {case.label for case in CASES} == set(LABELS)
    assert set(WORN_WITH_A_MASK) <= set(objects.OBJECTS["measuring"])
    names = {case.name for case in CASES}
    assert names == {*masks.KINDS, "recoloured", "under_nose", "on_chin", *objects.OBJECTS["measuring"],
                     *conditions.CONDITIONS}  # fmt: skip
    changed = [case for case in CASES if case.source != case.label]
    assert {case.group for case in changed} == {"masks"} and {case.label for case in changed} == {"with_mask"}
    assert all(len(names) == len(limits) + 1 for limits, names in hard_cases.BINS.values())


def test_colours_are_those_of_cie():
    rgb = np.array([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [53.39, 0, 0]]
    assert colours.to_lab(rgb) == pytest.approx(np.array(expected), abs=0.02)
    assert colours.to_rgb(colours.to_lab(rgb)) == pytest.approx(rgb, abs=1e-6)


@pytest.mark.parametrize("name", conditions.CONDITIONS)
def test_a_condition_changes_the_photo_and_is_repeatable(name):
    image = face_image()
    face = compositing.describe(image, points())
    first, second = (conditions.CONDITIONS[name](image, face, np.random.default_rng(3)) for _ in range(2))
    if name == "face_48" and conditions.longer_side(points()) <= 48:
        assert first is None
        return
    assert first is not None and first.shape == image.shape and first.dtype == np.uint8
    assert (first == second).all() and (first != image).any()
    brightness = {"skin_darker": -1, "light_darker": -1, "skin_lighter": 1, "light_lighter": 1}.get(name, 0)
    change = first[40:60, 40:56].mean() - image[40:60, 40:56].mean()
    assert change * brightness >= 10 * abs(brightness) and (brightness or abs(change) < 8)


def test_another_skin_leaves_the_mask_and_the_background():
    image = face_image()
    face = compositing.describe(image, points())
    image[52:, 36:60] = (90, 150, 220)  # a blue mask
    for condition in (conditions.skin_darker, conditions.skin_lighter):
        changed = condition(image, face, np.random.default_rng(0)).astype(int)
        assert np.abs(changed - image)[56:64, 40:56].max() <= 3
        assert np.abs(changed - image)[:, :6].max() <= 2
        assert np.abs(changed - image)[30:36, 44:52].mean() > 10


def test_a_small_face_has_the_stated_size():
    """A pattern finer than the small face's pixels is gone, a coarser one is left."""
    image = face_image(128)
    face = compositing.describe(image, points(128))
    period = conditions.longer_side(points(128)) / 24
    assert period < 5 and conditions.small_face(image, face, 10_000) is None
    x = np.arange(128)
    for length, is_left in ((period, False), (6 * period, True)):
        wave = np.repeat((127 + 100 * np.sin(2 * np.pi * x / length))[None, :, None], 128, axis=0).repeat(3, axis=2)
        small = conditions.small_face(wave.astype(np.uint8), face, 24)
        assert small is not None and (small[40:80, 40:80].std() > 40) == is_left


def test_skin_angle_is_the_individual_typology_angle():
    assert subsets.skin_angle(np.array([60, 0, 10])) == pytest.approx(45)
    assert subsets.skin_angle(np.array([50, 10, 20])) == pytest.approx(0)
    assert subsets.skin_angle(np.array([40, 3, 10])) == pytest.approx(-45)
    assert np.isnan(subsets.skin_angle(np.array([60, 1, 1])))


def test_what_is_measured_of_a_constructed_face():
    image, found = face_image(), face_mesh.Landmarks(points(), 1.0)
    plain = subsets.measure(image, found, 2.0)
    assert plain["covered"] < 0.1 and plain["lower_covered"] < 0.1 and abs(plain["turn"]) < 0.01
    assert plain["size"] == pytest.approx(2 * conditions.longer_side(points()))
    assert plain["skin"] == pytest.approx(subsets.skin_angle(colours.to_lab(SKIN / 255)))
    assert plain["bent"] == pytest.approx(0.75 / 2.05, abs=0.05)
    bearded = image.copy()
    bearded[56:] = 20
    hidden = subsets.measure(bearded, found, 2.0)
    assert hidden["lower_covered"] > 0.5 and hidden["covered"] == plain["covered"]
    turned = points() + [[6, 0]] * (np.arange(468) == 1)[:, None]
    assert subsets.measure(image, face_mesh.Landmarks(turned, 1.0), 1.0)["turn"] > 0.2
    for unknown in (None, face_mesh.Landmarks(points(), 0.5)):
        assert all(np.isnan(value) for value in subsets.measure(image, unknown, 1.0).values())


def test_bins_have_names_also_where_nothing_is_known():
    (low, high), names = hard_cases.BINS["skin"]
    values = pd.Series([low - 1, low, high, np.nan])
    labels = pd.Series(["with_mask"] * 4)
    assert hard_cases.bin_of("skin", values, labels).tolist() == [*names, "unknown"]
    only = hard_cases.bin_of("lower_covered", values, pd.Series(["with_mask", "without_mask"] * 2))
    assert only[0] == only[2] == hard_cases.NOT_MEASURED != only[1]


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, first, second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_the_paired_interval_is_newcombes():
    """Examples of the paper, in its table II."""
    found = hard_case_metrics.newcombe_paired(*pairs(36, 12, 2, 0), 0.95)
    assert found == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    same = hard_case_metrics.newcombe_paired(*pairs(20, 0, 0, 10), 0.95)
    assert same[0] == 0 and same[1] == pytest.approx(-same[2]) and same[2] > 0


def evaluated(table: pd.DataFrame, y_prob: list[float]) -> dict:
    calibration = Calibration(0.1, with_mask_from=0.4, without_mask_to=0.6, n_with_mask=99, n_without_mask=99)
    return hard_case_metrics.hard_case_metrics(
        table, np.array(y_prob), calibration, original="original", threshold=0.5, confidence=0.95, resamples=50
    )


def test_metrics_of_hard_cases_against_counts():
    table = pd.DataFrame(
        [("original", "original", "without_mask", 1), ("original", "original", "without_mask", 2),
         ("original", "original", "with_mask", 3), ("dark", "masks", "with_mask", 1), ("dark", "masks", "with_mask", 2),
         ("beard", "objects", "without_mask", 1), ("beard", "objects", "without_mask", 2),
         ("noise", "conditions", "without_mask", 2), ("noise", "conditions", "with_mask", 3)],
        columns=["case", "group", "label", "source_row"],
    )  # fmt: skip
    found = evaluated(table, [0.1, 0.9, 0.9, 0.2, 0.8, 0.7, 0.55, 0.1, 0.9])
    assert found["faces"] == 3 and found["original_accuracy"] == pytest.approx(2 / 3)
    dark, beard, noise = (found["cases"][name] for name in ("dark", "beard", "noise"))
    assert (dark["n_with_mask"], dark["recall"]) == (2, 0.5) and "false_positive_rate" not in dark
    assert (dark["recall_low"], dark["recall_high"]) == wilson(1, 2)
    # Of faces 1 and 2 only 2 was misclassified before; now both are with a beard.
    assert (beard["false_positive_rate"], beard["error_change_without_mask"]) == (1, 0.5)
    assert noise["recall"] == 1 and noise["false_positive_rate"] == 0 and noise["error_change_without_mask"] == -1
    assert found["groups"]["objects"] | {"accuracy": 0, "coverage": 0.5, "unsure": 0.5} == found["groups"]["objects"]
    assert found["groups"]["conditions"]["accuracy"] == 1 and found["groups"]["masks"]["accuracy"] == 0.5
    assert found["accuracy"] == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    assert (found["worst_group"], found["best_group"], found["group_gap"]) == ("objects", "conditions", 1)
    rates = hard_case_metrics.error_rates(found)
    assert rates["error_rate"].tolist() == [0.5, 1, 0, 0] and (rates["low"] <= rates["error_rate"]).all()


def test_metrics_without_a_face_are_none():
    found = evaluated(pd.DataFrame(columns=["case", "group", "label", "source_row"]), [])
    assert found["cases"] == {} and found["accuracy"] is None and found["worst_group"] is None
    assert "no face" in hard_case_metrics.summary(found) and hard_case_metrics.error_rates(found).empty


def test_metrics_of_subsets_against_counts():
    """Bins with other fractions of the classes: the accuracy would differ without any difference between the bins."""
    sizes = {("dark", 1): (40, 4), ("dark", 0): (20, 2), ("light", 1): (20, 0), ("light", 0): (40, 8),
             ("unknown", 1): (30, 30), ("unknown", 0): (10, 0),
             ("medium", 1): (50, 0), ("medium", 0): (9, 9)}  # fmt: skip
    rows = [
        (LABELS[k], name, 0.9 if (k == 1) != (i < wrong) else 0.1)
        for (name, k), (n, wrong) in sizes.items()
        for i in range(n)
    ]
    faces = pd.DataFrame(rows, columns=["label", "skin", "p"])
    found = hard_case_metrics.subset_metrics(
        faces, faces["p"].to_numpy(), {"skin": ["dark", "medium", "light", "unknown"]}, threshold=0.5, confidence=0.95
    )
    skin = found["by"]["skin"]
    assert list(skin["bins"]) == ["dark", "medium", "light", "unknown"]
    assert skin["bins"]["dark"]["balanced_accuracy"] == pytest.approx(0.9)
    assert skin["bins"]["light"]["balanced_accuracy"] == pytest.approx((1 + 0.8) / 2)
    assert skin["bins"]["medium"]["balanced_accuracy"] is None  # too few of one class
    assert skin["bins"]["dark"]["recall"] == pytest.approx(0.9) and skin["bins"]["dark"]["n_without_mask"] == 20
    assert skin["gap"] == pytest.approx(0, abs=1e-12) and skin["gap_low"] < 0 < skin["gap_high"]
    assert found["worst_group"] == "skin: unknown" and found["worst_accuracy"] == pytest.approx(0.5)


def test_the_balanced_accuracy_of_one_class_is_its_accuracy_with_wilsons_interval():
    correct = np.arange(40) >= 6
    found = hard_case_metrics.balanced(correct, np.ones(40, int), np.array([1]), 0.95)
    assert list(found.values()) == pytest.approx([34 / 40, *wilson(34, 40, 0.95)])


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Runs both stages on six faces, of which those with a number in `drawable` have landmarks."""
    import keras

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(context.StageRun, "finish", lambda run: None)
    monkeypatch.setattr(context, "check", lambda: None)
    monkeypatch.setattr(cores, "available", lambda: 1)
    few = [case for case in CASES if case.name in ("surgical", "under_nose", "cup", "sunglasses", "noise", "face_24")]
    monkeypatch.setattr(drawn_set, "CASES", few)
    Path("params.yaml").write_text(PARAMS.read_text(encoding="utf-8"), encoding="utf-8")
    pixels = keras.Input((64, 64, 3))
    mean = keras.layers.GlobalAveragePooling2D()(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax")(mean))
    for name in MODELS:
        saving.save(model, name)
    images = np.stack([face_image(64)] * 6)
    images[:, 0, 0, 0] = range(6)
    paths = [f"{i}.jpg" for i in range(6)]
    label, split = [LABELS[i % 2] for i in range(6)], ["train", "train", "val", "val", "test", "test"]
    for folder in ("data/split", "data/unseen"):
        Path(folder).mkdir(parents=True)
        np.save(f"{folder}/images.npy", images)
    shared = {"path": paths, "label": label, "row": range(6)}
    pd.DataFrame({**shared, "split": split, "width": 128, "height": 128}).to_csv(packing.MANIFEST_PATH, index=False)
    pd.DataFrame({**shared, "split": unseen.UNSEEN, "face_size": 40}).reindex(columns=unseen.COLUMNS).to_csv(
        unseen.MANIFEST_PATH, index=False
    )
    predictions = pd.DataFrame({"path": paths, "label": label, "split": split, "cnn": 0.4, "mobilenet": 0.6})
    predictions.to_csv(packing.PREDICTIONS_PATH, index=False)
    predictions.drop(columns="split").to_csv(hard_cases_eval.UNSEEN_PREDICTIONS, index=False)

    def run(drawable: set[int]) -> dict[str, dict]:
        def landmarks(image: np.ndarray) -> face_mesh.Landmarks | None:
            return face_mesh.Landmarks(points(64), 1.0) if int(image[0, 0, 0]) in drawable else None

        monkeypatch.setattr(face_mesh, "landmarks", landmarks)
        draw_hard_cases.main()
        hard_cases_eval.main()
        return {name: json.loads(Path(f"metrics/hard_cases_{name}.json").read_text()) for name in MODELS}

    return run


def test_both_stages_draw_on_validation_and_test_faces_alone(stages):
    found = stages({0, 1, 2, 4, 5})
    table, images = hard_cases.read_manifest(), hard_cases.open_images()
    assert len(images) == len(table) and sorted(table["row"]) == list(range(len(table)))
    assert set(table["split"]) == {"val", "test"} and set(table["source_row"]) == {2, 4, 5}
    for _, rows in table.groupby("source_row"):
        assert (rows["case"] == "original").sum() == 1 and len(rows) > 3
    original = table[(table["case"] == "original") & (table["source_row"] == 4)]
    assert (images[original["row"].iloc[0]] == packing.open_images()[4]).all()
    assert found["cnn"]["test"]["faces"] == 2 and found["cnn"]["val"]["faces"] == 1
    assert found["cnn"].keys() == found["mobilenet"].keys()
    assert found["cnn"]["subsets"]["unseen"]["by"]["size"]["bins"]["under_48_px"]["n"] == 6
    assert found["cnn"]["subsets"]["test"]["by"]["turn"]["bins"]["frontal"]["n"] == 2
    paths = [hard_cases.IMAGES_PATH, hard_cases.MANIFEST_PATH, hard_cases.FACES_PATH, draw_hard_cases.SHEET,
             Path("plots/hard_cases.csv"), Path("metrics/hard_cases_cnn.json")]  # fmt: skip
    first = [path.read_bytes() for path in paths]
    stages({0, 1, 2, 4, 5})
    assert [path.read_bytes() for path in paths] == first


def test_both_stages_work_without_any_face(stages):
    found = stages(set())
    assert hard_cases.read_manifest().empty and found["cnn"]["test"]["cases"] == {}
    assert found["cnn"]["subsets"]["test"]["by"]["turn"]["bins"]["unknown"]["n"] == 2
    assert Path("plots/hard_cases.csv").read_text().count("\n") == 1
