"""Stage `decode`: every image of the archive, decoded once.

    python -m pipeline.decode

Reads data/raw/images.zip; writes data/split/images.npy (n, image_size, image_size, 3) uint8, and
data/split/decoded.csv, one row per image in the same order: path, label, content hash, perceptual hashes, width,
height, format, and the reason if it cannot be decoded. No later stage decodes an image of the data set. Parameters:
image_size, data.shard_images. Runs on the Spark cluster that FACE_MASK_SPARK_MASTER names, if that is set:
docs/spark.md.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.dataset.decode_archive import decode_all
from pipeline.sources import archives

ARCHIVE = Path("data/raw/images.zip")


def main() -> None:
    with tracking.stage("decode") as run:
        p = params.load()
        members = [(member, label) for label, names in archives.list_images(ARCHIVE).items() for member in names]
        table = pd.DataFrame(sorted(members), columns=["path", "label"])
        with files.replacing(packing.IMAGES_PATH) as images_path:
            table = table.join(
                decode_all(ARCHIVE, table["path"].tolist(), p.image_size, images_path, p.data.shard_images)
            )
        files.write_csv(packing.DECODED_PATH, table)
        bad = int((table["bad"] != "").sum())
        run.log({"images": len(table), "bad": bad})
        run.report(f"{len(table)} images in {packing.IMAGES_PATH}, {bad} of them cannot be decoded")


if __name__ == "__main__":
    errors.run(main)
