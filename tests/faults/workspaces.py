"""A scratch folder in which single stages run as commands, with parameters and few images, without DVC and Git."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults import processes
from tools import scratch


def make(folder: Path, values: dict[str, Any]) -> Path:
    """Create the folder with the repository's parameters, of which those of `values` (keys with dots) are changed."""
    (folder / "data").mkdir(parents=True)
    (folder / "data/exclude.txt").write_text("")
    (folder / "params.yaml").write_text((processes.REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    scratch.set_params(folder, values)
    return folder


def stage(folder: Path, name: str, env: Mapping[str, str] | None = None, **options: Any) -> processes.Outcome:
    """Run a stage in the folder, with `env` added to the environment; `options` are those of `processes.run`."""
    environment = scratch.environment() | {"PYTHONPATH": str(processes.REPOSITORY)} | dict(env or {})
    return processes.run(["-m", f"pipeline.{name}"], cwd=folder, env=environment, **options)
