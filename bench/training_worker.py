"""Measure one way of training: its input pipeline, its steps, its learning curve or its memory.

With the standard library alone, because it also runs in the peers' environment. A way of training is a list of phases,
of which most have one. `main` is the command of each module that defines some:

    python -m bench.trainers ours_cnn steps WORKSPACE
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import worker

PREFETCHED = 8  # batches that are not timed first: at least as many as a pipeline keeps ready


@dataclass
class Phase:
    """A part of a training. All callables return when their work is done."""

    name: str
    batch_size: int
    steps_per_epoch: int
    epochs: int
    next_batch: Callable[[], Any]  # takes a batch out of the input pipeline, without a step
    step: Callable[[], object]  # takes a batch and trains on it
    accuracy: Callable[[], float] | None = None  # on the unchanged validation images


Build = Callable[[Path], list[Phase]]


def main(ways: Mapping[str, Build]) -> None:
    parser = argparse.ArgumentParser(description="Measure a way of training.")
    parser.add_argument("way", choices=ways)
    parser.add_argument("what", choices=["batches", "steps", "curve", "memory"])
    parser.add_argument("folder", type=Path, help="of ours: the workspace; of peers: train/ and val/")
    parser.add_argument("--phase", help="only this one")
    parser.add_argument("--warm", type=int, default=PREFETCHED, help="batches or steps before the timed ones")
    parser.add_argument("--count", type=int, default=20, help="timed batches or steps per request")
    parser.add_argument("--target", type=float, default=1.0, help="validation accuracy at which a curve ends")
    parser.add_argument("--seconds", type=float, default=math.inf, help="limit of a curve, as steps × median step time")
    parser.add_argument("--epochs", type=int, help="limit of each phase of a curve")
    parser.add_argument("--max-steps", type=int, help="of an epoch of a curve, to try it")
    args = parser.parse_args()
    phases = [one for one in ways[args.way](args.folder) if args.phase in (None, one.name)]
    if args.what == "curve":
        curve(phases, args)
    elif args.what == "memory":
        for phase in phases:
            for _ in range(args.count):
                phase.step()
    else:
        (phase,) = phases
        act = phase.next_batch if args.what == "batches" else phase.step
        worker.serve(lambda: timed(act, phase.batch_size, args.warm, args.count))


def timed(act: Callable[[], object], batch_size: int, warm: int, count: int) -> dict[str, float]:
    """Return the images per second of `count` batches, and the median and least seconds of one.

    Batches that wait in the pipeline are taken out first. At the end it waits until the pipeline is full again, so that
    it does not slow what is measured next.
    """
    for _ in range(warm):
        act()
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    settle()
    return {
        "images_per_second": batch_size * count / sum(seconds),
        "seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
    }


def settle(pause: float = 0.1, longest: float = 10.0) -> None:
    """Wait until this process and its children use less than a tenth of a core."""
    ends = time.perf_counter() + longest
    before = cpu_seconds()
    while time.perf_counter() < ends:
        time.sleep(pause)
        now = cpu_seconds()
        if now - before <= pause / 10:
            return
        before = now


def cpu_seconds() -> float:
    """Processor time of this process and, on Linux, of its children."""
    ticks = 0
    for path in Path("/proc/self/task").glob("*/children"):
        for child in path.read_text().split():
            try:
                fields = Path("/proc", child, "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def curve(phases: list[Phase], args: argparse.Namespace) -> None:
    """Train, and print a line of JSON after every epoch, until the target or a limit is reached."""
    earlier = 0.0
    for phase in phases:
        seconds: list[float] = []
        for epoch in range(args.epochs or phase.epochs):
            for _ in range(min(phase.steps_per_epoch, args.max_steps or phase.steps_per_epoch)):
                started = time.perf_counter()
                phase.step()
                seconds.append(time.perf_counter() - started)
            step = statistics.median(seconds)
            total = earlier + step * len(seconds)
            accuracy = phase.accuracy() if phase.accuracy else None
            row = {"phase": phase.name, "epoch": epoch + 1, "steps": len(seconds), "val_accuracy": accuracy}
            print(json.dumps(row | {"step_seconds": round(step, 5), "seconds": round(total, 2)}), flush=True)
            if (accuracy or 0.0) >= args.target or total >= args.seconds:
                return
        earlier = total
