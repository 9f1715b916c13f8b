"""The committed results of the benchmarks: results.json, and the table and the plot that are made of it.

python -m bench.results        writes RESULTS.md and results.png again
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import Row
from face_mask import files

JSON, TABLE, PLOT = "results.json", "RESULTS.md", "results.png"
INTRODUCTION = """# Speed and memory beside the alternatives

`make bench` wrote this table; [README.md](README.md) says how it measures and how to repeat it. The ratio is above 1
where ours is better, and is that to the best peer. Ours and the peers ran in turn on the same data; values are medians,
and brackets hold the 95 % bootstrap interval, which what was measured once does not have.
"""


def load(folder: Path) -> list[Row]:
    """The rows of results.json, none if there is no such file."""
    path = folder / JSON
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def merge(old: Sequence[Row], new: Sequence[Row], order: Sequence[str]) -> list[Row]:
    """Replace the rows of the benchmarks that `new` is of, and sort the benchmarks as `order` does.

    Rows of a benchmark that no longer exists are dropped.
    """
    measured = {row.benchmark for row in new}
    rows = [row for row in old if row.benchmark not in measured and row.benchmark in order] + list(new)
    return sorted(rows, key=lambda row: order.index(row.benchmark))


def save(rows: Sequence[Row], folder: Path) -> None:
    """Write results.json, RESULTS.md and results.png."""
    files.write_text(folder / JSON, encode(rows))
    files.write_text(folder / TABLE, render(rows))
    draw(rows, folder / PLOT)


def encode(rows: Sequence[Row]) -> str:
    """JSON with a line for each field, so that lists of values stay short."""
    fields = [
        ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in dataclasses.asdict(row).items())
        for row in rows
    ]
    return "[\n" + ",\n".join(f"  {{\n{one}\n  }}" for one in fields) + "\n]\n"


def summary(row: Row) -> str:
    """Describe a row in a line."""
    text = f"{row.name}: {number(row.ours)} {row.unit}"
    if row.peer is not None:
        text += f", {row.peer_name} {number(row.peer)}: {ratio_of(row)}"
    return text + (f", goal {goal_of(row)}: {verdict(row)}" if row.goal is not None else "")


def number(value: float | None) -> str:
    """Write a number with three significant digits, without an exponent."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio_of(row: Row) -> str:
    if row.ratio is None:
        return "–"
    if row.repeats < 2:  # which have no interval
        return f"{number(row.ratio)}×"
    return f"{number(row.ratio)}× ({number(row.ratio_low)}–{number(row.ratio_high)})"


def goal_of(row: Row) -> str:
    if row.goal is None:
        return "–"
    if row.ratio is not None:
        return f"{number(row.goal)}×"
    return f"{'at least' if row.higher_is_better else 'at most'} {number(row.goal)} {row.unit}"


def verdict(row: Row) -> str:
    return {None: "–", True: "met", False: "missed"}[row.met]


def render(rows: Sequence[Row]) -> str:
    """The Markdown of RESULTS.md."""
    lines = ["| what | ours | best peer | ratio | goal | |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        peer = f"{number(row.peer)} {row.unit} ({row.peer_name})" if row.peer is not None else "–"
        ours = f"{number(row.ours)} {row.unit}"
        lines.append(f"| {row.name} | {ours} | {peer} | {ratio_of(row)} | {goal_of(row)} | {verdict(row)} |")
    parts = [INTRODUCTION, "\n".join(lines) + "\n", f"![ratios with intervals and goals]({PLOT})\n"]
    parts.append("## Machine\n\n" + "".join(f"- {one}\n" for one in machines(rows)))
    details = [f"**{row.name}.** {detail(row)}\n" for row in rows]
    parts.append("## How each was measured\n\n" + "\n".join(details))
    return "\n".join(parts)


def machines(rows: Sequence[Row]) -> list[str]:
    """Describe each machine, with the benchmarks that ran on it if there are several."""
    described: dict[str, list[str]] = {}
    for row in rows:
        names = described.setdefault(describe(row.machine), [])
        if row.benchmark not in names:
            names.append(row.benchmark)
    if len(described) == 1:
        return list(described)
    return [f"{text}: {', '.join(names)}" for text, names in described.items()]


def describe(machine: dict[str, Any]) -> str:
    if not machine:
        return "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']},"
        f" Python {machine['python']}; {versions}"
    )


def detail(row: Row) -> str:
    """What was run, every median, and what to know about the result."""
    medians = "; ".join(f"{name} {number(value)}" for name, value in row.medians.items())
    text = f"{row.how} Medians of {row.repeats} in {row.unit}: {medians}. Measured on {row.date}."
    return f"{text} {row.note}".strip()


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the ratios on a logarithmic scale, with their intervals and goals."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    compared = [row for row in rows if row.ratio is not None][::-1]
    if not compared:
        return
    figure, axes = plt.subplots(figsize=(9, 1 + 0.4 * len(compared)), layout="constrained")
    for y, row in enumerate(compared):
        assert row.ratio and row.ratio_low and row.ratio_high
        colour = {None: "tab:grey", True: "tab:green", False: "tab:orange"}[row.met]
        axes.plot([row.ratio_low, row.ratio_high], [y, y], color=colour, linewidth=2)
        axes.plot(row.ratio, y, "o", color=colour)
        if row.goal is not None:
            axes.plot(row.goal, y, "|", color="black", markersize=12, markeredgewidth=1.5)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.set_yticks(range(len(compared)), [textwrap.fill(row.name, 48) for row in compared], fontsize=8)
    axes.set_xlabel("ratio to the best peer, above 1: ours is better\nline: 95 % interval, bar: goal")
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    folder = Path(__file__).parent
    save(load(folder), folder)


if __name__ == "__main__":
    main()
