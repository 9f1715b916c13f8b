"""Near-duplicates by features: the views, the definition, whitening against scikit-learn, no pair across splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.decomposition import PCA

from face_mask.errors import UserError
from pipeline.core import params
from pipeline.dataset import approximate, duplicates, manifests, packing, similarity, views
from pipeline.dataset.similarity import Descriptors

KINDS = ("whole", "rotated", "upper")


def unit(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    vectors = rng.normal(size=(n, k)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_descriptors(rng: np.random.Generator, n: int, k: int = 6) -> Descriptors:
    return Descriptors(*(unit(rng, n, k) for _ in views.VIEWS))


def faces_with_copies(n: int, copies: int, seed: int = 0, d: int = 96) -> np.ndarray:
    """Features (6, n, d) like those of faces: one common direction, and individual ones. The last are copies of the
    first. The views of an image are unrelated to each other.
    """
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n, d))
    own[n - copies :] = own[:copies] + 0.3 * rng.normal(size=(copies, d))
    return np.stack([own[:, rng.permutation(d)] + 4 for _ in views.VIEWS]).astype(np.float32)


def all_near_pairs(descriptors: Descriptors | None, threshold: float) -> dict[str, list[list[int]]]:
    assert descriptors is not None
    return {kind: similarity.near_pairs(descriptors, kind, threshold).tolist() for kind in KINDS}


# Views


def test_mirror_and_upper_part():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    before = pixels.copy()
    assert np.array_equal(views.mirror(pixels)[1, 5, 3], pixels[1, 5, 28])
    assert np.array_equal(views.mirror(views.mirror(pixels)), pixels)
    upper = views.keep_upper(pixels)
    assert np.array_equal(upper[:, :14], pixels[:, :14]) and (upper[:, 14:] == views.GREY).all()  # 7/16 of 32
    assert np.array_equal(pixels, before)


def test_rotation():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert np.array_equal(views.rotate(pixels, 0), pixels)
    assert np.array_equal(views.rotate(pixels, 90), np.rot90(pixels, axes=(1, 2)))  # counter-clockwise
    # A linear image: a rotated one has, at every place, the value at that place rotated back.
    y, x = np.mgrid[:64, :64] - 31.5
    image = np.repeat((128 + 2 * x - y)[None, :, :, None], 3, axis=3).round().astype(np.uint8)
    angle = np.deg2rad(views.ANGLE)
    source_x, source_y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    wanted = 128 + 2 * source_x - source_y
    inside = np.hypot(x, y) < 30
    rotated = views.VIEWS["rotated"](image)
    assert np.abs(rotated[0, :, :, 0] - wanted)[inside].max() <= 2
    assert (rotated[0, 0, 0] == 0).all() and (rotated[0, -1, -1] == 0).all()
    back = views.VIEWS["rotated_back"](rotated)
    assert np.abs(back[0, :, :, 0].astype(int) - image[0, :, :, 0])[inside].max() <= 3


def test_the_views_are_those_of_the_descriptors():
    pixels = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert tuple(views.VIEWS) == Descriptors._fields
    made = {name: view(pixels) for name, view in views.VIEWS.items()}
    assert all(one.shape == pixels.shape and one.dtype == np.uint8 for one in made.values())
    assert np.array_equal(made["images"], pixels)
    assert np.array_equal(made["upper_mirrored"], views.mirror(made["upper"]))
    assert np.array_equal(made["rotated_back"], views.mirror(views.rotate(views.mirror(pixels), views.ANGLE)))


def test_the_features_file_has_all_views_and_the_plain_features_first(tmp_path, monkeypatch):
    from pipeline.models.pooled_features import BATCH, pool_views, write_pooled

    monkeypatch.chdir(tmp_path)
    packing.FEATURES_PATH.parent.mkdir(parents=True)
    pixels = np.random.default_rng(2).integers(0, 256, (BATCH + 3, 8, 8, 3), dtype=np.uint8)

    def forward(batch: np.ndarray) -> np.ndarray:
        return batch.reshape(len(batch), -1)[:, ::7].astype(np.float32)

    batches = (pool_views(batch, forward, list(views.VIEWS.values())) for batch in (pixels[:BATCH], pixels[BATCH:]))
    write_pooled(packing.FEATURES_PATH, batches, len(pixels))
    written = packing.open_view_features()
    assert written.shape == (6, BATCH + 3, 28) and written.dtype == np.float32
    assert np.array_equal(written[0], forward(pixels)) and np.array_equal(packing.open_features(), written[0])
    for features, view in zip(written, views.VIEWS.values(), strict=True):
        assert np.array_equal(features, forward(view(pixels)))


# Similarity


@pytest.mark.parametrize("n", [1, 5, 300, 700])
def test_pairs_are_those_of_the_definition_whatever_the_blocks(n):
    d = random_descriptors(np.random.default_rng(n), n)
    assert d.mirrored is not None and d.rotated is not None and d.rotated_back is not None
    assert d.upper is not None and d.upper_mirrored is not None
    one_way = {
        "whole": [d.images @ d.images.T, d.images @ d.mirrored.T],
        "rotated": [a @ b.T for a in (d.rotated, d.rotated_back) for b in (d.images, d.mirrored)],
        "upper": [d.upper @ d.upper.T, d.upper @ d.upper_mirrored.T],
    }
    for kind in KINDS:
        direct = np.max([np.maximum(product, product.T) for product in one_way[kind]], axis=0)
        near = np.abs(direct - 0.7) < 1e-5  # the blocks' rounding may decide these either way
        expected = {(i, j) for i, j in np.argwhere(np.triu(direct >= 0.7, 1) & ~near).tolist()}
        found = {(i, j) for i, j in similarity.near_pairs(d, kind, 0.7).tolist() if not near[i, j]}
        assert found == expected
        assert similarity.max_similarity(d, d, kind) == pytest.approx(direct.max(axis=1), abs=1e-5)


def test_rows_are_a_subset_in_every_view():
    d = random_descriptors(np.random.default_rng(0), 20)
    chosen = np.array([7, 3, 19])
    for rows in (chosen, slice(4, 9), np.arange(20) % 3 == 0):
        for view, of_all in zip(d.rows(rows), d, strict=True):
            assert view is not None and of_all is not None and np.array_equal(view, of_all[rows])
    part = Descriptors(d.images, upper=d.upper).rows(chosen)
    assert part.upper is not None and len(part.images) == len(part.upper) == 3
    assert (part.mirrored, part.rotated, part.rotated_back, part.upper_mirrored) == (None,) * 4
    wanted = similarity.max_similarity(d, d, "rotated")[chosen]
    assert similarity.max_similarity(d.rows(chosen), d, "rotated") == pytest.approx(wanted, abs=1e-6)


def test_images_with_two_views_are_compared_with_all_views_of_the_others():
    rng = np.random.default_rng(0)
    known = random_descriptors(rng, 30, k=200)  # in 200 dimensions, random vectors are almost orthogonal
    assert known.upper is not None
    images, upper = unit(rng, 8, 200), unit(rng, 8, 200)
    for row, view in enumerate(("images", "mirrored", "rotated", "rotated_back")):
        images[row] = getattr(known, view)[row]
    for row, view in enumerate(("upper", "upper_mirrored"), start=4):
        upper[row] = getattr(known, view)[row]
    images[6] = known.upper[6]  # another view: not compared with whole images
    some = Descriptors(images, upper=upper)
    limits = dict.fromkeys(KINDS, 0.9)
    assert similarity.near_any(some, known, limits).tolist() == [True] * 6 + [False] * 2
    found = {kind: np.flatnonzero(similarity.max_similarity(some, known, kind) > 0.9).tolist() for kind in KINDS}
    assert found == {"whole": [0, 1], "rotated": [2, 3], "upper": [4, 5]}
    assert similarity.near_any(some, known, limits | {"rotated": 1.1}).tolist()[:5] == [True, True, False, False, True]
    assert not similarity.near_any(Descriptors(images), known, {"upper": 0.1}).any()  # neither upper part is available
    assert not similarity.near_any(some, known.rows(slice(0, 0)), limits).any()


def test_the_thresholds_are_those_of_the_parameters():
    split = params.load().split
    assert similarity.thresholds(split) == {"whole": 0.5, "rotated": 0.6, "upper": 0.7}
    changed = split.model_copy(update={"rotated_similarity": 0.9})
    assert similarity.thresholds(changed) == {"whole": 0.5, "rotated": 0.9, "upper": 0.7}


def test_whitening_is_that_of_principal_components():
    features = np.random.default_rng(3).normal(size=(400, 30)) @ np.random.default_rng(4).normal(size=(30, 30)) + 7
    whitening = similarity.fit_whitening(features.astype(np.float32))
    projected = (features - whitening.mean) @ whitening.projection
    assert np.cov(projected.T, bias=True) == pytest.approx(np.eye(30), abs=1e-3)
    wanted = PCA(30, whiten=True).fit_transform(features)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = similarity.whiten(features.astype(np.float32), whitening)
    assert found @ found.T == pytest.approx(wanted @ wanted.T, abs=1e-3)  # axes may differ in sign and order


def test_rows_are_whitened_as_their_subset_is():
    features = faces_with_copies(800, 10)
    rows = np.random.default_rng(5).permutation(800)[:600]
    for view in (features[0], features[4]):
        whitening, of_subset = similarity.fit_whitening(view, rows), similarity.fit_whitening(view[rows])
        assert np.array_equal(whitening.mean, of_subset.mean)
        assert np.array_equal(whitening.projection, of_subset.projection)
        whitened = similarity.whiten(view, whitening, rows)
        assert np.array_equal(whitened, similarity.whiten(view[rows], whitening))
        assert np.linalg.norm(whitened, axis=1) == pytest.approx(1, abs=1e-5)
    described, expected = duplicates.describe(features, rows), duplicates.describe(features[:, rows], np.arange(600))
    assert described is not None and expected is not None
    for found, wanted in zip(described, expected, strict=True):
        assert found is not None and wanted is not None and np.array_equal(found, wanted)


def test_components_are_bounded_by_the_rank():
    rng = np.random.default_rng(0)
    assert similarity.fit_whitening(rng.normal(size=(64, 100))).projection.shape == (100, 63)
    assert similarity.fit_whitening(rng.normal(size=(900, 3)) @ rng.normal(size=(3, 100))).projection.shape == (100, 3)
    assert similarity.fit_whitening(rng.normal(size=(2000, 300))).projection.shape == (300, similarity.COMPONENTS)


def test_copies_are_found_though_the_plain_cosine_of_every_pair_is_high():
    features = faces_with_copies(600, 20)
    plain = features[0] / np.linalg.norm(features[0], axis=1, keepdims=True)
    assert (plain @ plain.T).min() > 0.85
    found = all_near_pairs(duplicates.describe(features, np.arange(600)), 0.6)
    copies = sorted([i, 580 + i] for i in range(20))
    assert {kind: sorted(pairs) for kind, pairs in found.items()} == {"whole": copies, "rotated": [], "upper": copies}


def test_a_mirrored_copy_is_found():
    features = faces_with_copies(600, 0)
    for view, mirrored in (("images", "mirrored"), ("upper", "upper_mirrored"), ("rotated", "rotated_back")):
        i, j = list(views.VIEWS).index(view), list(views.VIEWS).index(mirrored)
        features[[i, j], 599] = features[[j, i], 7]
    found = all_near_pairs(duplicates.describe(features, np.arange(600)), 0.9)
    assert found == {"whole": [[7, 599]], "rotated": [], "upper": [[7, 599]]}


def textures(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 32, 32, 3) uint8: smooth random images."""
    coarse = rng.integers(0, 256, (n, 8, 8), dtype=np.uint8)
    grey = [Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC) for one in coarse]
    return np.stack([np.asarray(one.convert("RGB")) for one in grey])


