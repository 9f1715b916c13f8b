"""Download of a data set's zip from Kaggle with the official `kaggle` client, run and monitored as a subprocess."""

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

from face_mask import files
from face_mask.errors import UserError
from pipeline.sources import kaggle_command

STALL_SECONDS = 60.0  # the client itself waits 300 s for a byte, and minutes between retries
START_SECONDS = 30.0  # added until the first response: the client starts in a second, or many on a busy machine
ATTEMPTS = 5  # each but the first only after progress in the one before
POLL_SECONDS = 0.1
DISK_FULL = re.compile(r"Errno (28|122|69|27)\b|No space left|quota exceeded|File too large", re.IGNORECASE)


@dataclass
class ClientState:
    """What is known about one run of the client."""

    total: int | None = None  # bytes of the whole archive
    status: int | None = None  # of the last HTTP response
    unreachable: str | None = None  # why the last request got no response
    alive_at: float = field(
        default_factory=lambda: time.monotonic() + START_SECONDS
    )  # time of the last response or growth
    stalled: bool = False
    disk_full: bool = False
    done: bool = False
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # the last ones that the client printed


def download(dataset: str, archive: Path, stall_seconds: float | None = None, section: str = "data") -> None:
    """Download the zip of `dataset` ("owner/name" in params.yaml's `section`) to `archive`; progress on stderr.

    A broken connection is resumed as long as each attempt makes progress. Raises UserError that says what went wrong
    and what to do. Neither an error nor an interrupt leaves a partial file.
    """
    stall_seconds = STALL_SECONDS if stall_seconds is None else stall_seconds
    clear_leftovers(archive.parent)
    with tempfile.TemporaryDirectory(prefix=f".download-{os.getpid()}-", dir=archive.parent) as folder:
        partial = Path(folder) / f"{dataset.rpartition('/')[2]}.zip"
        # The delay hides the bar until the first bytes arrive, so that a refusal is a single line.
        with tqdm(desc=dataset, unit="B", unit_scale=True, delay=1e-6, miniters=0) as bar:
            for _ in range(ATTEMPTS):
                before = size_of(partial)
                state = run_client(dataset, partial, bar, stall_seconds)
                if state.done:
                    partial.replace(archive)
                    return
                refused = state.disk_full or (state.status or 0) >= 400
                if refused or size_of(partial) <= before:
                    break
                time.sleep(1)
        raise UserError(failure_message(dataset, state, size_of(partial), stall_seconds, archive.parent, section))


def clear_leftovers(folder: Path) -> None:
    """Remove the partial downloads of runs that were killed, not those of runs that go on beside this one."""
    for leftover in folder.glob(".download-*"):
        pid = leftover.name.split("-")[1]
        if not (pid.isdigit() and files.is_writing(int(pid), leftover)):
            shutil.rmtree(leftover, ignore_errors=True)


def run_client(dataset: str, partial: Path, bar: tqdm, stall_seconds: float) -> ClientState:
    """Run the client once in the folder of `partial`, the file that it creates or continues, and monitor its growth."""
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
    state = ClientState()
    reader = threading.Thread(target=read_output, args=(process, state), daemon=True)
    reader.start()
    try:
        size = size_of(partial)
        while process.poll() is None and not state.stalled and not state.disk_full:
            time.sleep(POLL_SECONDS)
            # Free space is read before the size: what is written in between can only make it look larger.
            free = shutil.disk_usage(partial.parent).free
            new_size = size_of(partial)
            if state.total is not None and state.total - new_size > free:
                state.disk_full = True
            if new_size != size:
                size, state.alive_at = new_size, time.monotonic()
                bar.total = state.total
                bar.update(size - bar.n)
            state.stalled = time.monotonic() - state.alive_at > stall_seconds
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
    size = size_of(partial)
    if size:  # also if everything arrived before the total was reported
        bar.total = state.total
        bar.update(size - bar.n)
    state.done = process.returncode == 0 and size > 0 and size == (state.total or size)
    return state


def read_output(process: subprocess.Popen, state: ClientState) -> None:
    """Read the client's output to its end and record what it reports in `state`."""
    assert process.stdout is not None
    for line in process.stdout:
        text = line.strip()
        if line.startswith(kaggle_command.MARK):
            state.alive_at = time.monotonic()
            key, _, value = line.removeprefix(kaggle_command.MARK).strip().partition(" ")
            if key == "total":
                state.total = int(value)
            else:  # only the last request counts: an anonymous success may follow a refused login
                state.status = int(value) if key == "status" else None
                state.unreachable = value if key == "unreachable" else None
        elif text:
            state.lines.append(text)
            state.disk_full = state.disk_full or bool(DISK_FULL.search(text))


def size_of(path: Path) -> int:
    """Size of a file in bytes, 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def failure_message(
    dataset: str, state: ClientState, size: int, stall_seconds: float, folder: Path, section: str = "data"
) -> str:
    """Describe in one line why the download of `dataset` failed after `size` bytes, and what to do."""
    page = f"https://www.kaggle.com/datasets/{dataset}"
    by_hand = f"or download the zip from {page} by hand and use -S {section}.source=archive -S {section}.path=FILE"
    whole = f"{state.total / 1e6:.1f} MB" if state.total else "an unknown size"
    credentials = "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or kaggle.json"
    status = state.status or 0
    if state.disk_full:
        free = (shutil.disk_usage(folder).free + size) / 1e6  # the partial file will be deleted
        return (
            f"the disk, or a quota on it, is too full for {dataset}: it needs {whole} and {free:.1f} MB are free:"
            f" free some space for {folder} and run again"
        )
    if state.stalled:
        return (
            f"the download of {dataset} stalled for {stall_seconds:g} s after {size / 1e6:.1f} MB of {whole}:"
            f" check the network and run again, {by_hand}"
        )
    if status == 401:
        return f"Kaggle rejects the credentials (401) for {dataset}: renew {credentials}, or unset them for public data"
    if status == 403:
        return f"Kaggle denies access to {dataset} (403): accept its terms on {page} and set {credentials}"
    if status == 404:
        return f"Kaggle has no data set {dataset} (404): correct {section}.kaggle in params.yaml"
    if status == 429:
        return f"Kaggle refuses {dataset} after too many requests (429): wait some minutes and run again, {by_hand}"
    if status >= 500:
        return f"Kaggle's server failed ({status}) for {dataset}: try again later, {by_hand}"
    if state.unreachable:
        return f"Kaggle cannot be reached for {dataset} ({state.unreachable}): check the network, {by_hand}"
    if state.total and size < state.total:
        return (
            f"the connection was lost repeatedly, after {size / 1e6:.1f} MB of {whole} of {dataset}:"
            f" check the network, {by_hand}"
        )
    last = state.lines[-1][:200] if state.lines else "nothing"
    return f"the kaggle client could not download {dataset} and printed {last!r}: fix that, {by_hand}"
