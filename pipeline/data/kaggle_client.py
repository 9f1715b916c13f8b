"""A data set's zip from Kaggle, through the real `kaggle` client, run as a command and watched from outside."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from pipeline.data import kaggle_command
from pipeline.errors import UserError

STALL_SECONDS = 60.0  # the client itself waits 300 s for a byte, and minutes between its tries
START_SECONDS = 30.0  # more, until the first response: starting the client takes a second, or many on a busy machine
ATTEMPTS = 5  # each but the first only after one that brought the download forward
POLL_SECONDS = 0.1
DISK_FULL = re.compile(r"Errno (28|122|69|27)\b|No space left|quota exceeded|File too large", re.IGNORECASE)


@dataclass
class Heard:
    """What is known of one run of the client."""

    total: int | None = None  # bytes of the whole archive
    status: int | None = None  # of the last HTTP response
    unreachable: str | None = None  # why the last request had no response
    alive_at: float = field(default_factory=lambda: time.monotonic() + START_SECONDS)  # last response or growth
    stalled: bool = False
    disk_full: bool = False
    done: bool = False
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # the last the client wrote


def download(dataset: str, archive: Path, stall_seconds: float | None = None, section: str = "data") -> None:
    """Fetch the zip of `dataset` ("owner/name", as params.yaml's `section` says) to `archive`; progress on stderr.

    A cut connection is resumed for as long as that brings the download forward. UserError says what went wrong and
    what to do; nothing but a whole `archive` is left then or on an interrupt.
    """
    stall_seconds = STALL_SECONDS if stall_seconds is None else stall_seconds
    for leftover in archive.parent.glob(".download-*"):  # of a run that was killed outright
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=archive.parent) as folder:
        partial = Path(folder) / f"{dataset.rpartition('/')[2]}.zip"
        # A delay keeps the bar away until the first bytes are there, so that a refusal is one line.
        with tqdm(desc=dataset, unit="B", unit_scale=True, delay=1e-6, miniters=0) as bar:
            for _ in range(ATTEMPTS):
                before = size_of(partial)
                heard = attempt(dataset, partial, bar, stall_seconds)
                if heard.done:
                    partial.replace(archive)
                    return
                refused = heard.disk_full or (heard.status or 0) >= 400
                if refused or size_of(partial) <= before:
                    break
                time.sleep(1)
        raise UserError(explain(dataset, heard, size_of(partial), stall_seconds, archive.parent, section))


def attempt(dataset: str, partial: Path, bar: tqdm, stall_seconds: float) -> Heard:
    """Run the client once in the folder of `partial`, which it writes or goes on writing, and watch that it grows."""
    root = str(Path(__file__).resolve().parents[2])
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", kaggle_command.__name__, "datasets", "download", dataset, "-p", "."],
        cwd=partial.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    heard = Heard()
    reader = threading.Thread(target=listen, args=(process, heard), daemon=True)
    reader.start()
    try:
        size = size_of(partial)
        while process.poll() is None and not heard.stalled and not heard.disk_full:
            time.sleep(POLL_SECONDS)
            # Free space before the size: what is written in between makes it look like too much room, never too little.
            free = shutil.disk_usage(partial.parent).free
            new_size = size_of(partial)
            if heard.total is not None and heard.total - new_size > free:
                heard.disk_full = True
            if new_size != size:
                size, heard.alive_at = new_size, time.monotonic()
                bar.total = heard.total
                bar.update(size - bar.n)
            heard.stalled = time.monotonic() - heard.alive_at > stall_seconds
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
    size = size_of(partial)
    if size:  # also where all of it came before its total was heard
        bar.total = heard.total
        bar.update(size - bar.n)
    heard.done = process.returncode == 0 and size > 0 and size == (heard.total or size)
    return heard


def listen(process: subprocess.Popen, heard: Heard) -> None:
    """Read what the client writes, to its end."""
    assert process.stdout is not None
    for line in process.stdout:
        text = line.strip()
        if line.startswith(kaggle_command.MARK):
            heard.alive_at = time.monotonic()
            key, _, value = line.removeprefix(kaggle_command.MARK).strip().partition(" ")
            if key == "total":
                heard.total = int(value)
            else:  # the last request alone counts: a refused log-in may be followed by an anonymous success
                heard.status = int(value) if key == "status" else None
                heard.unreachable = value if key == "unreachable" else None
        elif text:
            heard.lines.append(text)
            heard.disk_full = heard.disk_full or bool(DISK_FULL.search(text))


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def explain(dataset: str, heard: Heard, size: int, stall_seconds: float, folder: Path, section: str = "data") -> str:
    """One line: what happened to the download of `dataset`, of which `size` bytes came, and what to do."""
    page = f"https://www.kaggle.com/datasets/{dataset}"
    by_hand = f"or fetch the zip from {page} by hand and use -S {section}.source=archive -S {section}.path=FILE"
    whole = f"{heard.total / 1e6:.1f} MB" if heard.total else "an unknown size"
    credentials = "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or kaggle.json"
    status = heard.status or 0
    if heard.disk_full:
        free = (shutil.disk_usage(folder).free + size) / 1e6  # with what came, which goes again
        return (
            f"the disk, or a quota on it, is too full for {dataset}: it needs {whole} and {free:.1f} MB are free:"
            f" make room for {folder} and run again"
        )
    if heard.stalled:
        return (
            f"the download of {dataset} stood still for {stall_seconds:g} s after {size / 1e6:.1f} MB of {whole}:"
            f" check the network and run again, {by_hand}"
        )
    if status == 401:
        return (
            f"Kaggle wants valid credentials (401) for {dataset}: renew {credentials}, or unset them for a public set"
        )
    if status == 403:
        return f"Kaggle forbids {dataset} (403): accept its terms on {page} and set {credentials}"
    if status == 404:
        return f"Kaggle has no data set {dataset} (404): correct {section}.kaggle in params.yaml"
    if status == 429:
        return (
            f"Kaggle has had too many requests (429) to give {dataset} now: wait some minutes and run again, {by_hand}"
        )
    if status >= 500:
        return f"Kaggle's server failed ({status}) on {dataset}: try again later, {by_hand}"
    if heard.unreachable:
        return f"Kaggle cannot be reached for {dataset} ({heard.unreachable}): check the network, {by_hand}"
    if heard.total and size < heard.total:
        return (
            f"the connection was cut after {size / 1e6:.1f} MB of {whole} of {dataset}, again and again:"
            f" check the network, {by_hand}"
        )
    last = heard.lines[-1][:200] if heard.lines else "nothing"
    return f"the kaggle client could not download {dataset} and said {last!r}: mend that, {by_hand}"
