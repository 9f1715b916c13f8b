"""Stage `unseen_faces`: every annotated face of the unseen set, cropped and framed like the training images.

    python -m pipeline.unseen_faces

Reads data/raw/unseen.zip, metrics/unseen_data.json and data/split/; writes data/unseen/images.npy,
data/unseen/manifest.csv (one row per face: its row in the array, or why it is left out) and metrics/unseen_faces.json.
Parameters: seed, image_size, split.hash_distance, unseen.margin, unseen.min_face, unseen.max_similarity.

An image is left out if one of its faces, a wider crop of one, or the whole image is a near-duplicate of a training or
validation image.
"""

from __future__ import annotations

from pathlib import Path

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing, similarity, unseen
from pipeline.dataset.cropped_set import crop_all, known_images, near_duplicates, summary
from pipeline.sources import annotated_images

METRICS = Path("metrics/unseen_faces.json")


def main() -> None:
    with tracking.stage("unseen_faces") as run:
        p = params.load()
        provenance = unseen.read_provenance()
        contents = annotated_images.read(unseen.ARCHIVE)
        known = known_images(packing.read_manifest(), p.image_size, p.seed)
        with files.replacing(unseen.IMAGES_PATH) as images_path:
            framing = (p.image_size, p.unseen.margin, p.unseen.min_face)
            manifest, hashes, features = crop_all(contents, unseen.ARCHIVE, images_path, known.forward, *framing)
            cropped = manifest.index[manifest["row"] >= 0]
            thresholds = dict.fromkeys(similarity.COMPARISONS, p.unseen.max_similarity)
            near, found_by = near_duplicates(
                manifest["path"][cropped], hashes, features, known, p.split.hash_distance, thresholds
            )
            manifest.loc[cropped[near], "split"] = unseen.NEAR_DUPLICATE
            if not (manifest["split"] == unseen.UNSEEN).any():
                raise errors.UserError(
                    f"no face of {provenance['source']} {provenance['name']} is left to evaluate the models on"
                    f" ({', '.join(sorted(set(manifest['split'])))}): choose another data set, or lower unseen.min_face"
                )
        files.write_csv(unseen.MANIFEST_PATH, manifest[unseen.COLUMNS])
        result = summary(manifest, provenance, contents) | {"near_duplicates_found_by": found_by}
        files.write_json(METRICS, result)

        run.log({key: result[key] for key in ("images", "faces", "used", "left_out")}, artifacts=[METRICS])
        used = ", ".join(f"{count} {label}" for label, count in result["used"].items())
        left_out = ", ".join(f"{count} {reason}" for reason, count in result["left_out"].items() if count) or "none"
        run.report(f"{used} of {len(manifest)} faces; left out: {left_out}")


if __name__ == "__main__":
    errors.run(main)
