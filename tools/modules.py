"""Which of the project's modules does a stage import? DVC does not look; dvc.yaml must say.

python -m tools.modules          show where dvc.yaml and the imports differ
python -m tools.modules --write  correct dvc.yaml
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import yaml

DVC_YAML = Path("dvc.yaml")


def module_path(name: str) -> Path | None:
    """The file of a module of the project, None for anything else."""
    base = Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


def imported_names(path: Path) -> set[str]:
    """Names of all modules that a file's import statements may load, at its top and inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_files(path: Path) -> set[str]:
    """The project's files that running `path` can import, itself included, as POSIX paths."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path.as_posix() in found:
            continue
        found.add(path.as_posix())
        for name in imported_names(path):
            parts = name.split(".")
            if parts[0] != "pipeline":
                continue
            # Importing a.b.c runs a/__init__.py and a/b/__init__.py first.
            packages = (module_path(".".join(parts[: i + 1])) for i in range(len(parts)))
            waiting += [p for p in packages if p]
    return found


def wanted_deps(stage: str, deps: list[str]) -> list[str]:
    """A stage's deps as they should be: its modules, sorted, then the data it names."""
    modules = sorted(imported_files(Path("pipeline") / f"{stage}.py"))
    return modules + [dep for dep in deps if not dep.endswith(".py")]


def main() -> None:
    graph = yaml.safe_load(DVC_YAML.read_text(encoding="utf-8"))
    wrong = False
    for stage, entry in graph["stages"].items():
        have, want = entry.get("deps") or [], wanted_deps(stage, entry.get("deps") or [])
        if have == want:
            continue
        wrong = True
        print(f"{stage}: missing {sorted(set(want) - set(have))}, not imported {sorted(set(have) - set(want))}")
        if "--write" in sys.argv:
            write_deps(stage, want)
    sys.exit(1 if wrong and "--write" not in sys.argv else 0)


def write_deps(stage: str, deps: list[str]) -> None:
    """Replace the stage's block of deps in dvc.yaml, leaving every other line as it is."""
    lines = DVC_YAML.read_text(encoding="utf-8").splitlines(keepends=True)
    start = lines.index(f"  {stage}:\n")
    first = next(i for i in range(start, len(lines)) if lines[i].startswith("    deps:"))
    last = next(i for i in range(first + 1, len(lines)) if not lines[i].startswith("      "))
    lines[first:last] = ["    deps:\n", *(f"      - {dep}\n" for dep in deps)]
    DVC_YAML.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
