"""How many annotated faces of a video were detected and classified correctly, for ours and every peer alike."""

from __future__ import annotations

from collections.abc import Sequence

IOU = 0.4  # intersection over union from which a detection is the annotated face, as end_to_end.iou_threshold
Labelled = Sequence  # of a label, left, top, right and bottom


def rates(found: Sequence[Sequence[Labelled]], annotated: Sequence[Sequence[Labelled]], seconds: float) -> dict:
    """Return frames, detected faces and correctly classified faces per second, and the fraction of faces detected.

    Each annotated face counts once, whatever else was detected.
    """
    if len(found) != len(annotated):
        raise ValueError(f"{len(found)} frames, but {len(annotated)} are annotated")
    detected = correct = 0
    for faces, true in zip(found, annotated, strict=True):
        for label, *box in true:
            matches = [one for one in faces if intersection_over_union(one[1:], box) >= IOU]
            detected += bool(matches)
            correct += any((one[0] == "with_mask") == (label == "with_mask") for one in matches)
    total = sum(map(len, annotated))
    return {
        "frames": len(found) / seconds,
        "faces": detected / seconds,
        "correct": correct / seconds,
        "recall": detected / total,
        "accuracy": correct / total,
    }


def intersection_over_union(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two boxes left, top, right, bottom."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    intersection = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return intersection / max(sum(areas) - intersection, 1e-9)
