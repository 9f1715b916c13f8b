"""The descriptions that MLflow shows on the page of the experiment and of each run, in Markdown."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pipeline

TAG = "mlflow.note.content"
EXPERIMENT = """\
A small CNN and MobileNetV2, which classify faces as with or without a face mask. Each run in the list is one DVC \
experiment, with all its parameters and both models' accuracies. To compare two, tick both and press *Compare*; \
below, *Show diff only* hides equal values. The + beside a run lists those of its stages, and with the filter \
`tags.kind = 'model'` only those of its two models.
"""
LIVE = "A session of the live page or a replayed video: frame rate, latency and predictions of one model."


def of_experiment(name: str, commit: str | None, params: Mapping[str, str], before: Mapping[str, str] | None) -> str:
    """Describe a DVC experiment: its commit and how its parameters differ from `before`, those of that commit."""
    lines = [f"DVC experiment `{name}`" + (f" on commit `{commit[:8]}`." if commit else ".")]
    if before is not None:
        names = sorted(key for key in params.keys() | before.keys() if params.get(key) != before.get(key))
        changed = [f"`{key}` {before.get(key, 'missing')} → {params.get(key, 'missing')}" for key in names]
        lines.append(f"Parameters that differ from that commit: {', '.join(changed) or 'none'}.")
    lines.append(
        "The metrics are both models' main ones, `NaN` if a model was trained again and not evaluated yet. All others"
        " are in the child runs `cnn` and `mobilenet`; the plots are in `evaluate`, `unseen_eval` and `xai`."
    )
    return " ".join(lines)


def of_stage(stage: str, *, model: bool = False) -> str:
    """Describe the run of a stage by the first line of its module's docstring; `model`: the run of a trained model."""
    path = Path(pipeline.__file__).parent / f"{stage}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None
    about = (text or f"Stage `{stage}`.").partition("\n")[0]
    if model:
        return (
            f"{about} Metrics `epoch.*` are the curves of the training, `train.*`, `val.*` and `test.*` those of stage"
            " `evaluate`, `unseen.*` of images from another source. The weights are among the artifacts."
        )
    return f"{about} Parameters are those that the stage reads in params.yaml; its files are among the artifacts."
