"""Table and plot of DVC's experiments on the current commit, the best first: docs/experiments.md has the recipe.

    python -m tools.sweep [--jobs N] [--metric METRIC] [--out FOLDER]

With --jobs, N workers finish DVC's queue first. Experiments that failed, or that lost their worker, are queued again
under their names, so after any interruption the same command goes on.

One row per experiment: the parameters that differ, and the accuracy of both models on validation and on test images.
The best is chosen on validation images only; METRIC is `cnn.val.accuracy`, `mobilenet.val.accuracy` or another
validation accuracy, by default the one of these two that differs most between the experiments.

`dvc exp show` gives an experiment that failed, or that did not run all stages up to its metrics, the metrics of the
commit. Here it has none.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import yaml

from face_mask import errors, files, lockfile
from face_mask.errors import UserError
from face_mask.schema import MODELS
from pipeline.core.values import flatten, text
from pipeline.reporting.cells import UNKNOWN, markdown
from tools import dvc_queue

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

OUT = Path("dvc_plots/sweep")  # which Git ignores
VAL, TEST = ([f"{model}.{split}.accuracy" for model in MODELS] for split in ("val", "test"))
NAME, STATE = "experiment", "state"
MAX_LABELS = 8  # on an axis of the plot
SHOW_AGAIN = (1, 2, 4)  # seconds


def read(commit: str | None = None) -> list[dict[str, Any]]:
    """`name`, `state`, `params` and `metrics` of a commit, by default the current one, and its experiments.

    The commit is the first. Raises UserError if there is no commit or DVC fails.
    """
    options = ["--rev", commit] if commit else []
    for wait in (*SHOW_AGAIN, None):  # it fails while another process sets up an experiment, or removes its folder
        try:
            shown = json.loads(dvc_queue.dvc("exp", "show", "--json", *options))  # the workspace, then the commit
            break
        except UserError:
            if wait is None:
                raise
            time.sleep(wait)
    if len(shown) < 2:
        raise UserError("there is no commit yet: commit, then run experiments, as docs/experiments.md shows")
    head = shown[1]
    found = [entry(head, head["name"], "commit")]
    for one in head["experiments"] or []:
        state = (one["executor"] or {}).get("state") or "success"  # one that ran in the workspace has no executor
        found.append(entry(one["revs"][0], one["name"], "done" if state == "success" else state))
    return [found[0], *without_repeats(found[1:])]


def without_repeats(experiments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out other attempts of an experiment that has finished: after a kill it is queued again under its name."""
    chosen: dict[Any, dict[str, Any]] = {}
    for one in sorted(experiments, key=lambda one: one["state"] != "done"):
        chosen.setdefault(one["name"] or id(one), one)
    return [one for one in experiments if any(one is other for other in chosen.values())]


def entry(shown: dict[str, Any], name: str, state: str) -> dict[str, Any]:
    """Read an experiment of `dvc exp show --json`; metrics are named MODEL.split.metric or MODEL.kind.split.metric."""
    data = shown["data"] or {}
    params = flatten(data.get("params", {}).get("params.yaml", {}).get("data") or {})
    metrics: dict[str, Any] = {}
    if state in ("commit", "done"):
        lock = read_lock(shown["rev"])
        for path, content in data.get("metrics", {}).items():
            kind, _, model = Path(path).stem.rpartition("_")  # metrics/hard_cases_cnn.json belongs to the CNN
            if is_of(lock, path, params):
                metrics |= flatten(content.get("data") or {}, f"{model}.{kind}." if kind else f"{model}.")
    if state == "done" and not any(map(is_val_accuracy, metrics)):
        state = "not evaluated"
    return {"name": name, "state": state, "params": params, "metrics": metrics}


def read_lock(rev: str) -> dict[str, Any]:
    """The stages of dvc.lock in a Git commit; empty if it has none."""
    content = dvc_queue.git("show", f"{rev}:./{lockfile.LOCK}")
    return yaml.load(content, lockfile.Loader)["stages"] if content else {}


def is_of(lock: Mapping[str, Any], path: str, params: Mapping[str, Any]) -> bool:
    """Whether, by dvc.lock, the stage that wrote `path` and all before it ran with these parameters."""
    wrote = {out["path"]: (name, out.get("md5")) for name, stage in lock.items() for out in stage.get("outs", ())}
    if path not in wrote:
        return False
    waiting, seen = [wrote[path][0]], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        used = flatten(lock[name].get("params", {}).get("params.yaml", {}))
        if any(params.get(key) != value for key, value in used.items()):
            return False
        for dep in lock[name].get("deps", ()):
            before, md5 = wrote.get(dep["path"], (None, None))
            if before and md5 != dep.get("md5"):
                return False
            waiting += [before] if before else []
    return True


