"""The labelled pairs behind the near-duplicate thresholds, and the precision and recall estimated from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from face_mask.errors import UserError
from pipeline.core import params
from pipeline.dataset import similarity
from tools import duplicates

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def labelled() -> pd.DataFrame:
    return pd.read_csv(REPOSITORY / duplicates.TABLE)


def test_the_table_is_a_complete_stratified_sample(labelled):
    assert list(labelled.columns) == duplicates.COLUMNS
    assert set(labelled["label"]) == {"same", "different", "unsure"}
    assert labelled["stratum"].value_counts().to_dict() == duplicates.STRATA
    assert (labelled.groupby("stratum")["stratum_pairs"].nunique() == 1).all()
    assert not labelled.duplicated(["path_a", "path_b"]).any()
    assert (labelled["hash_distance"] > params.load(REPOSITORY / "params.yaml").split.hash_distance).all()


def test_no_test_of_near_duplicates_finds_the_pairs_of_the_independent_check():
    table = pd.read_csv(REPOSITORY / "docs/results/leak_check.csv")
    split = params.load(REPOSITORY / "params.yaml").split
    assert (table["hash_distance"] > split.hash_distance).all()
    for kind, threshold in similarity.thresholds(split).items():
        assert (table[kind] < threshold).all()
    assert not table.duplicated(["split", "path"]).any()
    same = table[table["label"].isin(["same", "composite"])]
    assert same["split"].value_counts().to_dict() == {"val": 17, "test": 8}  # as in duplicates.md
    assert set(table["label"]) == {"same", "composite", "different", "unsure"}


def test_each_pair_counts_for_the_pairs_of_its_stratum():
    rows = [(0.4, 10, 0.42, "same"), (0.4, 10, 0.44, "different"), (0.5, 3, 0.52, "same"), (0.5, 3, 0.55, "unsure")]
    table = pd.DataFrame(rows, columns=["stratum", "stratum_pairs", "similarity", "label"])
    assert duplicates.precision_recall(table, "similarity", 0.40) == pytest.approx((8 / 13, 1.0))
    assert duplicates.precision_recall(table, "similarity", 0.50) == pytest.approx((1.0, 3 / 8))
    assert np.isnan(duplicates.precision_recall(table, "similarity", 0.90)[0])


def test_whitening_finds_more_of_the_same_photographs_than_cosine_does_with_as_many_pairs(labelled):
    precision, recall = duplicates.precision_recall(labelled, "similarity", 0.5)
    assert recall > 0.7
    as_precise = [
        duplicates.precision_recall(labelled, "cosine", threshold)
        for threshold in np.arange(0.7, 0.99, 0.001)
    ]  # fmt: skip
    assert recall > max(found for correct, found in as_precise if correct >= precision)


def test_pairs_are_drawn_from_those_that_the_hash_does_not_find(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    n = 600
    features = rng.normal(size=(n, 32)).astype(np.float32)
    features[1::2] = features[::2] + 0.05 * rng.normal(size=(n // 2, 32))  # image 2i + 1 is a copy of 2i
    hashes = [f"{value:016x}" for value in rng.integers(0, 2**63, n)]
    hashes[1] = hashes[0]
    folder = tmp_path / "data/split"
    folder.mkdir(parents=True)
    decoded = {"path": [f"{i}.jpg" for i in range(n)], "label": "with_mask", "bad": ""}
    pd.DataFrame(decoded | {"perceptual_hash": hashes, "mirrored_hash": "0" * 16}).to_csv(folder / "decoded.csv")
    other_views = rng.normal(size=(5, n, 32)).astype(np.float32)
    np.save(folder / "features.npy", np.concatenate([features[None], other_views]))
    monkeypatch.chdir(tmp_path)

    table = duplicates.draw(seed=1, hash_distance=6)
    top = table[table["stratum"] == 0.8]
    assert len(top) == duplicates.STRATA[0.8] and set(top["stratum_pairs"]) == {n // 2 - 1}
    assert {f"{int(a[:-4]) + 1}.jpg" for a in top["path_a"]} == set(top["path_b"])
    assert "0.jpg" not in set(top["path_a"])
    assert (table["similarity"] >= table["stratum"] - 5e-5).all() and (top["cosine"] > 0.9).all()

    (tmp_path / "docs/results").mkdir(parents=True)
    table.head(3).assign(label="same").to_csv(tmp_path / duplicates.TABLE, index=False)
    monkeypatch.setattr("sys.argv", ["duplicates", "--rebuild"])
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError, match="drawn pairs have no label"):
        duplicates.main()
