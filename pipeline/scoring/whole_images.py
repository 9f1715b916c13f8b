"""Detect the faces of whole annotated images, match them with the annotations, and classify them as detected."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from face_mask import classifier, cropping, decoding, detector, litert, lockfile
from face_mask.schema import MODELS
from pipeline.core import params
from pipeline.core.parallel import ordered_map
from pipeline.dataset import face_crops, packing, unseen
from pipeline.scoring.detection import match
from pipeline.sources import annotated_images, archives

# An image with its annotations, and the paths of those of its faces that are evaluated.
Item = tuple[annotated_images.AnnotatedImage, frozenset[str]]


def select_images(contents: annotated_images.Contents, manifest: pd.DataFrame) -> list[Item]:
    """The images with boxes; their evaluated faces are those on which both models are evaluated.

    An image without any is included for its false detections, unless it cannot be read, its boxes are meant for
    another size, or it is a near-duplicate of a training image.
    """
    if contents.kind == "folders":
        return []
    split = dict(zip(manifest["path"], manifest["split"], strict=True))
    items = []
    for annotated in contents.images:
        if annotated.image is None:
            continue
        paths = [f"{annotated.name}#{i}" for i in range(1, len(annotated.faces) + 1)]
        evaluated = frozenset(path for path in paths if split.get(path) == unseen.UNSEEN)
        if evaluated or {split.get(path) for path in paths} <= {face_crops.TOO_SMALL, face_crops.BAD_BOX}:
            items.append((annotated, evaluated))
    return items


def detect_faces(
    archive: Path, size: int, margin: float, iou_threshold: float, detector_name: str, item: Item
) -> tuple[list[str], np.ndarray, list[dict]]:
    """Detect the faces of one image.

    Returns the paths of the k evaluated faces that are detected; the crops (k + m, size, size, 3) uint8 of these and
    of the m detections that match no annotated face of any size; and a dict of image, face_size and `apart` (see
    detection_metrics) for each of the m.
    """
    annotated, evaluated = item
    try:
        with zipfile.ZipFile(archive) as zf:
            rgb = decoding.open_rgb(archives.read_member(zf, str(annotated.image)))[0]
    except (decoding.BadImage, zipfile.BadZipFile) as error:
        if evaluated:
            raise packing.damaged(archive, f"{annotated.image}: {error}", "unseen_download") from None
        return [], np.empty((0, size, size, 3), np.uint8), []  # the manifest does not list images without faces
    boxes = {}
    for i, face in enumerate(annotated.faces, 1):
        if face.box and (box := cropping.in_pixels(face.box, face.relative, *rgb.size)):
            boxes[f"{annotated.name}#{i}"] = box
    annotated_boxes = np.array([*boxes.values()])
    image = np.asarray(rgb)
    detections = detector.detect(image, name=detector_name)[:, :4]
    indices = match(annotated_boxes, detections, iou_threshold)
    detected = {path: detections[k] for path, k in zip(boxes, indices, strict=True) if k >= 0 and path in evaluated}
    unmatched = [k for k in range(len(detections)) if k not in indices]
    cropped = np.array([*detected.values(), *detections[unmatched]]).reshape(-1, 4)
    overlapping = np.flatnonzero(cropping.intersection_over_union(annotated_boxes, detections).sum(axis=0))
    false = [
        {"image": annotated.name, "face_size": float((box[2:] - box[:2]).min()), "apart": k not in overlapping}
        for k, box in zip(unmatched, detections[unmatched], strict=True)
    ]
    return [*detected], classifier.crop_faces(image, cropped, size, margin), false


def detect_and_classify(items: Sequence[Item], p: params.Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables: the detected faces and the false detections.

    A detected face has its path, `detected` (True) and P(with_mask) of each model; a false detection has image,
    face_size and `apart` as `detect_faces` returns them, and P(with_mask) too.
    """
    classify = {name: litert.load(lockfile.checked(litert.path_of(name))) for name in MODELS}
    arguments = (p.image_size, p.unseen.margin, p.end_to_end.iou_threshold, p.detector.name)
    detect = partial(detect_faces, unseen.ARCHIVE, *arguments)
    detected: list[dict] = []
    false: list[dict] = []
    bar = tqdm(items, unit="image", desc="detect", delay=1)
    for _, (paths, crops, more) in zip(bar, ordered_map(detect, items), strict=True):
        # Six digits: later digits are rounding errors, which differ from machine to machine.
        probabilities = {name: model(crops).astype(float).round(6) for name, model in classify.items()}
        rows = [*({"path": path, "detected": True} for path in paths), *more]
        rows = [row | {name: y[i] for name, y in probabilities.items()} for i, row in enumerate(rows)]
        detected += rows[: len(paths)]
        false += rows[len(paths) :]
    faces = pd.DataFrame(detected, columns=["path", "detected", *MODELS]).astype(dict.fromkeys(MODELS, float))
    columns = {"image": str, "face_size": float, "apart": bool, **dict.fromkeys(MODELS, float)}
    return faces, pd.DataFrame(false, columns=[*columns]).astype(columns)