def choose_metric(experiments: list[dict[str, Any]], wanted: str | None) -> str:
    """The validation accuracy by which the best is chosen. Raises UserError if `wanted` is another or unknown."""
    known = {name for one in experiments for name in one["metrics"] if is_val_accuracy(name)}
    if wanted is None:
        columns = pd.DataFrame([one["metrics"] for one in experiments], columns=VAL, dtype=float)
        return str((columns.max() - columns.min()).round(9).fillna(-1).idxmax())  # the first of equal ones
    if wanted not in known:
        raise UserError(f"--metric {wanted} is not an accuracy on validation images: use {' or '.join(sorted(known))}")
    return wanted


def is_val_accuracy(name: str) -> bool:
    *parts, last = name.split(".")
    return "val" in parts and last.endswith("accuracy")


def table(experiments: list[dict[str, Any]], metric: str) -> tuple[pd.DataFrame, list[str]]:
    """A row per experiment, by descending `metric`, and the parameters that are its columns.

    Raises UserError if there is nothing to compare.
    """
    if len(experiments) == 1:
        raise UserError("the current commit has no experiments: run some, as docs/experiments.md shows")
    if not any(metric in one["metrics"] for one in experiments):
        raise UserError("no experiment is evaluated: see `dvc queue status`, and run them up to the stage `evaluate`")
    names = dict.fromkeys(key for one in experiments for key in one["params"])
    changed = [name for name in names if len({text(one["params"].get(name)) for one in experiments}) > 1]
    columns = [*VAL, *([] if metric in VAL else [metric]), *TEST]
    rows = [
        {NAME: one["name"], STATE: one["state"]}
        | {name: one["params"].get(name) for name in changed}
        | {name: one["metrics"].get(name) for name in columns}
        for one in experiments
    ]
    found = pd.DataFrame(rows, columns=[NAME, STATE, *changed, *columns], dtype=object)  # 9 stays 9 beside 0.5
    found = found.astype(dict.fromkeys(columns, float))
    return found.sort_values(metric, ascending=False, kind="stable", ignore_index=True), changed


