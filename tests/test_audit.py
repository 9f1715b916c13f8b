"""The audit finds deliberate label errors and does not leak between folds; excluded images are left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from face_mask.errors import UserError
from pipeline import audit
from pipeline.dataset import exclusion, packing
from pipeline.scoring import label_errors, sheets
from tools import scratch


def blobs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 8) of two classes that a line separates, and the classes."""
    generator = np.random.default_rng(seed)
    classes = np.arange(n) % 2
    return generator.normal(0, 1, (n, 8)) + 3 * np.where(classes, 1, -1)[:, None] * (np.arange(8) < 3), classes


def test_nearly_all_flipped_labels_are_found_and_hardly_any_others():
    features, truth = blobs(400, 0)
    flipped = np.concatenate([np.arange(0, 400, 40), np.arange(1, 400, 40)])  # ten of each class
    given_labels = truth.copy()
    given_labels[flipped] = 1 - given_labels[flipped]
    fold = label_errors.fold_numbers(given_labels, np.arange(400), 5, seed=1)
    y_prob = label_errors.out_of_fold(features, given_labels, fold, 0.01)
    found = label_errors.suspects(given_labels, y_prob)
    assert len(set(flipped) & set(found)) >= 18 and len(set(found) - set(flipped)) <= 2
    own = np.where(given_labels == 1, y_prob, 1 - y_prob)[found]
    assert (np.diff(own) >= 0).all()


def test_clean_labels_are_not_suspected():
    features, truth = blobs(200, 3)
    y_prob = label_errors.out_of_fold(features, truth, label_errors.fold_numbers(truth, np.arange(200), 5, 0), 0.01)
    assert len(label_errors.suspects(truth, y_prob)) == 0


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_every_image_is_held_out_once_and_no_group_is_split(seed, folds):
    generator = np.random.default_rng(seed)
    groups, classes = generator.integers(0, 60, 200), np.arange(200) % 2
    fold = label_errors.fold_numbers(classes, groups, folds, seed)
    assert set(fold) == set(range(folds))
    assert all(len(set(fold[groups == one])) == 1 for one in np.unique(groups))


def test_a_near_duplicate_in_another_fold_would_hide_a_wrong_label():
    generator = np.random.default_rng(5)
    # Nothing to learn, but duplicates to memorize.
    features, classes = generator.normal(0, 1, (60, 200)), np.arange(60) % 2
    features, classes, groups = np.repeat(features, 2, axis=0), np.repeat(classes, 2), np.repeat(np.arange(60), 2)
    together = label_errors.fold_numbers(classes, groups, 5, 0)
    apart = label_errors.fold_numbers(classes, np.arange(120), 5, 0)
    accuracy = [
        ((label_errors.out_of_fold(features, classes, fold, 1.0) >= 0.5) == classes).mean()
        for fold in (together, apart)
    ]
    assert accuracy[0] < 0.7 < 0.85 < accuracy[1]


def test_more_folds_than_groups_is_an_error_that_names_the_key():
    with pytest.raises(UserError, match=r"audit\.folds = 5"):
        label_errors.fold_numbers(np.array([0, 1] * 10), np.repeat([0, 1], 10), 5, 0)


def test_the_table_and_the_summary_agree(monkeypatch):
    monkeypatch.setattr(label_errors, "suspects", lambda classes, y_prob: np.array([2, 0]))
    used = pd.DataFrame({"path": list("abcd"), "label": ["with_mask", "without_mask"] * 2,
                         "split": ["train", "val", "test", "test"], "row": range(4)})  # fmt: skip
    y_prob = np.array([0.2, 0.1, 0.05, 0.4])
    table = audit.ranked(used, packing.to_classes(used["label"]), y_prob)
    assert table["path"].tolist() == ["c", "a", "d", "b"] and table["rank"].tolist() == [1, 2, 3, 4]
    assert table["suspected"].tolist() == [True, True, False, False]
    assert table["suggested"].tolist() == ["without_mask", "without_mask", "with_mask", "with_mask"]
    assert table["probability"].tolist() == [0.05, 0.2, 0.6, 0.9]
    found = audit.summary(table)
    assert (found["n"], found["n_suspected"], found["suspected_fraction"], found["n_disagreeing"]) == (4, 2, 0.5, 2)
    assert found["by_label"] == {"with_mask": 2, "without_mask": 0}
    assert found["by_split"] == {"train": 1, "val": 0, "test": 1}


