"""Measure ours against its peers: interleaved runs, ratios with intervals, and processes of their own.

A benchmark is a function in bench/rows_*.py that is registered by name and returns rows of the table:

    @benchmark("decode")
    def decode(options: Options) -> list[Row]:
        with Worker("bench.peers.opencv_decode", str(images)) as opencv:
            return [compare("images decoded", "images/s", ours, {"OpenCV": opencv}, repeats=options.repeats(7), goal=3)]

`python -m bench.run` runs them. Whatever a benchmark compares with is in bench/peers/, one file per peer.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import worker

ROOT = Path(__file__).resolve().parent.parent
PEER_PYTHON = ROOT / ".bench-venv/bin/python"  # of `make bench-install`
RESAMPLES = 10_000
UNSTABLE = 100
LIBRARIES = ("numpy", "pillow", "tensorflow-cpu", "tensorflow", "keras", "ai-edge-litert", "av", "dvc")

Measure = Callable[[], float]


class Unavailable(Exception):
    """A benchmark cannot run here; the message says in one line what is missing and what to run."""


@dataclass(frozen=True)
class Options:
    workspace: Path  # a clone in which `dvc repro` or `dvc pull` has run; only read
    quick: bool = False  # fewer repeats and less data, to see that everything runs; the results mean little

    def repeats(self, usual: int) -> int:
        return 2 if self.quick else usual

    def scaled(self, usual: int, least: int = 1) -> int:
        """Return a number of images, steps or seconds, a tenth of it for a quick run."""
        return max(least, usual // 10) if self.quick else usual

    def path(self, relative: str) -> Path:
        """Return a file or folder of the workspace. Raises Unavailable if it is missing."""
        path = self.workspace / relative
        if not path.exists():
            raise Unavailable(f"{relative} is missing: run `dvc repro` or `dvc pull`, or give --workspace")
        return path


@dataclass
class Row:
    """One line of the table. `ratio` is above 1 where ours is better."""

    name: str
    unit: str
    ours: float  # the median
    peer: float | None = None  # the median of the best peer
    peer_name: str | None = None
    ratio: float | None = None
    ratio_low: float | None = None  # 95 % interval
    ratio_high: float | None = None
    goal: float | None = None  # of the ratio; without a peer, of the value in its unit
    higher_is_better: bool = True
    repeats: int = 0
    medians: dict[str, float] = field(default_factory=dict)  # "ours" and every peer
    minima: dict[str, float] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)  # in the order in which they were measured
    how: str = ""  # what was run, in a sentence or two
    note: str = ""  # what to know about the result, such as why a goal is missed
    benchmark: str = ""  # that measured it
    date: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        if self.ratio is not None:
            return self.ratio >= self.goal
        return self.ours >= self.goal if self.higher_is_better else self.ours <= self.goal


BENCHMARKS: dict[str, Callable[[Options], list[Row]]] = {}


def benchmark(name: str) -> Callable:
    """Register a function `Options -> list[Row]` as a benchmark. It runs in a process of its own."""

    def register(function: Callable[[Options], list[Row]]) -> Callable[[Options], list[Row]]:
        BENCHMARKS[name] = function
        return function

    return register


def compare(
    name: str,
    unit: str,
    ours: Measure,
    peers: Mapping[str, Measure],
    *,
    repeats: int,
    higher_is_better: bool = True,
    goal: float | None = None,
    how: str = "",
    note: str = "",
) -> Row:
    """Measure ours and the peers in turn. Each callable runs once per call and returns the measured value."""
    values = interleave({"ours": ours, **peers}, repeats)
    return row(name, unit, values, higher_is_better=higher_is_better, goal=goal, how=how, note=note)


def interleave(measures: Mapping[str, Callable[[], Any]], repeats: int, *, warm_up: bool = True) -> dict[str, list]:
    """Call each measure `repeats` times in rotating order, after a call of each that is not kept."""
    names = list(measures)
    if warm_up:
        for name in names:
            measures[name]()
    values: dict[str, list] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            values[name].append(measures[name]())
    return values


def row(
    name: str,
    unit: str,
    values: Mapping[str, Sequence[float]],
    *,
    higher_is_better: bool = True,
    goal: float | None = None,
    how: str = "",
    note: str = "",
) -> Row:
    """Compute the row of values that were measured in turn: those of "ours" and of any number of peers.

    The best peer is the one with the best median. The 95 % interval is a bootstrap of the ratio of the medians that
    resamples the turns, so that a slow minute of the machine slows both. Raises ValueError if the turns of one differ
    by more than UNSTABLE times: no noise does that, so something else was measured.
    """
    raw = {key: [float(value) for value in measured] for key, measured in values.items()}
    for key, measured in raw.items():
        if max(measured) > UNSTABLE * min(measured):
            raise ValueError(f"{name}: {key} measured {measured}, which is no noise: a measurement is wrong")
    medians = {key: float(np.median(measured)) for key, measured in raw.items()}
    result = Row(
        name,
        unit,
        medians["ours"],
        goal=goal,
        higher_is_better=higher_is_better,
        repeats=len(raw["ours"]),
        medians=medians,
        minima={key: min(measured) for key, measured in raw.items()},
        values=raw,
        how=how,
        note=note,
    )
    peers = {key: median for key, median in medians.items() if key != "ours"}
    if peers:
        best = max if higher_is_better else min
        result.peer_name = best(peers, key=peers.__getitem__)
        result.peer = peers[result.peer_name]
        ratio, low, high = ratio_of_medians(raw["ours"], raw[result.peer_name])
        if not higher_is_better:
            ratio, low, high = 1 / ratio, 1 / high, 1 / low
        result.ratio, result.ratio_low, result.ratio_high = ratio, low, high
    return result


def ratio_of_medians(ours: Sequence[float], peer: Sequence[float]) -> tuple[float, float, float]:
    """median(ours) / median(peer), and its 95 % bootstrap interval; the same turns are drawn of both."""
    one, other = np.asarray(ours, float), np.asarray(peer, float)
    drawn = np.random.default_rng(0).integers(len(one), size=(RESAMPLES, len(one)))
    ratios = np.median(one[drawn], axis=1) / np.median(other[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(one) / np.median(other)), float(low), float(high)


class Worker:
    """A process that measures once per call, so that its runs can alternate with those of other processes.

    `module` calls `bench.worker.serve` with a function that returns the measured value: a number, or a dict of numbers.
    It runs in this environment, or with `peer_python=True` in that of the peers.
    """

    def __init__(
        self, module: str, *arguments: str, peer_python: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(peer_interpreter() if peer_python else sys.executable), "-m", module, *arguments]
        self.messages = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # Answers have a pipe of their own: libraries print to standard output.
        reading, writing = os.pipe()
        self.answers = os.fdopen(reading, encoding="utf-8")
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=clean_environment() | dict(environment or {}) | {worker.ANSWERS: str(writing)},
            stdin=subprocess.PIPE,
            stdout=self.messages,
            stderr=self.messages,
            text=True,
            pass_fds=[writing],
        )
        os.close(writing)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.answers.close()
        self.messages.close()

    def __call__(self) -> Any:
        """Measure once."""
        return self.ask("run")

    def peak_mb(self) -> float:
        """Peak resident memory of the process so far in MB, of its children not."""
        return self.ask("memory")

    def ask(self, request: str) -> Any:
        assert self.process.stdin
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            answer = self.answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.process.wait()
            self.messages.seek(0)
            raise RuntimeError(f"{' '.join(self.command[1:])} ended:\n{self.messages.read()[-2000:]}")
        return json.loads(answer)


def peer_interpreter() -> Path:
    """Return the Python of the peers' environment. Raises Unavailable if there is none."""
    if not PEER_PYTHON.exists():
        raise Unavailable("the peers' environment is missing: run `make bench-install`")
    return PEER_PYTHON


