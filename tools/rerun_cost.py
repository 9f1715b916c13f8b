"""How long `dvc repro` takes after a change of one module that leaves all outputs as they are.

    python -m tools.rerun_cost        seconds per stage from MLflow, as tools.durations shows them

The stages that list the module run again; those after them do not, since DVC finds their inputs unchanged. So this is
the price of a comment, a renamed variable or a refactoring. A change of outputs also runs all that follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from face_mask import errors
from tools import durations, graph

SHOWN = 12


def lists(stage: Mapping, module: str) -> bool:
    """Whether a stage of dvc.yaml depends on this file or on a folder that contains it."""
    return any(module == dep or module.startswith(f"{dep}/") for dep in stage.get("deps", ()))


def costs(
    stages: Mapping[str, Mapping], seconds: Mapping[str, float], modules: Iterable[str]
) -> dict[str, float | None]:
    """Seconds of the stages that list each module; None for a module that no stage lists."""
    users = {module: [name for name, stage in stages.items() if lists(stage, module)] for module in modules}
    return {module: sum(seconds.get(name, 0.0) for name in names) if names else None for module, names in users.items()}


def main() -> None:
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    seconds = durations.table().set_index("stage")["seconds"].to_dict()
    modules = sorted(path.as_posix() for package in graph.PACKAGES for path in Path(package).rglob("*.py"))
    found = costs(stages, seconds, modules)
    listed = {module: cost for module, cost in found.items() if cost is not None}
    for module, cost in sorted(listed.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]:
        print(f"{cost:7.0f} s  {module}")
    total = sum(listed.values())
    print(f"mean of the {len(listed)} modules that a stage lists: {total / len(listed):.0f} s")
    print(f"mean of all {len(found)} modules: {total / len(found):.0f} s")


if __name__ == "__main__":
    errors.run(main)
