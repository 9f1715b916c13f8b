"""Evaluate a model of any origin on the same images as this project's two: not a stage, it writes nothing by itself.

    python -m pipeline.evaluate_model MODEL [DATA] [--training-data PATH] [--json FILE]

The same as `face-mask evaluate`; face_mask/evaluate.py has the options. Reads data/split/, data/raw/, data/unseen/ and
data/hard_cases/ where they exist, the stages' predictions on them, and params.yaml. Prints how the model was run, a
table per set with confidence intervals and McNemar's test against this project's models, milliseconds per image and,
with --training-data, how many images have a near-duplicate there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from face_mask import errors, evaluate, files, models
from face_mask.errors import UserError, printable
from face_mask.schema import LABELS, MODELS, TITLES, WITH_MASK
from pipeline.core import params
from pipeline.dataset import cropped_set, hard_cases, packing, similarity, unseen
from pipeline.external_models import evaluation_sets, overlap, preprocessing, scores
from pipeline.external_models.evaluation_sets import EvaluationSet
from pipeline.external_models.loading import LoadedModel, load
from pipeline.external_models.preprocessing import Convention, Options
from pipeline.scoring.metrics import rounded
from pipeline.sources import annotated_images

TIMED = 30  # images, predicted one at a time by each model in turn
Described = tuple[np.ndarray, np.ndarray]  # hashes and features, see cropped_set.crop_all
NOTHING_KNOWN = cropped_set.Known(np.empty(0, np.uint64), None, None, None)


def convention_of(model: LoadedModel, args: argparse.Namespace) -> Convention:
    """What the options state, and the rest chosen on validation images; printed."""
    classes = preprocessing.parse_classes(args.classes) if args.classes else None
    options = Options(args.range, args.channels, args.outputs, classes)
    shape = model.shape
    layout = "NCHW" if shape.channels_first else "NHWC"
    print(f"{printable(model.path.name)}: {model.format}, {shape.height}x{shape.width}, {layout}, {model.dtype}")
    if options.is_complete():
        chosen, why = preprocessing.stated(model, options), "as stated"
    elif not packing.MANIFEST_PATH.is_file():
        raise UserError(
            f"{packing.MANIFEST_PATH} is missing, so there are no validation images to choose the preprocessing on: run"
            " `dvc repro split`, or give --range, --channels, --outputs and --classes"
        )
    else:
        pixels, y_true = evaluation_sets.validation((shape.height, shape.width))
        best, second = preprocessing.choose(model, options, pixels, y_true)
        chosen, why = best.convention, f"chosen on {len(y_true)} validation images, accuracy {best.accuracy:.1%}"
        if second:
            why += f"; next {second.convention.pixel_range}, {second.convention.channels}: {second.accuracy:.1%}"
    if model.outputs == 1:
        reading = f"1 output, for {LABELS[chosen.with_mask]}"
    else:
        reading = f"output {chosen.with_mask + 1} of {model.outputs} is {WITH_MASK}"
    pixel_range = preprocessing.IN_WORDS.get(chosen.pixel_range, chosen.pixel_range)
    print(f"range {pixel_range}, channels {chosen.channels}, {chosen.outputs}, {reading} ({why})")
    return chosen


def own_predictions(own: models.Model, faces: EvaluationSet) -> np.ndarray:
    """P(with_mask), (n,), by this project's exported or packaged model."""
    classify = own.load().classify
    return np.concatenate([classify(pixels) for pixels in faces.batches(own.image_size, own.image_size)])


def repository_sets(model_size: tuple[int, int], margin: float, p: params.Params) -> Iterator[EvaluationSet]:
    """The sets of the repository that exist."""
    if packing.MANIFEST_PATH.is_file():
        yield evaluation_sets.test_set(model_size)
    if unseen.MANIFEST_PATH.is_file():
        yield evaluation_sets.unseen_set(model_size, margin, p.unseen.margin)
    if hard_cases.MANIFEST_PATH.is_file() and len((drawn := evaluation_sets.hard_case_set(model_size)).faces):
        yield drawn


