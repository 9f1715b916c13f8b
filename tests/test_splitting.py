"""The split's invariants, on any classes and duplicate groups there may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import splitting
from pipeline.errors import UserError


def keys_for(n: int, seed: int) -> np.ndarray:
    return splitting.random_keys([f"picture {i}" for i in range(n)], seed)


@st.composite
def balanced_groups(draw):
    """Balanced labels and duplicate groups of any sizes, of one class or both."""
    per_class = draw(st.integers(20, 80))
    labels = np.array(draw(st.permutations([0, 1] * per_class)))
    # Group numbers from a range of any width: narrow gives few large groups, wide gives mostly single pictures.
    width = draw(st.integers(2 * per_class, 20 * per_class))
    groups = np.array(draw(st.lists(st.integers(0, width), min_size=2 * per_class, max_size=2 * per_class)))
    return labels, groups, draw(st.integers(0, 1000))


@settings(max_examples=150)
@given(balanced_groups())
def test_no_group_straddles_and_every_split_has_its_exact_size_in_each_class(drawn):
    labels, groups, seed = drawn
    try:
        splits = splitting.assign(labels, groups, keys_for(len(labels), seed), 0.8, 0.1)
    except UserError as error:
        assert "without a near-duplicate are too few" in str(error)
        return
    sizes = splitting.split_sizes(len(labels) // 2, 0.8, 0.1)
    for label in (0, 1):
        names, counts = np.unique(splits[labels == label], return_counts=True)
        assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == sizes
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1
    assert splitting.crossing(groups, splits) == 0


@settings(max_examples=50)
@given(balanced_groups())
def test_the_split_depends_on_nothing_but_the_pictures_and_the_seed(drawn):
    labels, groups, seed = drawn
    keys = keys_for(len(labels), seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    try:
        splits = splitting.assign(labels, groups, keys, 0.8, 0.1)
    except UserError:
        return
    assert (splitting.assign(labels[order], groups[order], keys[order], 0.8, 0.1) == splits[order]).all()


def test_other_seeds_give_other_splits():
    labels, groups = np.arange(400) % 2, np.arange(400)
    first, second = (splitting.assign(labels, groups, keys_for(400, seed), 0.8, 0.1) for seed in (1, 2))
    assert 0.6 < (first == second).mean() < 0.75  # 0.8² + 0.1² + 0.1² = 0.66 by chance


def test_duplicate_groups_come_to_every_split_in_proportion():
    # 600 pairs and 800 single pictures: a test set without its share of groups would be easier or harder than the rest.
    groups = np.concatenate([np.repeat(np.arange(600), 2), np.arange(600, 1400)])
    labels = np.concatenate([np.repeat(np.arange(600) % 2, 2), np.arange(800) % 2])
    splits = splitting.assign(labels, groups, keys_for(2000, 5), 0.8, 0.1)
    for name in ("val", "test"):
        in_pairs = (splits[:1200] == name).sum()
        assert 0.45 < in_pairs / (splits == name).sum() < 0.75  # 0.6 expected


def test_crossing_counts_held_out_pictures_with_a_twin_elsewhere():
    groups = np.array([0, 0, 1, 1, 2, 2, 2, 3, 4, 4])
    splits = np.array(["train", "test", "val", "test", "train", "train", "val", "test", "surplus", "test"])
    assert splitting.crossing(groups, splits) == 4  # group 0: one, group 1: both, group 2: one


def test_random_keys_are_uniform_fixed_by_name_and_seed():
    keys = keys_for(5000, 3)
    assert keys.min() >= 0 and keys.max() < 1
    assert np.abs(np.histogram(keys, 10, (0, 1))[0] - 500).max() < 100
    assert splitting.random_keys(["picture 17"], 3)[0] == keys[17]
    assert splitting.random_keys(["picture 17"], 4)[0] != keys[17]


def test_keep_first_caps_each_class_and_grows_by_adding():
    labels = np.arange(100) % 2
    keys = keys_for(100, 0)
    ten, twenty = (splitting.keep_first(labels, keys, n) for n in (10, 20))
    assert np.bincount(labels[ten]).tolist() == [10, 10]
    assert (ten <= twenty).all()
    assert splitting.keep_first(labels, keys, 1000).all()


def test_the_published_sizes():
    assert splitting.split_sizes(3725, 0.8, 0.1) == {"train": 2980, "val": 372, "test": 373}


def test_too_few_single_pictures_is_a_clear_error():
    with pytest.raises(UserError, match="too few for the test split"):
        splitting.assign(np.arange(40) % 2, np.zeros(40, int), keys_for(40, 0), 0.8, 0.1)
