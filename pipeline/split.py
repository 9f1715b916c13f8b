"""Stage `split`: near-duplicates grouped, classes balanced, images assigned to training, validation and test.

    python -m pipeline.split

Reads data/split/decoded.csv, the features of stage `features`, and the list of images that split.exclude names; writes
data/split/manifest.csv (one row per image, with its split or why it is left out) and metrics/split.json. Parameters:
seed, split.*, data.max_bad_fraction.
"""

from __future__ import annotations

from pathlib import Path

from face_mask import errors, files
from face_mask.schema import SPLITS
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import approximate, duplicates, exclusion, manifests, packing, similarity

METRICS = Path("metrics/split.json")


def main() -> None:
    with tracking.stage("split") as run:
        p = params.load()
        decoded = packing.read_decoded()
        excluded = exclusion.read(p.split.exclude, set(decoded["path"]))
        manifest = manifests.start(decoded, excluded, p.seed, p.split.per_class)
        manifests.check_undecodable(manifest, p.data.max_bad_fraction)

        usable = manifests.usable(manifest)
        descriptors = duplicates.describe(packing.open_view_features(), usable)
        if descriptors is None:
            few = f"{len(usable)} images are fewer than {similarity.MIN_IMAGES}"
            print(f"split: {few}: near-duplicates are found by perceptual hash alone")
        cells = None
        if descriptors is not None and len(usable) > p.split.exact_up_to:
            print(f"split: {len(usable)} images are more than split.exact_up_to: the search by features is approximate")
            cells = approximate.fit_cells(descriptors)
        pairs, found_by = duplicates.find_pairs(
            *packing.hashes_of(decoded.iloc[usable]),
            descriptors,
            p.split.hash_distance,
            similarity.thresholds(p.split),
            cells,
        )
        manifest.loc[usable, "group"] = duplicates.group_by_pairs(len(usable), pairs)
        manifests.assign(manifest, usable, p.seed, p.split)
        files.write_csv(packing.MANIFEST_PATH, manifest)

        splits = manifest["split"].to_numpy(dtype="<U16")[usable]
        result = manifests.summary(manifest, p.split.max_group) | {
            "pairs": found_by,
            "largest_similarity_across": duplicates.across_splits(descriptors, splits, cells),
        }
        files.write_json(METRICS, result)
        run.log(result, artifacts=[METRICS, packing.MANIFEST_PATH])
        sizes = ", ".join(f"{name} {sum(result[name].values())}" for name in SPLITS)
        run.report(
            f"{result['images']} images: {sizes}; {result['images_in_duplicate_groups']} are in"
            f" {result['duplicate_groups']} groups of near-duplicates"
        )


if __name__ == "__main__":
    errors.run(main)