def test_a_sheet_is_the_same_bytes_twice_and_says_when_it_is_empty(tmp_path):
    images = [np.full((20, 20, 3), 50 * i, np.uint8) for i in range(3)]
    captions = [("a_very_long_name_of_an_image_that_does_not_fit.jpg", "with_mask 1 %")] * 3
    for name in ("a.png", "b.png"):
        sheets.write(sheets.draw(images, captions, columns=2, side=100), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size[0] == 2 * 110 + 10 and sheet.getpixel((20, 20)) == (0, 0, 0)
    assert np.unique(np.asarray(sheets.draw([], []))).size > 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "nothing.txt is missing"),
        (b"a.jpg\nb.jpg\n", "line 2: the archive has no image b.jpg"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(tmp_path, content, message):
    path = tmp_path / "nothing.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        exclusion.read(path, {"a.jpg"})
    assert "\n" not in str(caught.value) and "split.exclude" in str(caught.value)


def test_comments_blank_lines_windows_line_ends_and_a_byte_order_mark_are_no_paths(tmp_path):
    path = tmp_path / "list.txt"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + b"a.jpg  \r\n\r\n  # why\r\nb c.jpg\r\n")
        assert exclusion.read(path, {"a.jpg", "b c.jpg", "d.jpg"}) == {"a.jpg", "b c.jpg"}


def test_the_committed_list_is_empty():
    assert exclusion.read("data/exclude.txt", set()) == set()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A DVC repository without Git in which all stages up to split have run on synthetic images."""
    folder = tmp_path_factory.mktemp("excluding")
    scratch.copy_tree(folder)
    values = {"image_size": 32, "data.source": "synthetic", "data.synthetic_per_class": 40, "split.train": 0.6,
              "split.val": 0.2, "mobilenet.pretrained": "none"}  # fmt: skip
    scratch.set_params(folder, values)
    scratch.dvc("init", "-q", "-f", "--no-scm", folder=folder)
    scratch.dvc("repro", "-q", "split", folder=folder)
    return folder


def test_excluded_images_are_in_no_split_and_counted_and_the_list_makes_split_stale(small):
    manifest = packing.read_manifest(small / packing.MANIFEST_PATH)
    chosen = sorted(manifest.loc[manifest["label"] == "with_mask", "path"])[:3]
    (small / "data/mine.txt").write_text("\n".join(["# wrong", *chosen]) + "\n")
    scratch.set_params(small, {"split.exclude": "data/mine.txt"})
    scratch.dvc("repro", "-q", "split", folder=small)
    manifest = packing.read_manifest(small / packing.MANIFEST_PATH)
    assert sorted(manifest.loc[manifest["split"] == "excluded", "path"]) == chosen
    assert (manifest.loc[manifest["split"] == "excluded", "row"] == -1).all()
    found = json.loads((small / "metrics/split.json").read_text())
    assert found["left_out"]["excluded"] == 3 and found["left_out"]["surplus"] == 3
    assert len(packing.open_images(small / packing.IMAGES_PATH)) == 80  # decoding does not depend on the list

    (small / "data/mine.txt").write_text(chosen[0] + "\n")
    status = scratch.dvc("status", "split", "--json", folder=small, capture_output=True, text=True).stdout
    assert json.loads(status)["split"] == [{"changed deps": {"data/mine.txt": "modified"}}]

    (small / "data/mine.txt").write_text("data/with_mask/nobody.jpg\n")
    command = [sys.executable, "-m", "pipeline.split"]
    done = subprocess.run(command, cwd=small, env=scratch.environment(), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0
    assert "data/mine.txt, line 1: the archive has no image data/with_mask/nobody.jpg" in done.stderr