def data_set(
    data: Path, folder: Path, known: cropped_set.Known, own: list[models.Model], margin: float, p: params.Params
) -> tuple[EvaluationSet, Described]:
    """The faces of the user's data without near-duplicates of this project's training images, and their features."""
    seconds, megabytes = p.unseen.url_seconds, p.unseen.url_megabytes
    archive = evaluation_sets.pack(data, folder, int(megabytes * 1e6), seconds)
    contents = annotated_images.read(archive, str(data))
    framing = (p.image_size, p.unseen.margin, p.unseen.min_face)
    manifest, hashes, features = cropped_set.crop_all(contents, archive, folder / "faces.npy", known.forward, *framing)
    cropped = manifest[manifest["row"] >= 0].reset_index(drop=True)
    near = np.zeros(len(cropped), bool)
    if len(known.hashes) and len(cropped):
        thresholds = dict.fromkeys(similarity.COMPARISONS, p.unseen.max_similarity)
        near, _ = cropped_set.near_duplicates(
            cropped["path"], hashes, features, known, p.split.hash_distance, thresholds
        )
    left_out = manifest.loc[manifest["row"] < 0, "split"].value_counts().to_dict()
    if near.any():
        left_out["near-duplicates of this project's training images"] = int(near.sum())
    print(f"{printable(data.name)}: left out: {', '.join(f'{n} {why}' for why, n in left_out.items()) or 'none'}")
    if near.all():
        raise UserError(f"{data}: no face is left to evaluate on: choose other images")
    kept = np.flatnonzero(~near)
    faces = cropped.iloc[kept][["path", "label"]].reset_index(drop=True)

    def framed(width: float) -> EvaluationSet:
        read = evaluation_sets.annotated_faces(faces["path"].tolist(), archive, contents, width)
        return EvaluationSet(printable(data.name), "data", faces, read)

    predicted = faces.assign(**{one.name: own_predictions(one, framed(one.margin)) for one in own})
    result = replace(framed(margin), faces=predicted, thresholds={one.name: one.threshold for one in own})
    return result, (hashes[:, kept], features[:, kept])


def describe(faces: EvaluationSet, known: cropped_set.Known, folder: Path, p: params.Params) -> Described:
    """Hashes and features of a set of the repository; of unseen faces also of wider crops, as in `unseen_faces`."""
    if faces.key == "unseen" and unseen.ARCHIVE.is_file():
        contents = annotated_images.read(unseen.ARCHIVE)
        framing = (p.image_size, p.unseen.margin, p.unseen.min_face)
        manifest, hashes, features = cropped_set.crop_all(
            contents, unseen.ARCHIVE, folder / "unseen.npy", known.forward, *framing
        )
        rows = overlap.in_order(faces.faces["path"], manifest)
        return hashes[:, rows], features[:, rows]
    return overlap.describe_images(faces.batches(p.image_size, p.image_size), known.forward)


def near_training(
    faces: EvaluationSet, described: Described, training: cropped_set.Known, p: params.Params
) -> np.ndarray:
    """(n,) bool: the images with a near-duplicate among a model's training images, by the thresholds of the stages."""
    limits = similarity.thresholds(p.split)
    if faces.key != "test":
        limits = dict.fromkeys(similarity.COMPARISONS, p.unseen.max_similarity)
    near, _ = cropped_set.near_duplicates(faces.faces["path"], *described, training, p.split.hash_distance, limits)
    return near