def best(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows with the highest value: more than one if it is equal."""
    return rows[rows[metric] == rows[metric].max()]


def document(rows: pd.DataFrame, changed: list[str], metric: str) -> str:
    """The table in Markdown, accuracies in percent and the best in bold, with a sentence on how it was chosen."""
    metrics = [name for name in rows.columns if name not in (NAME, STATE, *changed)]
    lines = [[NAME, STATE, *changed, *metrics]]
    first = set(best(rows, metric)[NAME])
    for row in rows.to_dict("records"):
        cells = [UNKNOWN if pd.isna(row[name]) else f"{row[name]:.2%}".replace("%", " %") for name in metrics]
        name = f"**{row[NAME]}**" if row[NAME] in first else str(row[NAME])
        cells = [name, row[STATE], *(text(row[one]) for one in changed), *cells]
        lines.append([cell.replace("|", "\\|") for cell in cells])
    return f"{markdown(lines)}\n\n{summary(rows, metric)}\n"


def summary(rows: pd.DataFrame, metric: str) -> str:
    """One line: the best, and that the test images had no part in it."""
    first = best(rows, metric)
    equal = f", equal in {len(first)} experiments" if len(first) > 1 else ""
    value = f"{first[metric].iloc[0]:.2%}".replace("%", " %")
    return f"Best by {metric} ({value}{equal}): {', '.join(first[NAME])}. Test images had no part in the choice."


def place(values: pd.Series, percent: bool) -> tuple[pd.Series, dict[float, str]]:
    """Positions of the values on an axis from 0 to 1, and the labels at some positions.

    Parameters of few values, and those that are not numbers, are equally spaced in their order.
    """
    numeric = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    ordered = sorted({*values} if numeric else {text(one) for one in values})
    if numeric and (percent or len(ordered) > MAX_LABELS):
        low, high = ordered[0], ordered[-1]
        ticks = {step / 4: low + (high - low) * step / 4 for step in range(5)} if high > low else {0.5: low}
        shown = {at: f"{100 * tick:.2f}" if percent else f"{tick:.3g}" for at, tick in ticks.items()}
        return (values - low) / (high - low) if high > low else values * 0 + 0.5, shown
    spaced = {one: (i / (len(ordered) - 1) if len(ordered) > 1 else 0.5) for i, one in enumerate(ordered)}
    keys = values if numeric else values.map(text)
    # Experiments with the same value are drawn side by side, by descending metric as the rows are.
    beside = pd.Series([0.04 * (1 - 2 * i / max(1, len(values) - 1)) for i in range(len(values))], values.index)
    return keys.map(spaced) + beside, {at: f"{one:g}" if numeric else one for one, at in spaced.items()}


def draw(rows: pd.DataFrame, changed: list[str], metric: str, path: Path) -> None:
    """Write parallel coordinates as PNG: a line per experiment, an axis per changed parameter and accuracy.

    `metric` is the last axis and the colour; the best is the thick line. Test metrics are left out.
    """
    rows = rows[rows[metric].notna()]
    values = rows[metric].rank(method="min")
    others = [name for name in VAL if name != metric and rows[name].notna().all() and rows[name].nunique() > 1]
    names = [*(name for name in changed if rows[name].map(text).nunique() > 1), *others, metric]
    placed = [place(rows[name], percent=is_val_accuracy(name)) for name in names]
    first = best(rows, metric)[NAME].tolist()
    colours = matplotlib.colormaps["viridis_r"]
    with matplotlib.rc_context({"font.size": 10}):
        figure, axes = plt.subplots(figsize=(max(5.0, 1.9 * len(names)), 4.2), layout="constrained")
        for row in rows.index[::-1]:  # the best is drawn last
            colour = colours(0.1 + 0.9 * (values[row] - 1) / max(1, len(rows) - 1))
            width = 3.5 if rows.loc[row, NAME] in first else 1.6
            axes.plot([at[row] for at, _ in placed], color=colour, linewidth=width, solid_capstyle="round")
        for number, (_, ticks) in enumerate(placed):
            paint_axis(axes, number, ticks)
        axes.set_xticks(range(len(names)), [label(name) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.8)
        axes.set_yticks([])
        axes.tick_params(axis="x", length=0, pad=8)
        axes.spines[:].set_visible(False)
        axes.set_title(f"Best by {metric}: {', '.join(first)}", size=11)
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=120)
        plt.close(figure)


def paint_axis(axes: Axes, number: int, ticks: dict[float, str]) -> None:
    """Draw a vertical axis with its labels."""
    axes.axvline(number, color="#57606a", linewidth=1, zorder=3)
    white = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
    for at, shown in ticks.items():
        axes.plot([number - 0.02, number], [at, at], color="#57606a", linewidth=1, zorder=3)
        axes.text(number - 0.05, at, shown, ha="right", va="center", size=9, bbox=white, zorder=4)


def label(name: str) -> str:
    """The name of an axis in two lines."""
    section, _, rest = name.partition(".")
    return f"{section}\n{rest}, %" if is_val_accuracy(name) else f"{section}\n{rest}" if rest else name


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.sweep", description="Table and plot of DVC's experiments.")
    parser.add_argument("--metric", help=f"validation accuracy by which the best is chosen, such as {VAL[0]}")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"default: {OUT}")
    parser.add_argument("--jobs", type=int, metavar="N", help="finish the queue with N workers first")
    arguments = parser.parse_args()
    if not next(path for path in (arguments.out, *arguments.out.parents) if path.exists()).is_dir():
        raise UserError(f"--out {arguments.out} is not a folder: name a folder, which need not exist")
    if arguments.jobs is not None:
        if arguments.jobs < 1:
            raise UserError(f"--jobs {arguments.jobs}: give at least 1")
        dvc_queue.finish(arguments.jobs)
    experiments = read()
    metric = choose_metric(experiments, arguments.metric)
    rows, changed = table(experiments, metric)
    files.write_csv(arguments.out / "sweep.csv", rows)
    files.write_text(arguments.out / "sweep.md", document(rows, changed, metric))
    draw(rows, changed, metric, arguments.out / "sweep.png")
    print(f"{document(rows, changed, metric)}\nfiles: {arguments.out}/sweep.csv, sweep.md, sweep.png")


if __name__ == "__main__":
    errors.run(main)
