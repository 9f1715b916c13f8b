"""Stage `draw_hard_cases`: changed copies of validation and test faces, to measure the models on hard cases.

    python -m pipeline.draw_hard_cases

Draws every case of pipeline/hard_cases/cases.py on the same at most hard_cases.faces test faces of each class, and on
hard_cases.val_faces validation faces, which may be used to choose how to train. Reads data/split/ and data/unseen/;
writes data/hard_cases/images.npy (packed, with the unchanged originals), data/hard_cases/manifest.csv (one row per
image), data/hard_cases/faces.csv (what pipeline/hard_cases/subsets.py measures of every test and unseen face) and
plots/hard_cases.png (examples from the validation set). No training or unseen face is drawn on. Parameters: seed,
hard_cases.*. Expect 2 minutes on two cores, 0.5 GB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import hard_cases, packing, unseen
from pipeline.hard_cases import drawn_set, example_sheet
from pipeline.scoring import sheets

SHEET = Path("plots/hard_cases.png")


def main() -> None:
    with tracking.stage("draw_hard_cases") as run:
        p = params.load()
        manifest, others = packing.read_manifest(), unseen.read_manifest()
        size = packing.open_images().shape[1]
        numbers = {"val": p.hard_cases.val_faces, "test": p.hard_cases.faces}
        descriptors = pd.concat(
            [
                drawn_set.describe_all(manifest[manifest["split"].isin(list(numbers))], packing.IMAGES_PATH),
                drawn_set.describe_all(others[others["split"] == unseen.UNSEEN], unseen.IMAGES_PATH),
            ],
            ignore_index=True,
        )
        chosen = drawn_set.choose(descriptors, numbers, p.seed)
        with files.replacing(hard_cases.IMAGES_PATH) as aside:
            table = drawn_set.draw_all(chosen, aside, size, p.seed)
            images = np.load(aside, mmap_mode="r")
            sheets.write(example_sheet.draw(table, images), SHEET)
        files.write_csv(hard_cases.MANIFEST_PATH, table)
        measured = descriptors[descriptors["split"] != "val"]
        files.write_csv(hard_cases.FACES_PATH, measured[hard_cases.FACE_COLUMNS], "%.4g")

        faces = {f"{split}_{label}": int(n) for (split, label), n in chosen.groupby(["split", "label"]).size().items()}
        run.log({"images": len(table), "faces": faces}, artifacts=[SHEET])
        counts = ", ".join(f"{n} of {name}" for name, n in faces.items()) or "none"
        run.report(f"{len(table):,} images of {table['case'].nunique()} cases; faces: {counts}")


if __name__ == "__main__":
    errors.run(main)
