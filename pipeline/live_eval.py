"""Stage `live_eval`: run the live page's detection, classification and tracking on the clip, with both models.

    python -m pipeline.live_eval

Reads data/unseen/clip.* and models/exported/*.float32.tflite; writes metrics/live_cnn.json and
metrics/live_mobilenet.json. Parameters: image_size, detector.name, unseen.margin, evaluate.threshold,
end_to_end.iou_threshold and live.*. For any other video: `python -m face_mask.replay VIDEO`.

Latencies differ from run to run: they are printed and logged to MLflow, but not written to the files.
"""

from __future__ import annotations

from pathlib import Path

from face_mask import errors, files, litert, lockfile, replay, video
from face_mask.classifier import FaceClassifier
from face_mask.schema import MODELS, TITLES, WITH_MASK, WITHOUT_MASK
from face_mask.session import Session
from pipeline import tracking
from pipeline.core import params
from pipeline.dataset import packing
from pipeline.scoring.metrics import rounded

CLIP, TABLE = Path("data/unseen/clip.mp4"), Path("data/unseen/clip.csv")
TIMING = ("seconds", "fps", "latency_ms_")  # prefixes of the metrics that differ from run to run


def without_timing(summary: dict) -> dict:
    """The metrics of a session that are the same in every run."""
    return {key: value for key, value in summary.items() if not key.startswith(TIMING) and key != "model"}


def replay_clip(p: params.Params) -> tuple[dict[str, dict], dict[str, Session]]:
    """The metrics of each model on the clip, and its session. Raises UserError if the clip or a model is missing."""
    for path in (CLIP, TABLE):
        if not path.exists():
            raise errors.UserError(f"{path} is missing: run `dvc repro clip`")
    classifiers = [
        FaceClassifier.load(
            lockfile.checked(litert.path_of(name)),
            name=name,
            size=p.image_size,
            margin=p.unseen.margin,
            threshold=p.evaluate.threshold,
            detector_name=p.detector.name,
        )
        for name in MODELS
    ]
    calibrations = {one.name: one.calibration for one in classifiers}
    sessions = {name: Session(p.live, p.evaluate.threshold, calibrations) for name in MODELS}
    accuracy = {name: replay.FrameAccuracy(p.end_to_end.iou_threshold) for name in MODELS}
    sides = ["left", "top", "right", "bottom"]
    table = packing.read_table(
        TABLE, ["label", *sides], "clip", {"label": str, **dict.fromkeys(sides, float)}, keep_default_na=True
    )
    boxes = table[sides].to_numpy()
    frames = replay.replay_video(CLIP, classifiers, sessions, p.live.detector_side)
    n = 0
    try:
        for faces in frames:
            # The label is NaN in a frame without a face.
            if n < len(table) and isinstance(label := table["label"].iloc[n], str):
                for name in MODELS:
                    accuracy[name].add(faces[name], label, tuple(boxes[n]))
            n += 1
    except video.BadVideo as error:
        raise packing.damaged(CLIP, error, "clip") from None
    if n != len(table):
        raise errors.UserError(
            f"{CLIP} has {n} frames, but {TABLE} has {len(table)}, so one of them is cut: run `dvc repro --force clip`"
        )
    return {name: without_timing(sessions[name].summary()) | accuracy[name].summary() for name in MODELS}, sessions


def main() -> None:
    with tracking.stage("live_eval") as run:
        p = params.load()
        results, sessions = replay_clip(p)
        for name, r in results.items():
            path = Path("metrics") / f"live_{name}.json"
            files.write_json(path, rounded(r))
            latencies = {k: v for k, v in sessions[name].summary().items() if k.startswith("latency_ms_")}
            run.log_model(name, {"live": {**r, **latencies}}, artifacts=[path])
            confidence = ", ".join(
                f"{label} {r[f'mean_confidence_{label}']:.2%}"
                for label in (WITH_MASK, WITHOUT_MASK)
                if r[f"mean_confidence_{label}"] is not None
            )
            tracked = (
                f"the annotated face detected in {r['face_detected']:.1%} of its frames, predicted correctly in"
                f" {r['face_correct']:.1%}, incorrectly in {r['face_incorrect']:.1%}"
                if r["face_detected"] is not None
                else "no frame has an annotated face"
            )
            run.report(
                f"{TITLES[name]} mean confidence {confidence or 'unknown'}; {tracked};"
                f" {latencies['latency_ms_p50']:.0f} ms per frame"
            )


if __name__ == "__main__":
    errors.run(main)
