"""Metrics formatted as table cells, and cells formatted as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from face_mask.schema import MODELS, TITLES

UNKNOWN = "–"


def percentage(value: float) -> str:
    """Format 0.9954 as 99.5; with two decimals if one decimal would round a smaller value up to 100."""
    one = f"{100 * value:.1f}"
    return f"{100 * value:.2f}" if one == "100.0" and value < 1 else one


def interval(metrics: Mapping, key: str) -> str:
    """Format KEY, KEY_low and KEY_high as 97.7 % (96.4–98.6): a proportion and its interval, or a dash if unknown."""
    value, low, high = (metrics.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return UNKNOWN
    if low is None or high is None:
        return f"{percentage(float(value))} %"
    return f"{percentage(float(value))} % ({percentage(float(low))}–{percentage(float(high))})"


def markdown(lines: Iterable[list[str]]) -> str:
    """Format rows of cells as a Markdown table; the first row is the header."""
    head, *rest = list(lines)
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest))


def by_size(sizes: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """Accuracy by face size as rows of cells; `sizes` is `by_size` of metrics/unseen_MODEL.json for each model."""
    lines = [["shorter side of the face", "faces", *TITLES.values()]]
    for key, metrics in sizes["cnn"].items():
        low, _, high = key.partition("_")
        title = f"{low} px and larger" if high == "up" else f"{low} to {high} px"
        lines.append([title, f"{metrics['n']:,}", *(interval(sizes[model][key], "accuracy") for model in MODELS)])
    return lines
