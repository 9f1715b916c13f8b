"""Run the benchmarks, all of them or those that are named, and write their table.

    python -m bench.run [NAME …] [--quick] [--workspace FOLDER]

Each benchmark runs in a process of its own. Writes bench/results.json, bench/RESULTS.md and bench/results.png; rows of
benchmarks that did not run this time, or could not, stay as they are. --quick shows that everything runs: it measures
little, and only prints. The data are those of a workspace in which `dvc repro` or `dvc pull` has run.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import measure, results
from bench.measure import BENCHMARKS, ROOT, Options, Row, Unavailable
from face_mask import errors
from face_mask.errors import UserError

FOLDER = Path(__file__).parent


def load_benchmarks() -> None:
    """Import every bench/rows_*.py, which registers its benchmarks."""
    for path in sorted(FOLDER.glob("rows_*.py")):
        importlib.import_module(f"bench.{path.stem}")


def run_here(name: str, options: Options) -> list[dict[str, Any]]:
    """Run a benchmark in this process. Raises Unavailable."""
    rows = BENCHMARKS[name](options)
    date, machine = datetime.date.today().isoformat(), measure.machine()
    rows = [dataclasses.replace(row, benchmark=name, date=date, machine=machine) for row in rows]
    return [rounded(dataclasses.asdict(row)) for row in rows]


def rounded(value: Any) -> Any:
    """Round all floats to four significant digits. Raises ValueError for NaN and infinities."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a valid measurement")
        return float(f"{value:.4g}")
    return value


def run_apart(name: str, options: Options) -> list[dict[str, Any]]:
    """Run a benchmark in a process of its own. Raises Unavailable, or UserError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        places = ["--into", str(path), "--workspace", str(options.workspace)]
        command = [sys.executable, "-m", "bench.run", name, *places, *["--quick"] * options.quick]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            raise UserError(f"the benchmark {name} failed with exit code {code}; its messages are above")
        answer = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(answer, str):
        raise Unavailable(answer)
    return answer


def run_into(name: str, options: Options, path: Path) -> None:
    """Write the rows of a benchmark to a file, or the reason why it cannot run."""
    try:
        answer: list | str = run_here(name, options)
    except Unavailable as error:
        answer = str(error)
    path.write_text(json.dumps(answer), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    load_benchmarks()
    parser = errors.Parser("bench.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="measure little and only print")
    parser.add_argument("--workspace", type=Path, default=ROOT, help="with data/ and models/; default: this clone")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results; default: bench")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    names = args.names or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise UserError(f"{unknown[0]} is not a valid benchmark: use some of {', '.join(BENCHMARKS)}")
    options = Options(args.workspace.resolve(), args.quick)
    if args.into:
        run_into(names[0], options, args.into)
        return
    for name in names:
        started = time.perf_counter()
        try:
            rows = [Row(**row) for row in run_apart(name, options)]
        except Unavailable as error:
            print(f"{name}: not measured: {error}", flush=True)
            continue
        for row in rows:
            print(f"{name}: {results.summary(row)}. {row.note}".rstrip(), flush=True)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        if not args.quick:
            results.save(results.merge(results.load(args.results), rows, list(BENCHMARKS)), args.results)


if __name__ == "__main__":
    errors.run(main)
