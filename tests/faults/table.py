"""The table of faults in docs/reliability.md, between two marks."""

from __future__ import annotations

from pathlib import Path

from face_mask import files

BEGIN, END = "<!-- faults: written by `make faults` -->", "<!-- end of faults -->"


def write(page: Path, rows: list[list]) -> None:
    """Replace the table in `page` by `rows` of number, fault, promise and what was seen, sorted by number."""
    lines = ["| | fault | promise | seen |", "|---|---|---|---|"]
    for number, what, promise, seen in sorted(rows, key=lambda row: (row[0], row[1])):
        lines.append(f"| {number} | {what} | {promise} | {seen} |")
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    files.write_text(page, "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]))
