"""Stage `unseen_download`: the foreign set as one zip, from Kaggle, a zip, a folder, a CSV, or drawn.

    python -m pipeline.unseen_download

Reads what unseen.source names; writes data/raw/unseen.zip, and metrics/unseen_data.json, which says where it is from,
how many pictures and faces it has, which pictures of a CSV could not be had, and what its SHA-256 is. Parameters: seed,
unseen.source, unseen.kaggle, unseen.path, unseen.synthetic_scenes, unseen.url_megabytes, unseen.url_seconds. A zip from
Kaggle that is already there and whole is not fetched again.
"""

from __future__ import annotations

import time
from pathlib import Path

from pipeline import atomic, errors, params, tracking
from pipeline.data import foreign, sources, unseen


def main() -> None:
    started = time.time()
    tracking.check()
    p = params.load()
    u = p.unseen
    described = (u.source, u.kaggle, u.path, u.synthetic_scenes, p.seed)
    name = foreign.name_of(*described)

    provenance = sources.already_there(unseen.ARCHIVE, unseen.PROVENANCE, u.source, name)
    fetched = provenance is None
    if provenance is None:
        limits = (round(u.url_megabytes * 1e6), u.url_seconds)
        provenance = foreign.make_archive(unseen.ARCHIVE, *described, *limits)
        atomic.write_json(unseen.PROVENANCE, provenance)

    tracking.log_stage(
        "unseen_download",
        params={
            "seed": p.seed,
            "unseen.source": u.source,
            "unseen.kaggle": u.kaggle,
            "unseen.path": Path(u.path).name if u.path else None,
            "unseen.synthetic_scenes": u.synthetic_scenes,
            "unseen.url_megabytes": u.url_megabytes,
            "unseen.url_seconds": u.url_seconds,
        },
        metrics=tracking.flatten(
            {
                "pictures": provenance["pictures"],
                "faces": provenance["faces"],
                "failed": len(provenance["failed"]),
                "bytes": provenance["bytes"],
            }
        ),
        tags={"data.name": name, "data.sha256": provenance["sha256"]},
        artifacts=[unseen.PROVENANCE],
        started=started,
    )
    faces = ", ".join(f"{count} {label}" for label, count in provenance["faces"].items())
    print(
        f"unseen_download: {provenance['pictures']} pictures with {faces} from {u.source} {name},"
        f" {provenance['bytes'] / 1e6:.1f} MB"
        f"{'' if fetched else ', already there and whole: not fetched again'}; {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
