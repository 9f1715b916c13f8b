"""Events: which faces are reported, how often, and how they reach a command or a real HTTP server."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from face_mask import events
from face_mask.errors import UserError
from face_mask.events import Notifier, Watch
from face_mask.live import __main__ as live
from face_mask.tracker import Face

PRINT_INPUT = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"


class Requests(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        if self.path.startswith("/slow"):
            time.sleep(1)
        self.send_response({"/moved": 302, "/broken": 500}.get(self.path, 204))
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    server.received = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def notifier() -> Callable[..., tuple[Notifier, list[str]]]:
    """Makes a notifier and the list of the lines that it reports."""

    def make(target: str, after: float = 2, at_most_every: float = 0) -> tuple[Notifier, list[str]]:
        lines: list[str] = []
        return Notifier(target, after, at_most_every, lines.append), lines

    return make


def face(number: int, label: str, time: float, detected: bool = True) -> Face:
    return Face(number, (0, 0, 9, 9), 0.9, 0.03, 0.02, label, time, detected)


def offered(watch: Watch, frames: list[list[Face]]) -> list[tuple[int, float]]:
    """The numbers and durations of the faces that are reported; frames are a second apart."""
    seen: list[tuple[int, float]] = []
    offer = watch.notifier.offer

    def record(face: Face, seconds: float, source: str, now: float) -> bool:
        accepted = offer(face, seconds, source, now)
        if accepted:
            seen.append((face.number, seconds))
        return accepted

    watch.notifier.offer = record  # type: ignore[method-assign]
    for second, faces in enumerate(frames):
        watch.update(faces, second)
    return seen


def test_a_face_is_reported_once_after_the_time_on_end(notifier: Callable) -> None:
    one, _ = notifier("true", after=2)
    bare = [[face(1, "without_mask", t)] for t in range(5)]
    assert offered(Watch(one, "x"), bare) == [(1, 2)]
    # A mask, or being unsure, starts the time anew; the face is reported again.
    bare[2] = [face(1, "unsure", 2)]
    later = [[face(1, "without_mask", t)] for t in range(5, 9)]
    assert offered(Watch(one, "x"), bare + later) == [(1, 2)]
    assert offered(Watch(one, "x"), [*bare[3:], [face(1, "with_mask", 5)], *later]) == [(1, 2)]
    # What was reported is not again after a frame that is unsure.
    unsure = [[face(1, "unsure", 3)]]
    assert offered(Watch(one, "x"), [[face(1, "without_mask", t)] for t in range(3)] + unsure + later) == [(1, 2)]
    # A face that is not detected at the moment is not reported, and one that is gone is forgotten.
    gone = [[face(2, "without_mask", 0)], [face(2, "without_mask", 0, detected=False)], []]
    watch = Watch(one, "x")
    assert offered(watch, gone) == [] and watch.since == {}
    assert offered(Watch(one, "x"), [[face(1, "with_mask", t), face(2, "unsure", t)] for t in range(9)]) == []


def test_the_rate_limit_delays_other_faces_and_is_shared(notifier: Callable) -> None:
    one, _ = notifier("true", after=1, at_most_every=4)
    two_faces = [[face(1, "without_mask", t), face(2, "without_mask", t)] for t in range(9)]
    assert offered(Watch(one, "x"), two_faces) == [(1, 1), (2, 5)]
    assert not one.offer(face(3, "without_mask", 0), 1, "y", now=5.5)  # of another session


def test_a_webhook_gets_the_documented_json(server: Any, notifier: Callable) -> None:
    address = f"http://me:p%40ss@127.0.0.1:{server.server_port}/hook?room=1"
    one, lines = notifier(address)
    one.offer(face(7, "without_mask", 9.0), 2.3456, "camera 0", now=0)
    one.close()
    [(path, headers, body)] = server.received
    event = json.loads(body)
    moment = datetime.fromisoformat(event.pop("time"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert event == {"event": "unmasked", "source": "camera 0", "face": 7, "seconds": 2.346, "probability": 0.98}
    assert set(event) | {"time"} == set(json.loads((events.__doc__ or "").partition("    ")[2].partition("}")[0] + "}"))
    assert path == "/hook?room=1" and headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Basic bWU6cEBzcw==" and headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert lines == []


def test_what_is_not_delivered_is_one_line_without_secrets_and_never_blocks(
    server: Any, notifier: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "DELIVERY_SECONDS", 0.3)
    base = f"http://me:secret@127.0.0.1:{server.server_port}"
    sleep = f'"{sys.executable}" -c "import time; time.sleep(60)" secret'
    fail = f'"{sys.executable}" -c "raise SystemExit(3)" secret'
    for target, reason in (
        (f"{base}/broken", "HTTP 500"),
        (f"{base}/moved", "HTTP 302"),  # redirects are not followed
        (f"{base}/slow?key=secret", "no answer within 0.3 s"),
        ("http://127.0.0.1:9/secret@", "ConnectionRefusedError"),
        (sleep, "it took more than 0.3 s"),
        (fail, "exit code 3"),
    ):
        monkeypatch.setattr(events, "DELIVERY_SECONDS", 5 if target == fail else 0.3)
        one, lines = notifier(target)
        started = time.monotonic()
        for _ in range(events.MAX_WAITING + 3 if "slow" in target else 1):
            one.offer(face(1, "without_mask", 0), 1, "x", now=0)
        assert time.monotonic() - started < 0.2
        while not any("not delivered" in line for line in lines):
            time.sleep(0.01)
        assert any(reason in line for line in lines) and all(len(line.splitlines()) == 1 for line in lines)
        assert "secret" not in "".join(lines)
        assert any("is dropped, as 16 wait" in line for line in lines) == ("slow" in target)
    assert "/elsewhere" not in [path for path, _, _ in server.received]


def test_a_command_runs_without_a_shell_and_gets_the_event(notifier: Callable, tmp_path: Path) -> None:
    out = tmp_path / "a; touch b"
    one, lines = notifier(f'"{sys.executable}" -c "{PRINT_INPUT}" "{out}"')
    for second in (1, 2):
        one.offer(face(7, "without_mask", 9.0), second, "x", now=second)
    one.close()
    assert [json.loads(line)["seconds"] for line in out.read_text().splitlines()] == [1, 2]
    assert lines == [] and [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_live_page_delivers_what_waits_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Notifier] = []
    packaged = live.models.packaged()
    monkeypatch.setattr(live.models, "find", lambda name: packaged)
    monkeypatch.setattr(live, "InferencePool", lambda values: None)
    monkeypatch.setattr(live, "serve", lambda *_: None)
    monkeypatch.setattr(Notifier, "close", lambda one: closed.append(one))
    live.main(["--port", "0", "--on-unmasked", sys.executable])
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no-such-command x", "there is no command 'no-such-command'"),
        ("tool secret '", r"^--on-unmasked: this is not a valid command \(No closing quotation\): check its quotes$"),
        (" ", "there is no command ''"),
        ("http://", "is not a valid address"),
        ("https://host:99999/", "is not a valid address"),
    ],
)
def test_an_invalid_target_is_named_at_the_start(target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Notifier(target, 1, 1, print)