def test_each_kind_of_copy_is_found_by_its_kind_of_similarity_only():
    rng = np.random.default_rng(0)
    images = textures(600, rng)
    images[500] = images[0]
    images[501] = views.mirror(images[1:2])[0]
    images[502] = views.rotate(images[2:3], views.ANGLE)[0]
    images[503] = views.rotate(images[3:4], -views.ANGLE)[0]
    images[504] = views.rotate(views.mirror(images[4:5]), views.ANGLE)[0]
    images[505, 16:] = images[5, 16:]  # the same lower part only
    images[506, :16] = images[6, :16]  # the lower part is covered
    images[507, :16] = views.mirror(images[7:8])[0, :16]
    y, x = np.mgrid[:32, :32] - 15.5
    inside = np.hypot(x, y) < 15  # what a rotation does not cut off
    features = np.stack([view(images)[:, inside, 0] for view in views.VIEWS.values()])
    descriptors = duplicates.describe(features.astype(np.float32), np.arange(600))
    found = all_near_pairs(descriptors, 0.7)
    assert found["whole"] == [[0, 500], [1, 501]]
    assert found["rotated"] == [[2, 502], [3, 503], [4, 504]]
    assert found["upper"] == [[0, 500], [1, 501], [6, 506], [7, 507]]


def test_too_few_images_have_no_pairs_by_features():
    n = similarity.MIN_IMAGES
    features = faces_with_copies(n, 10)
    assert duplicates.describe(features, np.arange(n - 1)) is None
    assert duplicates.describe(features, np.arange(n)) is not None
    hashes = np.array([1, 2**63, 1], np.uint64)
    pairs, found_by = duplicates.find_pairs(
        hashes, np.zeros(3, np.uint64) + np.uint64(2**62 + 2**50 + 255), None, 0, dict.fromkeys(KINDS, 0.5)
    )
    assert pairs.tolist() == [[0, 2]]
    assert found_by == {"hash_only": 1, "features_only": 0, "both": 0} | dict.fromkeys(KINDS, 0)
    nothing = dict.fromkeys(("test_train", "val_train", "test_val"))
    assert duplicates.across_splits(None, np.array(["train"])) == dict.fromkeys(KINDS, nothing)


