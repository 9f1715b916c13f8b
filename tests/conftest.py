"""Settings and fixtures of all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Examples may take any time on a busy machine; --durations shows slow tests.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


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
