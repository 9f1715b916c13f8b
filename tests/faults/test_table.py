"""The table of the fault suite."""

from __future__ import annotations

from tests.faults import table


def test_the_table_is_replaced_and_the_page_around_it_is_kept(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write(page, [[2, "b", "p", "s"], [1, "a", "p", "s"], [2, "b", "p", "t"], [2, "b", "p", "s"]])
    text = page.read_text()
    assert "old" not in text and text.startswith("before\n") and text.endswith(f"{table.END}\nafter\n")
    assert text.index("| 1 | a | p | s |") < text.index("| 2 | b | p | s; t |")
