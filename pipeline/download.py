"""Stage `download`: the images of both classes as one zip, from Kaggle, a zip, a folder, or synthetic.

    python -m pipeline.download

Reads the source that data.source selects; writes data/raw/images.zip and metrics/data.json (source, number of images
per class, SHA-256 of the zip). Parameters: seed, data.source, data.kaggle, data.path, data.synthetic_per_class. A
complete download from Kaggle is not repeated.

Expect a download of 122 MB from Kaggle, or about a second to copy or pack a local source.
"""

from __future__ import annotations

from pathlib import Path

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.sources import training_sources

ARCHIVE = Path("data/raw/images.zip")
PROVENANCE = Path("metrics/data.json")


def main() -> None:
    with tracking.stage("download") as run:
        p = params.load()
        data = p.data
        source = (data.source, data.kaggle, data.path, data.synthetic_per_class, p.seed)
        name = training_sources.name_of(*source)

        provenance = training_sources.reusable_provenance(ARCHIVE, PROVENANCE, data.source, name)
        kept = provenance is not None
        if provenance is None:
            provenance = training_sources.make_archive(ARCHIVE, *source)
            files.write_json(PROVENANCE, provenance)

        run.log(
            {key: provenance[key] for key in ("with_mask", "without_mask", "bytes")},
            tags={"data.name": name, "data.sha256": provenance["sha256"]},
            artifacts=[PROVENANCE],
        )
        run.report(
            f"{provenance['with_mask']} images with_mask and {provenance['without_mask']} without_mask from"
            f" {data.source} {name}, {provenance['bytes'] / 1e6:.1f} MB"
            f"{', already complete: not downloaded again' if kept else ''}"
        )


if __name__ == "__main__":
    errors.run(main)