def clean_environment() -> dict[str, str]:
    """Return the environment of a measured process: no messages of TensorFlow, nothing of an outer DVC."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}


# It measures from a small process: the peak memory that wait4 returns is at least that of the process that forks.
LAUNCHER = """
import json, os, resource, subprocess, sys, time
out = open(sys.argv[1], "wb")
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=out, stdin=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - start
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
json.dump([seconds, peak, os.waitstatus_to_exitcode(status)], sys.stdout)
"""


def in_fresh_process(
    command: str | Sequence[str], *, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> tuple[float, float, str]:
    """Run a command, or a module by name, until it ends: seconds, peak MB of its largest process, standard output.

    Raises RuntimeError with its last messages if it fails.
    """
    arguments = [sys.executable, "-m", command] if isinstance(command, str) else list(map(str, command))
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, file.name, *arguments],
            cwd=cwd,
            env=clean_environment() | dict(environment or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        output = file.read().decode(errors="replace")
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} could not be started:\n{done.stderr[-2000:]}")
    seconds, peak, code = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{' '.join(arguments)} failed with exit code {code}:\n{done.stderr[-2000:]}{output[-500:]}")
    return seconds, peak, output


def machine() -> dict[str, Any]:
    """Describe the processor, the memory and the versions, without names or paths of the machine."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def cpu_model() -> str:
    """Return the processor's name, family and model; virtual machines often hide the name."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    first, _, _ = path.read_text(encoding="utf-8").partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name
