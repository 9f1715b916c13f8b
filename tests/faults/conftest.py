"""The fault suite: `make test` runs its quick part; `make faults` runs it all and writes docs/reliability.md's table.

Each test is marked with what goes wrong and what is promised then, and reports what it saw:

    @pytest.mark.fault(16, "a JPEG image of 170,000 scans", "refused in one line before it is decoded")
    def test_split_refuses_a_scan_bomb(seen):
        …
        seen("exit code 1 in one line, at most 150 MB")

Tests marked `full` run in `make faults` alone.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults import table


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(number, what, promise): a fault, and what the program promises then")
    config.addinivalue_line("markers", "full: too slow for `make test`; `make faults` runs it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--faults-table") is None:
        slow = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Report what was seen, for the table. Call it last, when everything promised has been asserted."""
    mark = request.node.get_closest_marker("fault")
    number, what, promise = mark.args

    def report(text: str) -> None:
        request.node.user_properties.append(("fault", [number, what, promise, text]))

    return report


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    path = config.getoption("--faults-table")
    if path is None or exitstatus != pytest.ExitCode.OK:  # without its row a failed fault would just be missing
        return
    reports = terminalreporter.stats.get("passed", [])
    rows = [value for report in reports for name, value in report.user_properties if name == "fault"]
    table.write(path, rows)
    terminalreporter.write_line(f"{path}: {len(rows)} faults")
