"""Precision and recall of split.whole_similarity, on pairs of images that were labelled by eye.

    python -m tools.duplicates             print both from docs/results/duplicate_pairs.csv
    python -m tools.duplicates --rebuild   draw the pairs from data/split, keep the labels, write table and sheet

The population is every pair that the perceptual hash does not find and whose `whole` similarity is at least 0.30; the
sample is stratified by that similarity, so each pair counts for the number of pairs of its stratum over the number
labelled there. A label is `same` (one photograph, however it was edited), `different` or `unsure`, which is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from face_mask import errors, files
from face_mask.errors import UserError
from pipeline.core import params
from pipeline.dataset import duplicates, packing, similarity, splitting

TABLE = Path("docs/results/duplicate_pairs.csv")
SHEET = Path("docs/results/duplicate_pairs.jpg")
COLUMNS = ["path_a", "path_b", "similarity", "cosine", "hash_distance", "stratum", "stratum_pairs", "label"]
# Lower edge of each stratum of whitened similarity, and the pairs drawn from it.
STRATA = {0.30: 20, 0.35: 20, 0.40: 40, 0.45: 40, 0.50: 40, 0.55: 40, 0.60: 30, 0.65: 20, 0.70: 20, 0.80: 20}
SEED = 42  # of the draw: the labels belong to these pairs, whatever the seed of the split is
THRESHOLDS = {"similarity": np.arange(0.30, 0.81, 0.05), "cosine": np.arange(0.70, 0.961, 0.025)}
SHOWN = 40  # pairs on the sheet, those closest to the threshold
SIDE = 96


def precision_recall(table: pd.DataFrame, column: str, threshold: float) -> tuple[float, float]:
    """Estimate both for pairs with `column` of at least `threshold`, within the population; NaN if it holds none."""
    decided = table[table["label"] != "unsure"]
    weights = decided["stratum_pairs"] / decided.groupby("stratum")["label"].transform("size")
    found, same = decided[column] >= threshold, decided["label"] == "same"
    hits, positives, relevant = (float(weights[rows].sum()) for rows in (found & same, found, same))
    return hits / positives if positives else np.nan, hits / relevant if relevant else np.nan


def report(table: pd.DataFrame) -> str:
    """Return the labels by stratum, then precision and recall by threshold of each similarity."""
    counts = pd.crosstab([table["stratum"], table["stratum_pairs"]], table["label"])
    rows = [
        f"{column:12} {threshold:9.3f} {precision:9.1%} {recall:6.1%}"
        for column, thresholds in THRESHOLDS.items()
        for threshold in thresholds
        for precision, recall in [precision_recall(table, column, threshold)]
    ]
    return "\n".join([counts.to_string(), "", f"{'':12} threshold precision recall", *rows])


def draw(seed: int, hash_distance: int) -> pd.DataFrame:
    """Draw the pairs from data/split: COLUMNS except the label, by stratum and similarity."""
    decoded = packing.read_decoded()
    paths = decoded["path"].to_numpy()
    features, mirrored = np.asarray(packing.open_view_features()[:2])
    descriptors = duplicates.describe(packing.open_view_features(), np.arange(len(paths)))
    if descriptors is None:
        raise UserError(f"data/split has {len(paths)} images, too few for whitening: run `dvc repro features`")
    a, b = similarity.near_pairs(descriptors, "whole", min(STRATA)).T

    hashes, mirrored_hashes = packing.hashes_of(decoded)
    distance = np.minimum(
        np.bitwise_count(hashes[a] ^ hashes[b]), np.bitwise_count(hashes[a] ^ mirrored_hashes[b])
    ).astype(int)
    unknown = distance > hash_distance  # the hash has not found these
    a, b, distance = a[unknown], b[unknown], distance[unknown]
    assert descriptors.mirrored is not None
    whitened = largest_product(descriptors.images, descriptors.mirrored, a, b)
    edges = np.array(list(STRATA))
    stratum = edges[np.maximum(np.searchsorted(edges, whitened, side="right") - 1, 0)]

    keys = splitting.random_keys([f"{first}|{second}" for first, second in zip(paths[a], paths[b], strict=True)], seed)
    parts = [
        members[np.argsort(keys[members])[:n]]
        for edge, n in STRATA.items()
        for members in [np.flatnonzero(stratum == edge)]
    ]
    drawn = np.concatenate(parts)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, mirrored)]
    cosine = largest_product(unit[0], unit[1], a[drawn], b[drawn])
    sizes = pd.Series(stratum).value_counts()
    values = [
        paths[a[drawn]], paths[b[drawn]], whitened[drawn].round(4), cosine.round(4), distance[drawn], stratum[drawn],
        sizes[stratum[drawn]].to_numpy(),
    ]  # fmt: skip
    table = pd.DataFrame(dict(zip(COLUMNS, values, strict=False)))
    return table.sort_values(["similarity", "path_a", "path_b"], ignore_index=True)


def largest_product(images: np.ndarray, mirrored: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the similarity of rows a and b (m,) of unit vectors (n, k), also of one with the other's mirror: (m,)."""
    sides = ((images, images), (images, mirrored), (mirrored, images))
    products = [np.einsum("ij,ij->i", left[a], right[b], dtype=np.float64) for left, right in sides]
    return np.max(products, axis=0)


def draw_sheet(table: pd.DataFrame, threshold: float) -> Image.Image:
    """Draw the SHOWN pairs whose similarity is closest to `threshold`, with similarity and label."""
    rows = {path: i for i, path in enumerate(packing.read_decoded()["path"])}
    images = packing.open_images()
    closest = table.loc[(table["similarity"] - threshold).abs().sort_values(kind="stable").index[:SHOWN]]
    width, height, across = 2 * SIDE + 12, SIDE + 16, 5
    sheet = Image.new("RGB", (across * width, -(-len(closest) // across) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, pair in enumerate(closest.sort_values("similarity").itertuples()):
        x, y = place % across * width, place // across * height
        pen.text((x + 2, y + 2), f"{pair.similarity:.3f} {pair.label}", fill="black")
        for k, path in enumerate((pair.path_a, pair.path_b)):
            sheet.paste(Image.fromarray(images[rows[path]]).resize((SIDE, SIDE)), (x + k * (SIDE + 1), y + 15))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rebuild", action="store_true", help="needs the stages decode and features")
    args = parser.parse_args()
    table = pd.read_csv(TABLE)
    if args.rebuild:
        p = params.load().split
        labels = table[["path_a", "path_b", "label"]]
        table = draw(SEED, p.hash_distance).merge(labels, how="left", on=["path_a", "path_b"])
        if lacking := int(table["label"].isna().sum()):
            raise UserError(
                f"{lacking} of the drawn pairs have no label in {TABLE}: label them, or undo what changed the draw"
            )
        files.write_csv(TABLE, table[COLUMNS])
        draw_sheet(table, p.whole_similarity).save(SHEET, quality=80)
    print(report(table))


if __name__ == "__main__":
    errors.run(main)
