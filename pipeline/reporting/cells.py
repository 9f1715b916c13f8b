"""Figures as a table's cells show them, and cells as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.reporting.inputs import MODELS

UNKNOWN = "–"


def share(value: float) -> str:
    """0.9954 as 99.5; two decimals where rounding to one would call a share whole that is not."""
    one = f"{100 * value:.1f}"
    return f"{100 * value:.2f}" if one == "100.0" and value < 1 else one


def interval(figures: Mapping, key: str) -> str:
    """A share and its interval, 97.7 % (96.4–98.6), from KEY, KEY_low and KEY_high; a dash where there is none."""
    value, low, high = (figures.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return UNKNOWN
    if low is None or high is None:
        return f"{share(float(value))} %"
    return f"{share(float(value))} % ({share(float(low))}–{share(float(high))})"


def markdown(lines: Iterable[list[str]]) -> str:
    """Lines of cells as a Markdown table, the first being its heading."""
    head, *rest = list(lines)
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest))


def by_size(sizes: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """Accuracy by face size as lines; `sizes` is each model's by_size from metrics/unseen_MODEL.json."""
    lines = [["shorter side of the face", "faces", *MODELS.values()]]
    for key, figures in sizes["cnn"].items():
        low, _, high = key.partition("_")
        title = f"{low} px and more" if high == "up" else f"{low} to {high} px"
        lines.append([title, f"{figures['n']:,}", *(interval(sizes[model][key], "accuracy") for model in MODELS)])
    return lines
