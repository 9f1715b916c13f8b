"""Stage `unseen_download`: the unseen set as one zip, from Kaggle, a zip, a folder, a CSV, or synthetic.

    python -m pipeline.unseen_download

Reads the source that unseen.source selects; writes data/raw/unseen.zip and metrics/unseen_data.json (source, number of
images and faces, images of a CSV that failed, SHA-256 of the zip). Parameters: seed, unseen.source, unseen.kaggle,
unseen.path, unseen.synthetic_scenes, unseen.url_megabytes, unseen.url_seconds. A complete download from Kaggle is not
repeated.
"""

from __future__ import annotations

from face_mask import errors, files
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import unseen
from pipeline.sources import training_sources, unseen_sources


def main() -> None:
    with tracking.stage("unseen_download") as run:
        p = params.load()
        u = p.unseen
        source = (u.source, u.kaggle, u.path, u.synthetic_scenes, p.seed)
        name = unseen_sources.name_of(*source)

        provenance = training_sources.reusable_provenance(unseen.ARCHIVE, unseen.PROVENANCE, u.source, name)
        kept = provenance is not None
        if provenance is None:
            limits = (round(u.url_megabytes * 1e6), u.url_seconds)
            provenance = unseen_sources.make_archive(unseen.ARCHIVE, *source, *limits)
            files.write_json(unseen.PROVENANCE, provenance)

        run.log(
            {key: provenance[key] for key in ("images", "faces", "bytes")} | {"failed": len(provenance["failed"])},
            tags={"data.name": name, "data.sha256": provenance["sha256"]},
            artifacts=[unseen.PROVENANCE],
        )
        faces = ", ".join(f"{count} {label}" for label, count in provenance["faces"].items())
        run.report(
            f"{provenance['images']} images with {faces} from {u.source} {name},"
            f" {provenance['bytes'] / 1e6:.1f} MB{', already complete: not downloaded again' if kept else ''}"
        )


if __name__ == "__main__":
    errors.run(main)
