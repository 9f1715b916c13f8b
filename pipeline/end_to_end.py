"""Stage `end_to_end`: detector and models together on whole annotated pictures, as `predict` and `live` use them.

    python -m pipeline.end_to_end

Reads data/raw/unseen.zip, data/unseen/manifest.csv and models/; writes data/unseen/end_to_end.csv (every face that
unseen_eval judges: whether it was found, and both probabilities as it was found), metrics/end_to_end_cnn.json and
metrics/end_to_end_mobilenet.json. Parameters: image_size, unseen.margin, unseen.min_face, evaluate.threshold,
evaluate.confidence, end_to_end.overlap. In a set without boxes, as class folders are, there is nothing to find.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import atomic, errors, params, tracking
from pipeline.data import annotated_pictures, archives, cutting, decoding, framing, unseen
from pipeline.data.annotation_files import CALLED
from pipeline.parallel import ordered_map
from pipeline.scoring.finding import classification_of_found, detection_metrics, match
from pipeline.scoring.metrics import rounded
from pipeline.serve import face_detection, judging, litert
from pipeline.tracking import MODELS

TABLE = Path("data/unseen/end_to_end.csv")
Looked = tuple[list[str], np.ndarray, list[dict]]


def whole_pictures(contents: annotated_pictures.Contents, manifest: pd.DataFrame) -> list[tuple]:
    """(picture with its annotation, paths of those of its faces that count) of each picture with boxes.

    Counted are the faces that both models are judged on. A picture with none is there for its false detections, unless
    it cannot be read, its boxes are of another size, or training has seen it.
    """
    if contents.kind == "folders":
        return []
    split = dict(zip(manifest["path"], manifest["split"], strict=True))
    found = []
    for annotated in contents.pictures:
        paths = [f"{annotated.name}#{i}" for i in range(1, len(annotated.faces) + 1)]
        counted = frozenset(path for path in paths if split.get(path) == unseen.UNSEEN)
        if counted or {split.get(path) for path in paths} <= {cutting.TOO_SMALL, cutting.BAD_BOX}:
            found.append((annotated, counted))
    return found


def look(archive: Path, size: int, margin: float, overlap: float, item: tuple) -> Looked:
    """Detect the faces of one picture: the paths of the counted ones that are found, these cut out, (k, size, size, 3)
    uint8, and a row for each detection that finds no annotated face of whatever size."""
    annotated, counted = item
    with zipfile.ZipFile(archive) as zf:
        rgb = decoding.open_rgb(archives.read_member(zf, annotated.picture))[0]
    boxes = {}
    for i, face in enumerate(annotated.faces, 1):
        if box := framing.in_pixels(face.box, face.relative, *rgb.size):
            boxes[f"{annotated.name}#{i}"] = box
    image = np.asarray(rgb)
    detected = face_detection.detect(image)[:, :4]
    finders = match(np.array([*boxes.values()]), detected, overlap)
    found = {path: detected[k] for path, k in zip(boxes, finders, strict=True) if k >= 0 and path in counted}
    cuts = judging.cut(image, np.array([*found.values()]).reshape(-1, 4), size, margin)
    touching = np.flatnonzero(framing.intersection_over_union(np.array([*boxes.values()]), detected).sum(axis=0))
    false = [
        {"face_size": float((box[2:] - box[:2]).min()), "apart": k not in touching}
        for k, box in enumerate(detected)
        if k not in finders
    ]
    return [*found], cuts, false


def detect_and_classify(pictures: list[tuple], p: params.Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """path, found (True) and P(with_mask) by each model of the counted faces that are found; the false detections."""
    classify = {name: litert.load(litert.path_of(name)) for name in MODELS}
    looking = partial(look, unseen.ARCHIVE, p.image_size, p.unseen.margin, p.end_to_end.overlap)
    found: list[dict] = []
    false: list[dict] = []
    bar = tqdm(pictures, unit="picture", desc="detect", delay=1)
    for _, (paths, cuts, more) in zip(bar, ordered_map(looking, pictures), strict=True):
        # Six digits: what is left of a probability after them is rounding, which differs from machine to machine.
        probabilities = {name: model(cuts).astype(float).round(6) for name, model in classify.items()}
        rows = (
            {"path": path, "found": True} | {m: y[i] for m, y in probabilities.items()} for i, path in enumerate(paths)
        )
        found += rows
        false += more
    apart = pd.DataFrame(false, columns=["face_size", "apart"]).astype({"face_size": float, "apart": bool})
    return pd.DataFrame(found, columns=["path", "found", *MODELS]).astype(dict.fromkeys(MODELS, float)), apart


def main() -> None:
    started = time.time()
    tracking.check()
    p = params.load()
    digests = {name: tracking.weights_digest(litert.weights_of(name)) for name in MODELS}
    contents = annotated_pictures.read(unseen.ARCHIVE)
    manifest = unseen.read_manifest()
    pictures = whole_pictures(contents, manifest)
    if not pictures:
        print(f"end_to_end: {unseen.ARCHIVE} has no boxes ({contents.kind}): there is nothing to find, and no figure")
    found, false = detect_and_classify(pictures, p)
    counted = manifest["path"].isin({path for _, paths in pictures for path in paths})
    table = manifest.loc[counted, ["path", "label", "face_size"]].merge(found, "left", "path")
    table["found"] = table["found"].eq(True)
    sized = table.assign(face_size=table["face_size"].map("{:.6g}".format), found=table["found"].astype(int))
    atomic.write_text(TABLE, sized.to_csv(index=False, float_format="%.6f", lineterminator="\n"))

    e = p.evaluate
    detection = detection_metrics(table, false, len(pictures), p.unseen.min_face, e.confidence)
    results = {}
    for name in MODELS:
        classified = classification_of_found(table, table[name].to_numpy(float), e.threshold, e.confidence)
        results[name] = rounded({"pictures": len(pictures), "detection": detection, **classified})
        atomic.write_json(metrics_path(name), results[name])
    for name in MODELS:
        tracking.log_model_metrics(
            name,
            digest=digests[name],
            metrics=tracking.flatten(results[name], "end_to_end."),
            artifacts=[metrics_path(name)],
        )
    tracking.log_stage(
        "end_to_end",
        params={
            "image_size": p.image_size,
            "unseen.margin": p.unseen.margin,
            "unseen.min_face": p.unseen.min_face,
            "evaluate.threshold": e.threshold,
            "evaluate.confidence": e.confidence,
            "end_to_end.overlap": p.end_to_end.overlap,
        },
        artifacts=[TABLE],
        started=started,
    )
    for line in told(results):
        print(f"end_to_end: {line}")
    print(f"end_to_end: {time.time() - started:.1f} s")


def told(results: dict[str, dict]) -> Iterator[str]:
    """The chief figures in lines; none where there was nothing to find."""
    pictures, d = (results[MODELS[0]][key] for key in ("pictures", "detection"))
    if d["n"]:
        found = ", ".join(f"{d[f'recall_{one}']:.2%} of {d[f'n_{one}']} {one}" for one in CALLED if d[f"n_{one}"])
        yield f"found {found} faces; {d['false_apart']} detections in {pictures} pictures touch no face"
    for name, r in results.items():
        if r["n_found"]:
            both = f"{r['both']:.2%} of {r['n_both']} faces found and called right"
            yield f"{name} accuracy {r['accuracy']:.2%} on {r['n_found']} found faces; {both}"


def metrics_path(name: str) -> Path:
    return Path(f"metrics/end_to_end_{name}.json")


if __name__ == "__main__":
    errors.run(main)
