"""Settings and fixtures of all tests."""

from __future__ import annotations

import os
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
    monkeypatch.setattr(context.Curves, "send", lambda self: None)
    return calls


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database to copy, made once for all of pytest's processes: the migrations take seconds."""
    from filelock import FileLock
    from mlflow import MlflowClient

    folder = tmp_path_factory.getbasetemp()
    path = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "migrated.db"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            unfinished = path.with_suffix(".part")
            MlflowClient(f"sqlite:///{unfinished}").search_experiments()
            unfinished.rename(path)
    return path


# Files that take long start first, so that no process ends alone with one of them.
LONGEST = ("test_end_to_end.py", "test_live_page.py", "test_models.py", "test_serve.py", "test_tracking.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files: the longest ones first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