def seconds_per_image(functions: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median time of each function; they alternate, so that noise affects all alike."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(TIMED):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - started)
    return {name: float(np.median(times)) for name, times in taken.items()}


def timing(model: LoadedModel, convention: Convention, name: str, own: list[models.Model]) -> dict[str, float]:
    """Seconds per image of the model and of this project's, one image at a time."""
    shape = model.shape
    pixels = np.full((1, shape.height, shape.width, 3), 128, np.uint8)
    functions: dict[str, Callable[[], object]] = {name: partial(convention.predict, model, [pixels])}
    for one in own:
        image = np.full((1, one.image_size, one.image_size, 3), 128, np.uint8)
        functions[TITLES[one.name]] = partial(one.load().classify, image)
    return seconds_per_image(functions)


def compared(
    faces: EvaluationSet, chosen: np.ndarray, y_prob: np.ndarray, name: str, threshold: float, p: params.Params
) -> dict[str, dict]:
    """scores.compare of the model `name` with those of this project, on some rows (k,) of the set; y_prob (n,)."""
    rows = faces.faces.iloc[chosen]
    own = [one for one in MODELS if one in rows.columns]
    limits = faces.thresholds or dict.fromkeys(own, p.evaluate.threshold)
    probabilities = {name: y_prob[chosen]} | {TITLES[one]: rows[one].to_numpy() for one in own}
    thresholds = {name: threshold} | {TITLES[one]: limits[one] for one in own}
    return scores.compare(rows["label"], probabilities, thresholds, p.evaluate.confidence)


def evaluate_on(
    faces: EvaluationSet, model: LoadedModel, convention: Convention, name: str, threshold: float, p: params.Params
) -> tuple[dict, np.ndarray]:
    """Evaluate on one set, and print its tables. Returns its metrics and P(with_mask), (n,)."""
    y_prob = convention.predict(model, faces.batches(model.shape.height, model.shape.width))
    result: dict = {}
    counts = faces.faces["label"].value_counts()
    side = faces.resized_from
    note = f"; enlarged or reduced from {side}x{side}" if side else ""
    print(f"\n{faces.name}: {', '.join(f'{n} {label}' for label, n in counts.items())}{note}")
    if "case" in faces.faces:  # not all together: the cases show the same faces, so their errors are not independent
        result["cases"] = {
            str(case): compared(faces, rows.index.to_numpy(), y_prob, name, threshold, p)
            for case, rows in faces.faces.groupby("case", sort=True)
        }
        print("\n".join(scores.case_table(result["cases"])))
    else:
        result["models"] = compared(faces, np.arange(len(y_prob)), y_prob, name, threshold, p)
        print("\n".join(scores.table(result["models"])))
    return result, y_prob


def report_overlap(
    args: argparse.Namespace,
    sets: list[EvaluationSet],
    found: Mapping[str, tuple[dict, np.ndarray]],
    described: Mapping[str, Described],
    known: cropped_set.Known,
    folder: Path,
    p: params.Params,
) -> dict[str, int]:
    """Print how many images have a near-duplicate among the training images, and the table without them.

    Adds both to the metrics in `found`, which has them and P(with_mask) by set. Returns the number of training images.
    """
    name = printable(args.model.name)
    training, undecodable = overlap.training_images(args.training_data, known, p.image_size)
    print(f"\n{len(training.hashes)} training images of {name}, {undecodable} more cannot be decoded")
    if training.descriptors is None:
        print(f"with fewer than {similarity.MIN_IMAGES} images here, near-duplicates are found by their hashes alone")
    for faces in (one for one in sets if one.key != "hard_cases"):  # which are drawn on test images
        near = near_training(faces, described.get(faces.key) or describe(faces, known, folder, p), training, p)
        metrics, y_prob = found[faces.key]
        metrics["near_duplicates_of_training"] = int(near.sum())
        print(f"{faces.name}: {near.sum()} of {len(near)} have a near-duplicate among them", end="")
        if near.all() or not near.any():
            print()
            continue
        metrics["without_near_duplicates"] = compared(faces, np.flatnonzero(~near), y_prob, name, args.threshold, p)
        print("; without these:")
        print("\n".join(scores.table(metrics["without_near_duplicates"])))
    return {"used": len(training.hashes), "undecodable": undecodable}


def run(args: argparse.Namespace, folder: Path) -> dict:
    """Evaluate, print everything, and return all metrics."""
    p = params.load()
    margin = p.unseen.margin if args.margin is None else args.margin
    own = models.find_all()
    if args.training_data and not args.training_data.exists():  # not after minutes
        raise UserError(f"{args.training_data} is missing: name the folder or zip of the training images")
    model = load(args.model, args.input_size, args.layout)
    convention = convention_of(model, args)
    name = printable(args.model.name)
    size = (model.shape.height, model.shape.width)

    known, sets, described = NOTHING_KNOWN, [], {}
    if args.training_data or (args.data and packing.MANIFEST_PATH.is_file()):
        known = cropped_set.known_images(packing.read_manifest(), p.image_size, p.seed)
    if args.data:
        if not len(known.hashes):
            print(f"near-duplicates of this project's training images are not looked for: no {packing.MANIFEST_PATH}")
        faces, described["data"] = data_set(args.data, folder, known, own, margin, p)
        sets = [faces]
    else:
        sets = list(repository_sets(size, margin, p))
    if not sets:
        raise UserError("there are no images to evaluate on: run `dvc repro predict unseen_eval`, or name DATA")

    result: dict = {
        "model": name,
        "format": model.format,
        "input": {"height": size[0], "width": size[1], "channels_first": model.shape.channels_first},
        "preprocessing": convention._asdict(),
        "sets": {},
    }
    found = {faces.key: evaluate_on(faces, model, convention, name, args.threshold, p) for faces in sets}
    result["sets"] = {key: metrics for key, (metrics, _) in found.items()}
    result["seconds_per_image"] = timing(model, convention, name, own)
    times = ", ".join(f"{one} {1000 * seconds:.1f}" for one, seconds in result["seconds_per_image"].items())
    print(f"\nmilliseconds per image, one at a time: {times}")

    if not args.training_data:
        print("whether its training images are among these is unknown: name them with --training-data")
        return result
    result["training_images"] = report_overlap(args, sets, found, described, known, folder, p)
    return result


def main() -> None:
    args = evaluate.parse()
    root = models.workspace()
    if root is None:
        raise UserError("this is not the repository: run the command in its folder")
    for option in ("model", "data", "training_data", "json"):
        if value := getattr(args, option):
            setattr(args, option, value.absolute())
    os.chdir(root)
    with tempfile.TemporaryDirectory() as folder:
        result = run(args, Path(folder))
    if args.json:
        files.write_json(args.json, rounded(result))


if __name__ == "__main__":
    errors.run(main, "evaluate")
