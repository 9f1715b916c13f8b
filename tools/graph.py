"""Compare the code dependencies in dvc.yaml with the imports of the stages, since DVC does not track imports.

python -m tools.graph          show the differences
python -m tools.graph --write  correct dvc.yaml

A stage depends on every module that it imports, directly or indirectly, except those of EXEMPT. If it imports most of
a package of FOLDERS, it depends on the folder.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import yaml

DVC_YAML = Path("dvc.yaml")
PACKAGES = ("pipeline", "face_mask")
# Modules that cannot change an output, so editing them makes no result stale. tests/test_graph.py checks that stages
# only use `tracking.stage`, whose run returns nothing.
EXEMPT = {
    "pipeline/tracking/": "logs what a stage passes to it or stops the stage, and returns nothing",
    "pipeline/training/resume.py": "continues an interrupted training, which changes no bit: tests/test_resume.py",
    "pipeline/core/params.py": "checks params.yaml; the values themselves are dependencies by `params:`",
    "pipeline/core/cluster.py": "where a function runs, which changes no bit: tests/test_spark_prepare.py",
    "pipeline/core/quiet.py": "silences TensorFlow's log",
    "face_mask/settings.py": "checks params.yaml, as pipeline/core/params.py does",
    "face_mask/errors.py": "messages and exit codes of errors, after which a stage has no outputs",
    "face_mask/lockfile.py": "compares files with dvc.lock, and ends in an error if they differ",
    "face_mask/cores.py": "how many workers or threads compute, which changes no result",
    "face_mask/models.py": "which model the commands use; stages name the file that they read",
    "face_mask/quiet.py": "silences the logs of native code",
    "face_mask/streams.py": "live streams, which no stage reads; face_mask/replay.py has files as well",
    "face_mask/events.py": "what a replay or the live page reports to a command or an address",
    "__init__.py": "docstrings of packages; pipeline/__init__.py calls pipeline/core/quiet.py",
}
# Modules that a stage reads as files without importing them: their text is part of what it writes.
READ = {
    "register": (
        "face_mask/errors.py", "face_mask/quiet.py", "pipeline/registry/pyfunc_model.py",
    ),
}  # fmt: skip
FOLDERS = (
    "pipeline/synthetic",
    "pipeline/drawing",
    "pipeline/training",
    "pipeline/explain",
    "pipeline/hard_cases",
    "pipeline/reporting",
)
MOST = 0.6  # of a folder's modules


def module_path(name: str) -> Path | None:
    """Return the file of a module of the project, None for any other module."""
    base = Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


def imported_names(path: Path) -> set[str]:
    """Return the names of all modules that a file may import, at the top level and inside functions.

    Imports for type checking alone are excluded.
    """
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return names


def imported_files(path: Path) -> set[str]:
    """Return the project's files that running `path` can import, including itself, as POSIX paths."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path.as_posix() in found:
            continue
        found.add(path.as_posix())
        if is_exempt(path.as_posix()) and path.name != "__init__.py":
            continue  # nor can the modules that it imports
        for name in imported_names(path):
            parts = name.split(".")
            if parts[0] not in PACKAGES:
                continue
            # Importing a.b.c runs a/__init__.py and a/b/__init__.py first.
            packages = (module_path(".".join(parts[: i + 1])) for i in range(len(parts)))
            waiting += [p for p in packages if p]
    return found


def is_exempt(path: str) -> bool:
    return any(path.startswith(one) or Path(path).name == one for one in EXEMPT)


def modules_of(stage: str) -> set[str]:
    """Return the modules that can change a stage's outputs, as POSIX paths."""
    imported = imported_files(Path("pipeline") / f"{stage}.py")
    return {path for path in imported if not is_exempt(path)} | set(READ.get(stage, ()))


def files_of(folder: str) -> set[str]:
    return {path.as_posix() for path in Path(folder).glob("*.py") if not is_exempt(path.as_posix())}


def wanted_modules(stage: str) -> list[str]:
    """Return a stage's modules as dvc.yaml should list them: sorted, and as a folder where most of it is used."""
    modules = modules_of(stage)
    for folder in FOLDERS:
        inside = files_of(folder)
        if inside and len(modules & inside) >= MOST * len(inside):
            modules = (modules - inside) | {folder}
    return sorted(modules, key=lambda path: (path != f"pipeline/{stage}.py", path))


def is_code(dep: str) -> bool:
    return dep.endswith(".py") or dep in FOLDERS


def wanted_deps(stage: str, deps: Iterable[str]) -> list[str]:
    """Return the correct deps of a stage: its modules, then its data."""
    return wanted_modules(stage) + [dep for dep in deps if not is_code(dep)]


def main() -> None:
    stages = yaml.safe_load(DVC_YAML.read_text(encoding="utf-8"))["stages"]
    wrong = False
    for stage, entry in stages.items():
        have = entry.get("deps") or []
        want = wanted_deps(stage, have)
        if have != want:
            wrong = True
            print(f"{stage}: missing {sorted(set(want) - set(have))}, not imported {sorted(set(have) - set(want))}")
            if "--write" in sys.argv:
                write_deps(stage, want)
    sys.exit(1 if wrong and "--write" not in sys.argv else 0)


def write_deps(stage: str, deps: list[str]) -> None:
    """Replace the stage's deps in dvc.yaml and leave all other lines unchanged."""
    text = DVC_YAML.read_text(encoding="utf-8")
    listed = ", ".join(f'"{dep}"' if dep.startswith("$") else dep for dep in deps)
    block = textwrap.fill(f"deps: [{listed}]", 118, initial_indent="    ", subsequent_indent="      ",
                          break_long_words=False, break_on_hyphens=False)  # fmt: skip
    pattern = rf"(^  {stage}:\n    cmd: .*\n)    deps:(?:.*\n(?:      .*\n)*)"
    replaced = re.sub(pattern, lambda found: f"{found[1]}{block}\n", text, count=1, flags=re.MULTILINE)
    DVC_YAML.write_text(replaced, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
