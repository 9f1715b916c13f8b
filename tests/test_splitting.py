"""Invariants of the split, for any classes and duplicate groups, and its errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mask.errors import UserError
from pipeline.core import params
from pipeline.dataset import duplicates, manifests, packing, splitting


def keys_for(n: int, seed: int) -> np.ndarray:
    return splitting.random_keys([f"image {i}" for i in range(n)], seed)


@st.composite
def balanced_groups(draw):
    """Balanced labels and duplicate groups of any sizes, of one class or both."""
    per_class = draw(st.integers(20, 80))
    labels = np.array(draw(st.permutations([0, 1] * per_class)))
    # Group numbers from a range of any width: narrow gives few large groups, wide gives mostly single images.
    width = draw(st.integers(2 * per_class, 20 * per_class))
    groups = np.array(draw(st.lists(st.integers(0, width), min_size=2 * per_class, max_size=2 * per_class)))
    return labels, groups, draw(st.integers(0, 1000))


@settings(max_examples=150)
@given(balanced_groups())
def test_no_group_is_divided_and_every_split_has_its_exact_size_in_each_class(drawn):
    labels, groups, seed = drawn
    try:
        splits = splitting.assign(labels, groups, keys_for(len(labels), seed), 0.8, 0.1, 50)
    except UserError as error:
        assert "without near-duplicates are too few" in str(error)
        return
    sizes = splitting.split_sizes(len(labels) // 2, 0.8, 0.1)
    for label in (0, 1):
        names, counts = np.unique(splits[labels == label], return_counts=True)
        assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == sizes
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1
    assert splitting.count_cross_split_duplicates(groups, splits) == 0


@settings(max_examples=50)
@given(balanced_groups())
def test_the_split_depends_only_on_the_images_and_the_seed(drawn):
    labels, groups, seed = drawn
    keys = keys_for(len(labels), seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    try:
        splits = splitting.assign(labels, groups, keys, 0.8, 0.1, 50)
    except UserError:
        return
    assert (splitting.assign(labels[order], groups[order], keys[order], 0.8, 0.1, 50) == splits[order]).all()


def test_other_seeds_give_other_splits():
    labels, groups = np.arange(400) % 2, np.arange(400)
    first, second = (splitting.assign(labels, groups, keys_for(400, seed), 0.8, 0.1, 50) for seed in (1, 2))
    assert 0.6 < (first == second).mean() < 0.75  # 0.8² + 0.1² + 0.1² = 0.66 by chance


def test_duplicate_groups_are_in_every_split_in_proportion():
    # 600 pairs and 800 single images: a test set with a smaller fraction of groups would be easier or harder.
    groups = np.concatenate([np.repeat(np.arange(600), 2), np.arange(600, 1400)])
    labels = np.concatenate([np.repeat(np.arange(600) % 2, 2), np.arange(800) % 2])
    splits = splitting.assign(labels, groups, keys_for(2000, 5), 0.8, 0.1, 50)
    for name in ("val", "test"):
        in_pairs = (splits[:1200] == name).sum()
        assert 0.45 < in_pairs / (splits == name).sum() < 0.75  # 0.6 expected


def test_held_out_images_with_a_duplicate_in_another_split_are_counted():
    groups = np.array([0, 0, 1, 1, 2, 2, 2, 3, 4, 4])
    splits = np.array(["train", "test", "val", "test", "train", "train", "val", "test", "surplus", "test"])
    assert splitting.count_cross_split_duplicates(groups, splits) == 4  # group 0: one, group 1: both, group 2: one


def test_random_keys_are_uniform_and_fixed_by_name_and_seed():
    keys = keys_for(5000, 3)
    assert keys.min() >= 0 and keys.max() < 1
    assert np.abs(np.histogram(keys, 10, (0, 1))[0] - 500).max() < 100
    assert splitting.random_keys(["image 17"], 3)[0] == keys[17]
    assert splitting.random_keys(["image 17"], 4)[0] != keys[17]


def test_keep_first_limits_each_class_and_grows_by_adding():
    labels = np.arange(100) % 2
    keys = keys_for(100, 0)
    ten, twenty = (splitting.keep_first(labels, keys, n) for n in (10, 20))
    assert np.bincount(labels[ten]).tolist() == [10, 10]
    assert (ten <= twenty).all()
    assert splitting.keep_first(labels, keys, 1000).all()


def test_the_published_sizes():
    assert splitting.split_sizes(3725, 0.8, 0.1) == {"train": 2980, "val": 372, "test": 373}


def test_too_few_single_images_is_a_clear_error():
    remedy = r"too few for the test split.*raise split\.whole_similarity, or lower split\.hash_distance"
    with pytest.raises(UserError, match=remedy):
        splitting.assign(np.arange(40) % 2, np.zeros(40, int), keys_for(40, 0), 0.8, 0.1, 50)


def split_of(decoded: pd.DataFrame, excluded: set[str] | None = None, limit: float = 0.01) -> dict:
    """The split without duplicate groups, in the steps of the stage; returns the content of metrics/split.json."""
    manifest = manifests.start(decoded, excluded or set(), 1, None)
    manifests.check_undecodable(manifest, limit)
    used = manifests.usable(manifest)
    pairs, _ = duplicates.find_pairs(*packing.hashes_of(decoded.iloc[used]), None, 0, {"whole": 0.5})
    manifest.loc[used, "group"] = duplicates.group_by_pairs(len(used), pairs)
    manifests.assign(manifest, used, 1, params.load().split)
    return manifests.summary(manifest, 50)


def decoded_images(with_mask: int, without_mask: int, bad: int = 0) -> pd.DataFrame:
    """A decoded.csv with images of both classes that have distinct hashes; the first `bad` cannot be decoded."""
    labels = ["with_mask"] * with_mask + ["without_mask"] * without_mask
    rng = np.random.default_rng(0)
    hashes = [[f"{value:016x}" for value in rng.integers(0, 2**63, len(labels))] for _ in range(2)]
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(len(labels))], "label": labels})
    table = table.assign(content_hash=hashes[0], perceptual_hash=hashes[0], mirrored_hash=hashes[1])
    return table.assign(
        width=1, height=1, format="JPEG", bad=np.where(np.arange(len(labels)) < bad, "not an image", "")
    )


@pytest.mark.parametrize("per_class", [1, 2, 3])
def test_a_class_with_fewer_images_than_splits_is_a_clear_error(per_class):
    with pytest.raises(
        UserError, match=f"^{per_class} images per class are too few: the (val|test) split would be empty"
    ):
        split_of(decoded_images(per_class, 50))


def test_no_image_left_of_a_class_is_a_clear_error():
    decoded = decoded_images(10, 10)
    paths = decoded["path"].tolist()
    with pytest.raises(UserError, match=r"^no image of class without_mask is left: .*split\.exclude"):
        split_of(decoded, excluded=set(paths))
    with pytest.raises(UserError, match=r"^no image of class with_mask is left"):
        split_of(decoded, excluded=set(paths[:10]))
    with pytest.raises(UserError, match=r"^no image of class with_mask is left"):
        split_of(decoded_images(0, 10))
    with pytest.raises(UserError, match=r"^no image of class with_mask is left"):
        split_of(decoded_images(10, 10, bad=10), limit=1.0)


def test_too_many_undecodable_images_are_a_clear_error(capsys):
    first = r"the first is 0\.jpg \(not an image\): fix the archive, or raise data\.max_bad_fraction"
    with pytest.raises(UserError, match=f"^20 of 20 images cannot be decoded, {first}"):
        split_of(decoded_images(10, 10, bad=20))
    with pytest.raises(UserError, match=f"^1 of 20 images cannot be decoded, {first}"):
        split_of(decoded_images(10, 10, bad=1))
    capsys.readouterr()
    assert split_of(decoded_images(20, 20, bad=1), limit=0.1)["left_out"] == {
        "bad": 1, "excluded": 0, "surplus": 1, "not_sampled": 0,
    }  # fmt: skip
    assert capsys.readouterr().out == "left out: 0.jpg: not an image\n"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "path,label\n",
        "path,label,split,row\n",
        "path,label,split,row\na.jpg,with_mask,train,0",
        "path,label,split,row\na.jpg,with_mask,train,x\n",
        "path,label,split,row\na.jpg,with_mosk,train,0\n",
    ],
)
def test_a_damaged_manifest_is_named_with_the_stage_that_restores_it(tmp_path, content):
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.csv (is damaged|has no column split).*dvc repro --force split"):
        packing.read_manifest(tmp_path / "manifest.csv")


def test_an_array_of_another_length_is_refused_by_what_opens_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packing.MANIFEST_PATH.parent.mkdir(parents=True)
    packing.MANIFEST_PATH.write_text("path,label,split,row\na.jpg,with_mask,train,0\nb.jpg,without_mask,train,1\n")
    np.save(packing.IMAGES_PATH, np.zeros((2, 8, 8, 3), np.uint8))
    np.save(packing.FEATURES_PATH, np.zeros((6, 3, 1280), np.float32))
    assert len(packing.read_manifest()) == 2  # all that train_cnn, predict and evaluate read
    with pytest.raises(UserError, match=r"features\.npy is of 3 images, .*images\.npy has 2: run `dvc repro features`"):
        packing.open_features()
    np.save(packing.FEATURES_PATH, np.zeros((6, 2, 1280), np.float32))
    assert packing.open_features().shape == (2, 1280)
    np.save(packing.IMAGES_PATH, np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match=r"manifest\.csv describes 2 images, .*images\.npy has 3, .*dvc repro split"):
        packing.read_manifest()
