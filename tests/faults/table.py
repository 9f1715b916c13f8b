"""The table of faults in docs/reliability.md, between two marks."""

from __future__ import annotations

from pathlib import Path

from face_mask import files

BEGIN, END = "<!-- faults: written by `make faults` -->", "<!-- end of faults -->"


def write(page: Path, rows: list[list]) -> None:
    """Replace the table in `page` by `rows` of number, fault, promise and what was seen, sorted by number.

    What was seen in several cases of one fault is joined.
    """
    joined: dict[tuple, list[str]] = {}
    for number, what, promise, seen in rows:
        joined.setdefault((number, what, promise), []).append(seen)
    lines = ["| | fault | promise | seen |", "|---|---|---|---|"]
    for (number, what, promise), cases in sorted(joined.items()):
        lines.append(f"| {number} | {what} | {promise} | {'; '.join(dict.fromkeys(cases))} |")
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    files.write_text(page, "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]))
