"""Stage `counterfactuals`: changed copies of training and validation faces, for the trainings to mix with the others.

    python -m pipeline.counterfactuals

Reads data/split/; writes data/counterfactuals/images.npy, (n, size, size, 3) uint8, and manifest.csv, a row for each:
kind, label, split, and the row of the image that was changed. Parameters: seed, data.shard_images,
augment.incorrect_as. Reads training and validation images only. Expect a minute on 2 cores.
"""

from __future__ import annotations

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import counterfactual_pool, packing


def main() -> None:
    with tracking.stage("counterfactuals") as run:
        p = params.load()
        manifest = packing.read_manifest()
        used = manifest[manifest["split"].isin(["train", "val"])]
        with files.replacing(packing.COUNTERFACTUALS_PATH) as path:
            incorrect = p.augment.incorrect_as == "without_mask"
            table = counterfactual_pool.write(path, used, p.seed, incorrect, p.data.shard_images)
        files.write_csv(packing.COUNTERFACTUALS_PATH.with_name("manifest.csv"), table)
        kinds = table["kind"].value_counts().sort_index().to_dict()
        run.log({"images": len(table), "kinds": kinds})
        counts = ", ".join(f"{name} {n}" for name, n in kinds.items())
        run.report(f"{len(table)} changed copies of {table['source_row'].nunique()} images: {counts}")


if __name__ == "__main__":
    errors.run(main)
