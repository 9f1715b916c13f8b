"""Stage `download`: the pictures of both classes as one zip, from Kaggle, a zip, a folder, or drawn.

    python -m pipeline.download

Reads what data.source names; writes data/raw/pictures.zip, and metrics/data.json, which says where the pictures are
from, how many there are and what the zip's SHA-256 is. Parameters: seed, data.source, data.kaggle, data.path,
data.synthetic_per_class. A zip from Kaggle that is already there and whole is not fetched again; the 122 MB take
as long as the line does, copying or packing them about a second.
"""

from __future__ import annotations

import time
from pathlib import Path

from pipeline import atomic, errors, params, tracking
from pipeline.data import sources

ARCHIVE = Path("data/raw/pictures.zip")
PROVENANCE = Path("metrics/data.json")


def main() -> None:
    started = time.time()
    tracking.check()
    p = params.load()
    data = p.data
    described = (data.source, data.kaggle, data.path, data.synthetic_per_class, p.seed)
    name = sources.name_of(*described)

    provenance = sources.already_there(ARCHIVE, PROVENANCE, data.source, name)
    fetched = provenance is None
    if provenance is None:
        provenance = sources.make_archive(ARCHIVE, *described)
        atomic.write_json(PROVENANCE, provenance)

    tracking.log_stage(
        "download",
        params={
            "seed": p.seed,
            "data.source": data.source,
            "data.kaggle": data.kaggle,
            "data.path": Path(data.path).name if data.path else None,
            "data.synthetic_per_class": data.synthetic_per_class,
        },
        metrics={key: provenance[key] for key in ("with_mask", "without_mask", "bytes")},
        tags={"data.name": name, "data.sha256": provenance["sha256"]},
        artifacts=[PROVENANCE],
        started=started,
    )
    print(
        f"download: {provenance['with_mask']} pictures with_mask and {provenance['without_mask']} without_mask from"
        f" {data.source} {name}, {provenance['bytes'] / 1e6:.1f} MB"
        f"{'' if fetched else ', already there and whole: not fetched again'}; {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