def test_pairs_are_counted_by_what_found_them():
    axes = np.eye(9, dtype=np.float32)
    images, upper = axes[[0, 0, 1, 1, 2, 3]], axes[[0, 0, 1, 2, 3, 1]]
    rotated = axes[[4, 5, 6, 7, 8, 2]]  # image 5, rotated, is image 4
    descriptors = Descriptors(images, images, rotated, axes[[4, 5, 6, 7, 8, 8]], upper, upper)
    hashes = np.array([0, 0, 2**20 - 1, 2**40 - 1, 2**40 - 1, 2**60 - 1], np.uint64)
    far = np.full(6, 2**64 - 2**30, np.uint64)
    pairs, found_by = duplicates.find_pairs(hashes, far, descriptors, 2, dict.fromkeys(KINDS, 0.5))
    assert pairs.tolist() == [[0, 1], [2, 3], [2, 5], [3, 4], [4, 5]]
    assert found_by == {"hash_only": 1, "features_only": 3, "both": 1, "whole": 2, "rotated": 1, "upper": 2}
    assert duplicates.group_by_pairs(6, pairs).tolist() == [0, 0, 1, 1, 1, 1]
    _, found_by = duplicates.find_pairs(hashes, far, descriptors, 2, {"whole": 0.5, "rotated": 1.1, "upper": 0.5})
    assert (found_by["features_only"], found_by["rotated"]) == (2, 0)


