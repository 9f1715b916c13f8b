"""Match detections with annotated faces, and compute detection and end-to-end metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from face_mask.cropping import intersection_over_union
from face_mask.schema import INCORRECT, LABELS, WITH_MASK, WITHOUT_MASK
from pipeline.scoring.metrics import wilson
from pipeline.scoring.unseen_metrics import SIZES

ALL_LABELS = (WITH_MASK, WITHOUT_MASK, INCORRECT)


def match(annotated: np.ndarray, detected: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Index of the detection (k, 4) that matches each annotated box (n, 4), or -1: (n,) int64, one to one.

    A pair matches from an intersection over union of `iou_threshold` on. As many boxes as possible are matched, and
    among the ways to do so the one with the largest sum of intersections over union is taken.
    """
    iou = intersection_over_union(annotated, detected)
    close = iou >= iou_threshold
    # The second term sums to less than 1, so that no gain in overlap outweighs a match.
    rows, columns = linear_sum_assignment(close * (1 + iou / (1 + min(close.shape))), maximize=True)
    matched = close[rows, columns]
    indices = np.full(len(iou), -1)
    indices[rows[matched]] = columns[matched]
    return indices


def proportion(values: np.ndarray, name: str, confidence: float) -> dict[str, float | None]:
    """The proportion of (n,) bool that is true as `name`, with Wilson's interval; None if n is 0."""
    if not len(values):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = wilson(int(values.sum()), len(values), confidence)
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def detection_metrics(faces: pd.DataFrame, false: pd.DataFrame, images: int, min_face: int, confidence: float) -> dict:
    """Metrics of the detector alone; `faces` has label, face_size (pixels) and detected (bool).

    `false` has the detections in all `images` that match no annotated face of any size: their face_size, and `apart`,
    whether they overlap no annotated face at all. The others are misplaced, of the wrong size, or duplicates.
    """
    label, size, detected = faces["label"], faces["face_size"], faces["detected"].to_numpy(bool)
    metrics = {"n": len(faces), **proportion(detected, "recall", confidence)}
    for one in ALL_LABELS:
        metrics[f"n_{one}"] = int((label == one).sum())
        metrics |= proportion(detected[label == one], f"recall_{one}", confidence)
    large = false["face_size"] >= min_face
    metrics |= {
        "false_detections": len(false),
        "false_per_image": len(false) / images if images else None,
        "false_of_min_face": int(large.sum()),
        "false_apart": int(false["apart"].sum()),
        "false_apart_of_min_face": int((false["apart"] & large).sum()),
    }
    by_size = {}
    for name, (low, high) in SIZES.items():
        selected = (size >= low) & (size < high)
        by_size[name] = {"n": int(selected.sum()), **proportion(detected[selected], "recall", confidence)}
    return {**metrics, "by_size": by_size}


def detected_face_metrics(faces: pd.DataFrame, y_prob: np.ndarray, threshold: float, confidence: float) -> dict:
    """Metrics of one model on the detected faces; `y_prob` (n,) is P(with_mask), NaN of a face that was not detected.

    `faces` has label and detected (bool). `end_to_end_accuracy` is the proportion of all faces, those with an
    incorrectly worn mask excepted, that are detected and classified correctly.
    """
    label, detected = faces["label"].to_numpy(), faces["detected"].to_numpy(bool)
    y_pred = np.nan_to_num(y_prob) >= threshold
    in_classes = np.isin(label, LABELS)
    correct = detected & (y_pred == (label == WITH_MASK))
    incorrectly_worn = detected & (label == INCORRECT)
    of_label = {one: label == one for one in (WITH_MASK, WITHOUT_MASK)}

    def by_label(values: np.ndarray, name: str, subset: np.ndarray) -> dict[str, float | None]:
        metrics: dict[str, float | None] = {}
        for one, members in of_label.items():
            metrics |= proportion(values[members & subset], f"{name}_{one}", confidence)
        return metrics

    return {
        "n_detected": int((in_classes & detected).sum()),
        **{f"n_detected_{one}": int((members & detected).sum()) for one, members in of_label.items()},
        **proportion(correct[in_classes & detected], "accuracy", confidence),
        **by_label(correct, "recall", detected),
        "n_incorrect_detected": int(incorrectly_worn.sum()),
        **proportion(y_pred[incorrectly_worn], "incorrect_called_mask", confidence),
        "n_end_to_end": int(in_classes.sum()),
        **proportion(correct[in_classes], "end_to_end_accuracy", confidence),
        **by_label(correct, "end_to_end_accuracy", in_classes),
    }
