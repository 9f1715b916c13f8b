"""Stage `unseen_faces`: every annotated face of the foreign set, cut out and framed as the training pictures are.

    python -m pipeline.unseen_faces

Reads data/raw/unseen.zip, metrics/unseen_data.json and data/split/manifest.csv; writes data/unseen/images.npy (the cut
faces, uint8), data/unseen/manifest.csv (one row a face: what it is, or why it is left out) and
metrics/unseen_faces.json. Parameters: image_size, unseen.margin, unseen.min_face, split.hash_distance.

A face is left out where it, or the whole picture, is a near-twin of a picture that training or validation has seen.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import atomic, errors, params, tracking
from pipeline.data import annotated_pictures, annotation_files, cutting, duplicates, packing, unseen
from pipeline.parallel import ordered_map

METRICS = Path("metrics/unseen_faces.json")
NEAR_TWIN = "near_twin_trained_on"


def cut_all(
    contents: annotated_pictures.Contents, archive: Path, images_path: Path, size: int, margin: float, min_face: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Cut all faces into the array at `images_path`: the manifest, and the greys (n, 4, 32, 32) of the cut faces."""
    cut = partial(cutting.cut_faces, archive=archive, size=size, margin=margin, min_face=min_face)
    rows: list[dict] = []
    greys = [cutting.no_greys()]
    with images_path.open("wb") as file:
        packing.write_header(file, 0, size)
        bar = tqdm(contents.pictures, unit="picture", desc="cut", delay=1)
        for annotated, (pixels, grey, described) in zip(bar, ordered_map(cut, contents.pictures), strict=True):
            for reason in sorted({row.pop("reason") for row in described if "reason" in row}):
                print(f"left out: {annotated.name}: {reason}")
            file.write(pixels.tobytes())
            greys.append(grey)
            rows += described
        every_grey = np.concatenate(greys)
        file.seek(0)  # NumPy leaves room in the header for the first axis to grow
        packing.write_header(file, len(every_grey), size)
    manifest = pd.DataFrame(rows, columns=[column for column in unseen.COLUMNS if column != "row"])
    was_cut = manifest["split"] == unseen.UNSEEN
    return manifest.assign(row=np.where(was_cut, was_cut.cumsum() - 1, -1)), every_grey


def near_twins(greys: np.ndarray, trained_on: pd.DataFrame, distance: int) -> np.ndarray:
    """(n,) bool: which faces, or whose whole pictures, are near-duplicates of pictures of a manifest, also mirrored."""
    known = np.array([int(value, 16) for value in trained_on["perceptual_hash"]], np.uint64)
    near = np.zeros(len(greys), bool)
    for which in range(greys.shape[1]):
        near |= duplicates.near_any(*duplicates.perceptual_hashes(greys[:, which]), known, distance)
    return near


def summary(manifest: pd.DataFrame, provenance: dict, contents: annotated_pictures.Contents) -> dict:
    """metrics/unseen_faces.json: where the faces are from, how many there are of each label, and what is left out."""

    def counts(of: pd.DataFrame) -> dict[str, int]:
        return {label: int((of["label"] == label).sum()) for label in annotation_files.CALLED}

    return {
        **{key: provenance[key] for key in ("source", "name", "sha256", "kind", "pictures")},
        "pictures_not_fetched": len(provenance["failed"]),
        "pictures_not_annotated": contents.not_annotated,
        "faces": counts(manifest),
        "used": counts(manifest[manifest["split"] == unseen.UNSEEN]),
        "left_out": {reason: int((manifest["split"] == reason).sum()) for reason in (*cutting.REASONS, NEAR_TWIN)},
    }


def main() -> None:
    started = time.time()
    p = params.load()
    try:
        provenance = json.loads(unseen.PROVENANCE.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise errors.UserError(
            f"{unseen.PROVENANCE} is missing or damaged: run `dvc repro --force unseen_download`"
        ) from None
    contents = annotated_pictures.read(unseen.ARCHIVE)
    split = packing.read_manifest()
    with atomic.replacing(unseen.IMAGES_PATH) as images_path:
        framing = (p.image_size, p.unseen.margin, p.unseen.min_face)
        manifest, greys = cut_all(contents, unseen.ARCHIVE, images_path, *framing)
        twins = near_twins(greys, split[split["split"].isin(["train", "val"])], p.split.hash_distance)
        cut = manifest.index[manifest["row"] >= 0]
        manifest.loc[cut[twins], "split"] = NEAR_TWIN
        if not (manifest["split"] == unseen.UNSEEN).any():
            raise errors.UserError(
                f"no face of {provenance['source']} {provenance['name']} is left to judge the models on"
                f" ({', '.join(sorted(set(manifest['split'])))}): name another set, or lower unseen.min_face"
            )
    table = manifest[unseen.COLUMNS].to_csv(index=False, float_format="%.6g", lineterminator="\n")
    atomic.write_text(unseen.MANIFEST_PATH, table)
    result = summary(manifest, provenance, contents)
    atomic.write_json(METRICS, result)
    tracking.log_stage(
        "unseen_faces",
        params={
            "image_size": p.image_size,
            "unseen.margin": p.unseen.margin,
            "unseen.min_face": p.unseen.min_face,
            "split.hash_distance": p.split.hash_distance,
        },
        metrics=tracking.flatten({key: result[key] for key in ("pictures", "faces", "used", "left_out")}),
        artifacts=[METRICS, unseen.MANIFEST_PATH],
        started=started,
    )
    used = ", ".join(f"{count} {label}" for label, count in result["used"].items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in result["left_out"].items() if count) or "none"
    print(f"unseen_faces: {used} of {len(manifest)} faces; left out: {left_out}; {time.time() - started:.1f} s")


if __name__ == "__main__":
    errors.run(main)
