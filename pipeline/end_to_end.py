"""Stage `end_to_end`: evaluate detector and models together on whole annotated images, as `predict` uses them.

    python -m pipeline.end_to_end

Reads data/raw/unseen.zip, data/unseen/manifest.csv and models/exported/*.float32.tflite; writes
metrics/end_to_end_cnn.json, metrics/end_to_end_mobilenet.json and data/unseen/end_to_end.csv: for each face that
unseen_eval evaluates, whether it was detected, and the probability of both models for the detected face. The metrics
have the counts by which `predict` corrects the proportion of people with a mask (`rates`), and how well that does
(`prevalence`: see pipeline/scoring/prevalence.py). Parameters: image_size, detector.name, unseen.margin,
unseen.min_face, evaluate.threshold, evaluate.confidence, end_to_end.iou_threshold.

An unseen set without boxes, such as class folders, has nothing to detect: its metrics are empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from face_mask import errors, files
from face_mask.schema import MODELS, TITLES
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import unseen
from pipeline.scoring import prevalence, whole_images
from pipeline.scoring.detection import ALL_LABELS, detected_face_metrics, detection_metrics
from pipeline.scoring.metrics import rounded
from pipeline.sources import annotated_images

TABLE = Path("data/unseen/end_to_end.csv")


def main() -> None:
    with tracking.stage("end_to_end") as run:
        p = params.load()
        contents = annotated_images.read(unseen.ARCHIVE)
        manifest = unseen.read_manifest()
        items = whole_images.select_images(contents, manifest)
        if not items:
            print(f"end_to_end: {unseen.ARCHIVE} has no boxes ({contents.kind}): there is nothing to detect")
        detected, false = whole_images.detect_and_classify(items, p)
        evaluated = manifest["path"].isin({path for _, paths in items for path in paths})
        table = manifest.loc[evaluated, ["path", "label", "face_size"]].merge(detected, "left", "path")
        table["detected"] = table["detected"].eq(True)
        written = table.assign(
            face_size=table["face_size"].map("{:.6g}".format), detected=table["detected"].astype(int)
        )
        files.write_csv(TABLE, written, "%.6f")

        e = p.evaluate
        detection = detection_metrics(table, false, len(items), p.unseen.min_face, e.confidence)
        results = {}
        for name in MODELS:
            path = Path(f"metrics/end_to_end_{name}.json")
            classification = detected_face_metrics(table, table[name].to_numpy(float), e.threshold, e.confidence)
            results[name] = rounded({
                "images": len(items), "detection": detection, **classification,
                **prevalence_metrics(table, false, name, p),
            })  # fmt: skip
            files.write_json(path, results[name])
            run.log_model(name, {"end_to_end": results[name]}, artifacts=[path])
        run.log(artifacts=[TABLE])
        for line in summary_lines(results):
            run.report(line)


def prevalence_metrics(table: pd.DataFrame, false: pd.DataFrame, name: str, p: params.Params) -> dict:
    """The rates of a model, and how well they correct the proportion of people with a mask in other images."""
    counts = prevalence.count_by_image(table, false, name, p.evaluate.threshold, p.unseen.min_face)
    arguments = (counts, p.unseen.min_face, p.evaluate.confidence)
    return {
        "rates": asdict(prevalence.count_rates(counts.sum(), p.unseen.min_face)),
        "prevalence": prevalence.held_out(*arguments)
        | {"everything": prevalence.held_out(*arguments, everything=True)},
    }


def summary_lines(results: dict[str, dict]) -> Iterator[str]:
    """The main metrics in lines; none if there was nothing to detect."""
    images, d = (results[MODELS[0]][key] for key in ("images", "detection"))
    if d["n"]:
        recall = ", ".join(f"{d[f'recall_{one}']:.2%} of {d[f'n_{one}']} {one}" for one in ALL_LABELS if d[f"n_{one}"])
        yield f"detected {recall} faces; {d['false_apart']} detections in {images} images overlap no face"
    for name, r in results.items():
        if r["n_detected"]:
            end_to_end = f"end-to-end accuracy {r['end_to_end_accuracy']:.2%} on {r['n_end_to_end']} faces"
            yield f"{TITLES[name]} accuracy {r['accuracy']:.2%} on {r['n_detected']} detected faces; {end_to_end}"
        if (found := r["prevalence"])["splits"]:
            of_faces = "with a mask in the held-out half: {annotated:.1%} annotated, {naive:.1%} predicted,"
            yield f"{TITLES[name]} {of_faces} {{corrected:.1%}} corrected".format(**found)


if __name__ == "__main__":
    errors.run(main)
