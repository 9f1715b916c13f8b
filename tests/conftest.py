"""Settings and fixtures of all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Examples may take any time on a busy machine; --durations shows slow tests.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options are added here, since pytest reads no conftest.py further down before it parses them."""
    parser.addoption("--faults-table", type=Path, help="run the whole fault suite and write its table to this page")
    parser.addoption("--live-seconds", type=int, default=60, help="how long 50 clients use the live page's server")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Collect what stages log instead of sending it to MLflow; summaries are printed without the seconds."""
    from pipeline.tracking import context

    calls: list[dict] = []

    def finish(self: context.StageRun) -> None:
        calls.append({"stage": self.name, "metrics": self.metrics, "tags": self.tags, "artifacts": self.artifacts})
        for line in self.lines:
            print(f"{self.name}: {line}")

    monkeypatch.setattr(context.StageRun, "finish", finish)
    return calls


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest file first, so that the other process has the rest to do meanwhile."""
    items.sort(key=lambda item: "test_end_to_end.py" not in item.nodeid)