def test_the_largest_similarities_across_splits():
    descriptors = random_descriptors(np.random.default_rng(0), 60)
    splits = np.array(["train"] * 40 + ["test"] * 15 + ["surplus"] * 5)
    across = duplicates.across_splits(descriptors, splits)
    assert tuple(across) == KINDS
    for kind in KINDS:
        parts = descriptors.rows(slice(40, 55)), descriptors.rows(slice(0, 40))
        largest = similarity.max_similarity(*parts, kind).max()
        assert across[kind] == {"test_train": pytest.approx(largest), "val_train": None, "test_val": None}


def test_sizes_of_groups():
    groups = np.repeat(np.arange(4), [1, 2, 40, 60])
    sizes = duplicates.size_histogram(groups, 50)
    assert (sizes["1"], sizes["2"], sizes["33_up"], sizes["images_in_large"]) == (1, 1, 2, 60)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), copies=st.integers(0, 120), max_group=st.integers(2, 12))
def test_no_two_images_above_a_threshold_end_in_different_splits(seed, copies, max_group):
    n, limits = 600, {"whole": 0.5, "rotated": 0.45, "upper": 0.55}
    descriptors = duplicates.describe(faces_with_copies(n, copies, seed), np.arange(n))
    assert descriptors is not None
    hashes = np.random.default_rng(seed).integers(0, 2**63, n).astype(np.uint64)
    pairs, _ = duplicates.find_pairs(hashes, ~hashes, descriptors, 0, limits)
    decoded = pd.DataFrame({"path": [f"{i}.jpg" for i in range(n)], "label": ["with_mask", "without_mask"] * (n // 2)})
    decoded = decoded.assign(bad="", content_hash="", perceptual_hash="", width=1, height=1, format="JPEG")
    manifest = manifests.start(decoded, set(), seed, None)
    manifest["group"] = duplicates.group_by_pairs(n, pairs)
    split = params.load().split.model_copy(update={"max_group": max_group})
    try:
        manifests.assign(manifest, manifests.usable(manifest), seed, split)
    except UserError as error:
        assert "too few" in str(error)
        return
    splits = manifest["split"].to_numpy(dtype="<U8")
    for kind, across in duplicates.across_splits(descriptors, splits).items():
        assert max(value for value in across.values() if value is not None) < limits[kind]
    assert manifests.summary(manifest, max_group)["cross_split_duplicates"] == 0
    sizes = manifest.groupby("group")["path"].transform("size")
    assert (splits[sizes > max_group] == "train").all()


# Approximate search


def described(n: int, copies: int) -> Descriptors:
    descriptors = duplicates.describe(faces_with_copies(n, copies), np.arange(n))
    assert descriptors is not None
    return descriptors


def test_with_every_cell_probed_the_approximate_search_is_exact(monkeypatch):
    monkeypatch.setattr(approximate, "ROWS_AT_ONCE", 250)
    monkeypatch.setattr(approximate, "PROBED", 1000)
    descriptors = described(600, 150)
    cells = approximate.fit_cells(descriptors)
    assert cells.images.shape == (98, descriptors.images.shape[1])  # 4 √600
    assert np.linalg.norm(cells.images, axis=1) == pytest.approx(1, abs=1e-5)
    splits = np.array(["train", "test", "val", "surplus"] * 150)
    for kind in KINDS:
        found = approximate.near_pairs(descriptors, kind, 0.3, cells)
        assert found.dtype == np.int64
        assert found.tolist() == sorted(similarity.near_pairs(descriptors, kind, 0.3).tolist())
        assert len(found) > 100 or kind == "rotated"
    exact, across = (duplicates.across_splits(descriptors, splits, choice) for choice in (None, cells))
    for kind in KINDS:
        assert across[kind] == pytest.approx(exact[kind], abs=1e-5)


def test_the_approximate_search_finds_most_pairs_invents_none_and_is_repeatable():
    descriptors = described(3000, 1000)
    exact = {tuple(pair) for pair in similarity.near_pairs(descriptors, "whole", 0.5).tolist()}
    found = [approximate.near_pairs(descriptors, "whole", 0.5, approximate.fit_cells(descriptors)) for _ in range(2)]
    assert np.array_equal(found[0], found[1])
    pairs = {tuple(pair) for pair in found[0].tolist()}
    assert len(exact) >= 1000 and pairs <= exact and len(pairs) >= 0.98 * len(exact)


def test_splits_without_images_have_no_largest_similarity():
    descriptors = described(600, 10)
    across = duplicates.across_splits(descriptors, np.full(600, "train"), approximate.fit_cells(descriptors))
    assert across == dict.fromkeys(KINDS, dict.fromkeys(("test_train", "val_train", "test_val")))
