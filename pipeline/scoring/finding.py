"""Which annotated faces does a detector find, and how often is a found face called what it is?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from pipeline.data.annotation_files import CALLED, INCORRECT
from pipeline.data.framing import intersection_over_union
from pipeline.data.packing import LABELS
from pipeline.scoring.metrics import wilson
from pipeline.scoring.unseen import SIZES


def match(annotated: np.ndarray, detected: np.ndarray, overlap: float) -> np.ndarray:
    """(n,) int64: which of k detections finds each of n annotated faces, -1 where none does; none finds two.

    A detection finds a face where their intersection over union is at least `overlap`. Of all ways to assign them one
    to one, the one that finds most faces, and among those the one that overlaps most.
    """
    shared = intersection_over_union(annotated, detected)
    near = shared >= overlap
    # Below 1 in sum, so that no gain in overlap is worth a face.
    faces, finders = linear_sum_assignment(near * (1 + shared / (1 + min(near.shape))), maximize=True)
    found = np.full(len(shared), -1)
    there = near[faces, finders]
    found[faces[there]] = finders[there]
    return found


def share(right: np.ndarray, name: str, confidence: float) -> dict[str, float | None]:
    """NAME, the share of (n,) bool that is true, with NAME_low and NAME_high, Wilson's interval; None where n is 0."""
    if not len(right):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = wilson(int(right.sum()), len(right), confidence)
    return {name: float(right.mean()), f"{name}_low": low, f"{name}_high": high}


def detection_metrics(
    faces: pd.DataFrame, false: pd.DataFrame, pictures: int, min_face: int, confidence: float
) -> dict:
    """What the detector alone does, of `faces` with label, face_size (pixels) and found (bool).

    `false` are the detections in all `pictures` that find no annotated face of whatever size: their face_size, and
    whether they are `apart`, touching none either. The others are too high, too low, too large, too small or double.
    """
    label, size, found = faces["label"], faces["face_size"], faces["found"].to_numpy(bool)
    return {
        "n": len(faces),
        **share(found, "recall", confidence),
        **{
            key: value
            for one in CALLED
            for key, value in (
                (f"n_{one}", int((label == one).sum())),
                *share(found[label == one], f"recall_{one}", confidence).items(),
            )
        },
        "false_detections": len(false),
        "false_per_picture": len(false) / pictures if pictures else None,
        "false_of_min_face": int((false["face_size"] >= min_face).sum()),
        "false_apart": int(false["apart"].sum()),
        "false_apart_of_min_face": int((false["apart"] & (false["face_size"] >= min_face)).sum()),
        "by_size": {
            name: {"n": int(chosen.sum()), **share(found[chosen], "recall", confidence)}
            for name, chosen in ((name, (size >= low) & (size < high)) for name, (low, high) in SIZES.items())
        },
    }


def classification_of_found(faces: pd.DataFrame, y_prob: np.ndarray, threshold: float, confidence: float) -> dict:
    """What one model makes of the faces that were found; `y_prob` (n,) is P(with_mask), NaN of a face that was not.

    `both` is the share of all faces, those with a mask worn wrong excepted, that are found and called what they are.
    """
    label, found = faces["label"].to_numpy(), faces["found"].to_numpy(bool)
    masked = np.nan_to_num(y_prob) >= threshold
    judged = np.isin(label, LABELS)
    right = found & (masked == (label == LABELS[1]))
    worn_wrong = found & (label == INCORRECT)
    of_label = {one: label == one for one in reversed(LABELS)}
    return {
        "n_found": int((judged & found).sum()),
        **{f"n_found_{one}": int((of & found).sum()) for one, of in of_label.items()},
        **share(right[judged & found], "accuracy", confidence),
        **{
            k: v
            for one, of in of_label.items()
            for k, v in share(right[of & found], f"recall_{one}", confidence).items()
        },
        "n_incorrect_found": int(worn_wrong.sum()),
        **share(masked[worn_wrong], "incorrect_called_mask", confidence),
        "n_both": int(judged.sum()),
        **share(right[judged], "both", confidence),
        **{k: v for one, of in of_label.items() for k, v in share(right[of], f"both_{one}", confidence).items()},
    }
