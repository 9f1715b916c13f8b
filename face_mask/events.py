"""Report a face without a mask to a command or to a web address (webhook): off unless `--on-unmasked` is given.

A tracked face that was labelled without_mask for `--after` seconds on end is reported, once while it is tracked, and
all faces together at most once in `--at-most-every` seconds. The command gets the event as JSON on its standard input,
the address as the body of a POST request:

    {"event": "unmasked", "time": "2026-11-25T21:04:05.678Z", "source": "rtsp://camera.local/stream",
     "face": 3, "seconds": 5.2, "probability": 0.9812}

`face` is the number of the tracked face, `seconds` for how long it has had no mask, `probability` that of without_mask,
smoothed. No image is sent. Delivery has a thread of its own, so that frames never wait for it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import queue
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from face_mask.errors import UserError, printable
from face_mask.schema import WITHOUT_MASK
from face_mask.tracker import Face

DELIVERY_SECONDS = 10.0  # for a command or a request; then it is ended
MAX_WAITING = 16  # events that wait for delivery; more are dropped
AFTER, AT_MOST_EVERY = 5.0, 60.0  # seconds, by default


class NotDelivered(Exception):
    """An event that was not delivered; the message is the reason, in a few words."""


class Notifier:
    """Delivers events to a command or an address, in a thread of its own, and limits their rate."""

    def __init__(self, target: str, after: float, at_most_every: float, report: Callable[[str], None]) -> None:
        """`target` is a command or an http(s) address. `report` gets a line for each event that is not delivered.

        Raises UserError if the command does not exist or the address is invalid.
        """
        self.after = after
        self.at_most_every = at_most_every
        self.report = report
        self.deliver, self.name = to_address(target) if is_address(target) else to_command(target)
        self.last: float | None = None  # when the last event was accepted
        self.waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self.closing = False
        self.thread = threading.Thread(target=self.run, name="events", daemon=True)
        self.thread.start()

    def offer(self, face: Face, seconds: float, source: str, now: float) -> bool:
        """Queue an event, unless one was accepted less than `at_most_every` seconds ago; `now` may be any clock."""
        if self.last is not None and 0 <= now - self.last < self.at_most_every:
            return False
        self.last = now
        event = {
            "event": "unmasked",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "source": source,
            "face": face.number,
            "seconds": round(seconds, 3),
            "probability": round(1 - face.smoothed, 4),
        }
        try:
            self.waiting.put_nowait(json.dumps(event).encode())
        except queue.Full:
            self.report(f"{self.name}: an event is dropped, as {MAX_WAITING} wait for delivery")
        return True

    def run(self) -> None:
        while (event := self.waiting.get()) is not None:
            try:
                self.deliver(event)
            except NotDelivered as error:
                self.report(f"{self.name}: the event is not delivered: {printable(str(error))}")
            if self.closing and self.waiting.empty():  # there was no room for None
                return

    def close(self) -> None:
        """Deliver what waits, within DELIVERY_SECONDS."""
        self.closing = True
        with suppress(queue.Full):
            self.waiting.put_nowait(None)
        self.thread.join(DELIVERY_SECONDS)


class Watch:
    """Finds the faces of one session that have had no mask for `notifier.after` seconds. Reads no clock."""

    def __init__(self, notifier: Notifier, source: str) -> None:
        self.notifier = notifier
        self.source = source
        self.since: dict[int, float] = {}  # by number of the face: since when it has had no mask, in seconds
        self.reported: set[int] = set()

    def update(self, faces: Sequence[Face], now: float) -> None:
        """Take the tracked faces after a frame. `now` is the time for the rate limit, in seconds of any clock.

        A face that the rate limit held back is reported later, if it still has no mask then.
        """
        unmasked = {face.number: face for face in faces if face.label == WITHOUT_MASK}
        self.since = {number: self.since.get(number, face.time) for number, face in unmasked.items()}
        self.reported &= {face.number for face in faces}
        for number, face in unmasked.items():
            seconds = face.time - self.since[number]
            due = seconds >= self.notifier.after and face.detected and number not in self.reported
            if due and self.notifier.offer(face, seconds, self.source, now):
                self.reported.add(number)


def is_address(target: str) -> bool:
    return target.partition("://")[0].lower() in ("http", "https")


def to_command(target: str) -> tuple[Callable[[bytes], None], str]:
    """The function that runs a command, without a shell, and its name for messages. Raises UserError."""
    try:
        words = shlex.split(target, posix=os.name != "nt")
    except ValueError as error:
        raise UserError(f"--on-unmasked: this is not a valid command ({error}): check its quotes") from None
    if not words or shutil.which(words[0]) is None:
        raise UserError(f"--on-unmasked: there is no command {words[0] if words else ''!r}: name one, or a web address")

    def deliver(event: bytes) -> None:
        devnull = subprocess.DEVNULL
        try:
            done = subprocess.run(words, input=event, stdout=devnull, stderr=devnull, timeout=DELIVERY_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotDelivered(f"it took more than {DELIVERY_SECONDS:g} s") from None
        except OSError as error:
            raise NotDelivered(error.strerror or type(error).__name__) from None
        if done.returncode:
            raise NotDelivered(f"exit code {done.returncode}")

    return deliver, printable(words[0])  # its arguments may be secret


def to_address(target: str) -> tuple[Callable[[bytes], None], str]:
    """The function that sends a POST request, and the host for messages. Raises UserError if the address is invalid."""
    from face_mask import web

    try:
        parts = urlsplit(target)
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise UserError("--on-unmasked: this is not a valid address: use http://HOST/PATH or https://HOST/PATH")
    headers = {"Content-Type": "application/json", "User-Agent": web.HEADERS["User-Agent"]}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    path = urlunsplit(("", "", quote(parts.path or "/", web.SAFE), quote(parts.query, web.SAFE), ""))

    def deliver(event: bytes) -> None:
        deadline = time.monotonic() + DELIVERY_SECONDS
        try:
            # It is the user's own address, often in the private network, and redirects are not followed.
            sock = web.connect(parts, deadline, allowed=lambda _: True)
            timer = threading.Timer(max(0.0, deadline - time.monotonic()), web.shut_down, [sock])
            timer.daemon = True
            timer.start()
            try:
                connection = http.client.HTTPConnection(parts.netloc.rpartition("@")[2])
                connection.sock = sock
                connection.request("POST", path, event, headers)
                status = connection.getresponse().status
            finally:
                timer.cancel()
                sock.close()
        except web.NotFetched as error:
            raise NotDelivered(str(error)) from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            late = time.monotonic() >= deadline
            reason = f"no answer within {DELIVERY_SECONDS:g} s" if late else web.reason_of(error)
            raise NotDelivered(reason) from None
        if not 200 <= status < 300:
            raise NotDelivered(f"HTTP {status}")

    return deliver, printable(f"{parts.scheme}://{parts.hostname}/…")  # the path of a webhook is its password


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `from_arguments` reads."""
    add = parser.add_argument_group("events", "off by default; face_mask/events.py describes what is sent").add_argument
    add("--on-unmasked", metavar="COMMAND|URL", help="run this or send a POST request for a face without a mask")
    add("--after", type=seconds, default=AFTER, metavar="SECONDS", help="without a mask on end; default: %(default)g")
    add(
        "--at-most-every", type=seconds, default=AT_MOST_EVERY, metavar="SECONDS",
        help="between two events, whatever the number of faces; default: %(default)g",
    )  # fmt: skip


def from_arguments(args: argparse.Namespace, report: Callable[[str], None]) -> Notifier | None:
    """The notifier of `--on-unmasked`, None without that option. Raises UserError as Notifier does."""
    return Notifier(args.on_unmasked, args.after, args.at_most_every, report) if args.on_unmasked else None


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value
