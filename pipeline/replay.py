"""Stage `replay`: what the live page would show and count while it watches the clip, with both models.

    python -m pipeline.replay

Reads data/unseen/clip.* and models/exported/*.float32.tflite; writes metrics/replay_cnn.json and
metrics/replay_mobilenet.json. Parameters: image_size, unseen.margin, evaluate.threshold, end_to_end.overlap, live.*.
Any other film: `python -m pipeline.serve.replay FILM`.

Times differ from run to run: the latencies are printed and logged, and kept out of the files.
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from pipeline import atomic, errors, params, tracking
from pipeline.scoring.metrics import rounded
from pipeline.serve import litert, replay
from pipeline.serve.following import WITH_MASK, WITHOUT_MASK
from pipeline.serve.session import Session
from pipeline.tracking import MODELS

CLIP, TABLE = Path("data/unseen/clip.mp4"), Path("data/unseen/clip.csv")
OF_TIME = ("seconds", "fps", "latency_ms_")  # keys, or how they begin, of what is never the same twice


def timeless(summary: dict) -> dict:
    """A session's figures without those of time."""
    return {key: value for key, value in summary.items() if not key.startswith(OF_TIME) and key != "model"}


def replay_clip(p: params.Params) -> tuple[dict[str, dict], dict[str, Session]]:
    """The figures of both models on the stage's clip, and their sessions."""
    for path in (CLIP, TABLE):
        if not path.exists():
            raise errors.UserError(f"{path} is missing: run `dvc repro clip`")
    table = pd.read_csv(TABLE)
    truth = {name: replay.Truth(p.end_to_end.overlap) for name in MODELS}
    boxes = table[["left", "top", "right", "bottom"]].to_numpy()
    sessions = {name: Session(p.live, p.evaluate.threshold) for name in MODELS}
    # Frame by frame; a clip of another length than its table is a bug, which `strict` tells.
    for (_, shown), label, box in zip(replay.watch(CLIP, sessions, p), table["label"], boxes, strict=True):
        if isinstance(label, str):  # a frame without a face has none
            for name in MODELS:
                truth[name].add(shown[name], label, tuple(box))
    return {name: timeless(sessions[name].summary()) | truth[name].summary() for name in MODELS}, sessions


def main() -> None:
    started = time.time()
    p = params.load()
    tracking.check()
    results, sessions = replay_clip(p)
    for name in MODELS:
        path = Path("metrics") / f"replay_{name}.json"
        atomic.write_json(path, rounded(results[name]))
        times = {k: v for k, v in sessions[name].summary().items() if k.startswith("latency_ms_")}
        tracking.log_model_metrics(
            name,
            digest=tracking.weights_digest(litert.weights_of(name)),
            metrics=tracking.flatten({"replay": {**results[name], **times}}),
            artifacts=[path],
        )
    tracking.log_stage("replay", params=tracking.flatten({"live": p.live.model_dump()}), started=started)
    for name in MODELS:
        r, s = results[name], sessions[name].summary()
        confidence = ", ".join(
            f"{label.replace('_', ' ')} {r[f'mean_confidence_{label}']:.2%}"
            for label in (WITH_MASK, WITHOUT_MASK)
            if r[f"mean_confidence_{label}"] is not None
        )
        filmed = (
            f"the filmed face found in {r['filmed_face_found']:.1%} of its frames, labelled right in"
            f" {r['filmed_face_right']:.1%}, wrong in {r['filmed_face_wrong']:.1%}"
            if r["filmed_face_found"] is not None
            else "nobody is filmed"
        )
        print(
            f"replay: {name} mean confidence {confidence or 'unknown'}; {filmed}; {s['latency_ms_p50']:.0f} ms a frame"
        )
    print(f"replay: {time.time() - started:.1f} s")


if __name__ == "__main__":
    errors.run(main)
