"""Perceptual hashes find changed and mirrored copies, and groups are the connected components of pairs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from pipeline.dataset import duplicates, perceptual_hash
from pipeline.synthetic.faces import draw_image

FACES = [draw_image(7, ("with_mask", "without_mask")[i % 2], i, size=128) for i in range(12)]


def hashes_of(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    return perceptual_hash.perceptual_hashes(
        np.stack([perceptual_hash.grey_thumbnail(np.asarray(image)) for image in images])
    )


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


CHANGES = {
    "re-encoded": jpeg,
    "resized": lambda image: image.resize((90, 90)).resize((128, 128)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.15))),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and blurred": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).filter(
        ImageFilter.GaussianBlur(1)
    ),
}


@pytest.mark.parametrize("change", CHANGES, ids=list(CHANGES))
def test_a_changed_copy_is_found_and_nothing_else(change):
    hashes, mirrored = hashes_of(FACES + [CHANGES[change](face) for face in FACES])
    pairs = perceptual_hash.near_pairs(hashes, mirrored, distance=6)
    assert {(i, i + len(FACES)) for i in range(len(FACES))} == {tuple(pair) for pair in pairs.tolist()}


def test_the_hash_is_the_sign_pattern_of_the_low_frequencies():
    # One cosine of horizontal frequency 3: that coefficient is the largest of all but the mean.
    x = np.arange(32)
    grey = 128 + 60 * np.cos(np.pi * (x + 0.5) * 3 / 32)[None, :] + np.zeros((32, 1))
    value, mirror = (int(one[0]) for one in perceptual_hash.perceptual_hashes(grey[None]))
    assert value >> 63 & 1 == 1  # the mean
    assert value >> (63 - 3) & 1 == 1
    assert mirror >> (63 - 3) & 1 == 0  # mirrored, an odd frequency changes its sign


hash_lists = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60)


@settings(max_examples=60)
@given(base=hash_lists, flips=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 2**64 - 1)), max_size=40))
def test_pairs_are_those_of_the_definition(base, flips):
    # Sparse flips make near pairs likely, which uniform hashes never are.
    near = [base[i % len(base)] ^ (bits & bits >> 7 & bits >> 13 & bits >> 29) for i, bits in flips]
    hashes = np.array(base + near, np.uint64)
    mirrored = np.roll(hashes, 1) ^ np.uint64(3)
    expected = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if min(int(hashes[i] ^ hashes[j]).bit_count(), int(hashes[i] ^ mirrored[j]).bit_count()) <= 6
    }
    found = perceptual_hash.near_pairs(hashes, mirrored, 6).tolist()
    assert len(found) == len(expected) and {tuple(pair) for pair in found} == expected


def test_pairs_across_blocks_are_found(monkeypatch):
    hashes = np.random.default_rng(0).integers(0, 2**63, 1000).astype(np.uint64)
    hashes[[3, 500, 999]] = hashes[3]
    pairs = perceptual_hash.near_pairs(hashes, hashes, 6)
    assert {(3, 500), (3, 999), (500, 999)} == {tuple(pair) for pair in pairs.tolist()}


@pytest.mark.parametrize("distance", range(17))
def test_every_distance_finds_the_pairs_of_the_definition(distance, monkeypatch):
    monkeypatch.setattr(perceptual_hash, "PAIRS_AT_ONCE", 50)
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**64, 300, dtype=np.uint64)
    for i in range(200, 300):  # copies with up to 18 other bits, also in one band alone
        start = rng.integers(0, 46) if i % 2 else 0
        bits = rng.choice(18 if i % 2 else 64, i % 19, replace=False) + start
        hashes[i] = hashes[i - 100] ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), initial=np.uint64(0))
    mirrored = np.roll(hashes, 7)
    near = np.bitwise_count(hashes[:, None] ^ hashes) <= distance
    near |= np.bitwise_count(hashes[:, None] ^ mirrored) <= distance
    expected = np.argwhere(np.triu(near, 1))
    found = perceptual_hash.near_pairs(hashes, mirrored, distance)
    assert found.dtype == np.int64 and np.array_equal(found, expected) and len(found) > 300


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_hashes_have_no_pairs(n):
    hashes = np.zeros(n, np.uint64)
    assert perceptual_hash.near_pairs(hashes, hashes, 6).shape == (0, 2)


@settings(max_examples=60)
@given(n=st.integers(1, 40), links=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=30))
def test_groups_are_the_connected_components_numbered_by_first_appearance(n, links):
    pairs = np.array([(i % n, j % n) for i, j in links if i % n != j % n], np.int64).reshape(-1, 2)
    groups = duplicates.group_by_pairs(n, pairs)
    parent = list(range(n))

    def top(i: int) -> int:
        return i if parent[i] == i else top(parent[i])

    for i, j in pairs.tolist():
        parent[max(top(i), top(j))] = min(top(i), top(j))
    tops = [top(i) for i in range(n)]
    assert [groups[i] == groups[j] for i in range(n) for j in range(n)] == [a == b for a in tops for b in tops]
    first_seen = list(dict.fromkeys(groups.tolist()))
    assert first_seen == list(range(len(first_seen)))
