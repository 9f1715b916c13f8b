"""Faults of the live page's server: floods of connections, hostile messages, replaced models, many clients."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
import re
import resource
import shutil
import socket
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import pytest

from face_mask import litert
from face_mask.live import frames
from tests import live_workspace
from tools.live_server import serving

HALF_OPEN = 2000
FILES = 1024  # descriptors that the server may use: the default of most Linux distributions
EXTREME_TIMES = (0.0, -0.0, 5e-324, -5e-324, 1e-300, 1e-9, 1.0, 1e16, -1e16, 1.7e308, -1.7e308, 1e308)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live_workspace.workspace(tmp_path_factory.mktemp("live"))


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A workspace of the server whose models the test may damage."""
    return Path(shutil.copytree(models, tmp_path / "workspace"))


@pytest.fixture(scope="module")
def encoded() -> bytes:
    return live_workspace.jpeg(live_workspace.scene())


@dataclass(frozen=True)
class Server:
    address: str
    port: int
    process: psutil.Process
    log: Path

    def messages(self) -> list[str]:
        """The lines that it has logged, besides those with which it starts."""
        return [line for line in self.log.read_text().splitlines() if not line.startswith("live: ")]

    def memory_mb(self) -> float:
        return self.process.memory_info().rss / 1e6

    def get(self) -> int:
        """The status of the page; fails if it is not answered in 20 seconds."""
        with urllib.request.urlopen(self.address, timeout=20) as response:
            return response.status


@contextmanager
def running(folder: Path, files: int | None = None) -> Iterator[Server]:
    """The server in its own process, which may open `files` descriptors; its stderr goes to a file."""
    log = folder / "stderr.txt"
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = set(psutil.Process().children())
    with log.open("wb") as stderr, ExitStack() as stack:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
        try:
            address = stack.enter_context(serving(folder=folder, stderr=stderr))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        [process] = set(psutil.Process().children()) - others
        yield Server(address, int(address.rsplit(":", 1)[1].strip("/")), process, log)


def frame(number: int, encoded: bytes, seconds: float | None = None) -> bytes:
    return frames.HEADER.pack(number % 2**32, number / 20 if seconds is None else seconds) + encoded


async def ask(page: Any, message: bytes) -> dict:
    await page.send_bytes(message)
    return await page.receive_json(timeout=30)


def visit(address: str, script: Callable[[Any], Awaitable[None]]) -> None:
    """Run a script as a page that has connected."""

    async def run() -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{address}frames") as page:
            assert (await page.receive_json(timeout=20))["type"] == "hello"
            await script(page)

    asyncio.run(run())


@contextmanager
def more_files(count: int) -> Iterator[None]:
    """Let this process open `count` files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= before[1] < count:
        pytest.skip(f"`ulimit -Hn` is {before[1]}, and this test opens {count} sockets")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, before[0]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.fault(
    23, "2,000 half-open requests to the live server, `ulimit -n 1024`", "the page answers meanwhile; a bounded log"
)
def test_half_open_requests_leave_the_page_reachable(folder, encoded, seen):
    slowest = 0.0
    with running(folder, FILES) as live, more_files(HALF_OPEN + 500), ExitStack() as stack:
        used = 0

        def flood() -> None:
            for _ in range(200):
                sock = stack.enter_context(closing(socket.create_connection(("127.0.0.1", live.port), 20)))
                sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")

        async def script(page: Any) -> None:
            nonlocal slowest, used
            for number in range(HALF_OPEN // 200):
                await asyncio.to_thread(flood)
                started = time.monotonic()
                assert await asyncio.to_thread(live.get) == 200
                slowest = max(slowest, time.monotonic() - started)
                # The page that was open before is not disconnected.
                assert (await ask(page, frame(number, encoded)))["type"] == "faces"
                used = max(used, live.process.num_fds())

        visit(live.address, script)
    assert used < FILES
    assert live.log.stat().st_size < 10_000, live.log.read_text()[:3000]
    seen(f"the page in at most {slowest:.2f} s, at most {used} descriptors, log of {live.log.stat().st_size} bytes")


@pytest.mark.full
@pytest.mark.fault(23, "half-open, silent and unread connections to the live server", "closed within 30 s")
def test_connections_without_a_request_are_closed(folder, seen):
    with running(folder) as live, ExitStack() as stack:
        before = live.process.num_fds()
        for number in range(90):
            sock = stack.enter_context(closing(socket.create_connection(("127.0.0.1", live.port), 20)))
            # Silent, in the middle of a header, or a complete request; no answer is read.
            sock.sendall((b"", b"GET / HTTP/1.1\r\nHost: ", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[number % 3])
        started = time.monotonic()
        while live.process.num_fds() < before + 60:  # until then, it has not accepted those without a whole request
            assert time.monotonic() < started + 10
            time.sleep(0.01)
        while live.process.num_fds() > before:
            assert time.monotonic() < started + 30
            time.sleep(0.2)
        seconds = time.monotonic() - started
        assert live.get() == 200
    seen(f"all 90 closed after {seconds:.0f} s")


@pytest.mark.fault(23, "1,000 malformed requests to the live server", "the page answers meanwhile; a bounded log")
def test_malformed_requests_do_not_fill_the_log(folder, seen):
    random_bytes = random.Random(5)
    with running(folder) as live:
        for number in range(1000):
            with socket.create_connection(("127.0.0.1", live.port), 20) as sock:
                garbage = random_bytes.randbytes(40)
                sock.sendall(garbage if number % 2 else b"GET / HTTP/1.1\r\nHost: x\r\n" + garbage + b"\r\n\r\n")
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
        assert live.get() == 200
    assert live.log.stat().st_size < 100_000, live.log.read_text()[:3000]
    seen(f"log of {live.log.stat().st_size} bytes")


def fuzzed(rng: random.Random, encoded: bytes, number: int) -> bytes | str:
    """A hostile message: a frame with an extreme time or damaged bytes, or a command that is none."""
    kind = rng.random()
    if kind < 0.5:
        return frame(number, encoded, rng.choice(EXTREME_TIMES) * rng.choice((1, 1, rng.random())))
    if kind < 0.7:
        damaged = bytearray(frame(number, encoded, rng.uniform(-1e300, 1e300)))
        for _ in range(rng.randint(1, 40)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        return bytes(damaged[: rng.randint(0, len(damaged))])
    if kind < 0.8:
        return rng.randbytes(rng.randint(0, 100))
    if kind < 0.81:
        return "[" + "[],{}," * 1_200_000 + "0]"  # 7 MB of JSON
    nested: Any = rng.choice((None, [], {}, 1e308, "é" * rng.randint(0, 500), [[[{}]]], True, -(10**300)))
    command = {
        rng.choice(("type", "model", "\ud800", "")): nested,
        "type": rng.choice(("model", "reset", "log", nested)),
    }
    text = json.dumps(command, ensure_ascii=rng.random() < 0.5).encode(errors="replace").decode()
    return text[: rng.randint(0, len(text))] if rng.random() < 0.3 else text


@pytest.mark.full
@pytest.mark.fault(
    24, "fuzzed messages to the live server with extreme times", "each is answered; finite numbers, bounded memory"
)
def test_fuzzed_messages_are_answered(folder, encoded, seen):
    count = 1500
    rng = random.Random(24)
    answers: dict[str, int] = {}
    peak = 0.0

    def finite(text: str) -> float:
        raise AssertionError(f"{text} in an answer")

    with running(folder) as live:
        first = live.memory_mb()

        async def script(page: Any) -> None:
            nonlocal peak
            for number in range(count):
                message = fuzzed(rng, encoded, number)
                await (page.send_bytes(message) if isinstance(message, bytes) else page.send_str(message))
                answer = json.loads(await page.receive_str(timeout=30), parse_constant=finite)
                answers[answer["type"]] = answers.get(answer["type"], 0) + 1
                rate = (answer.get("metrics") or {}).get("fps")
                assert rate is None or 0 < rate <= 1000
                peak = max(peak, live.memory_mb())
            await page.send_json({"type": "reset"})
            while (await page.receive_json(timeout=30))["type"] != "reset":
                await page.send_json({"type": "reset"})
            answer = await ask(page, frame(0, encoded))
            assert (answer["type"], len(answer["faces"])) == ("faces", 3)

        visit(live.address, script)
        assert live.get() == 200
    assert live.messages() == []
    assert peak < first + 250
    seen(
        f"{count:,} messages: {answers.get('faces', 0):,} predicted, {answers.get('error', 0):,} refused; {peak:.0f} MB"
    )


def scan_bomb(scans: int) -> bytes:
    """A JPEG image of 640×480 pixels that repeats its shortest scan, of 12 bytes."""
    buffer = io.BytesIO()
    live_workspace.empty_scene().save(buffer, "JPEG", progressive=True)
    image = buffer.getvalue()
    starts = [found.start() for found in re.finditer(rb"\xff\xda", image)]
    shortest = min((image[a:b] for a, b in itertools.pairwise([*starts, len(image) - 2])), key=len)
    return image[:-2] + scans * shortest + image[-2:]


@pytest.mark.full
@pytest.mark.fault(16, "JPEG images of 150,000 scans sent to the live server", "refused; other pages are answered")
def test_scan_bombs_do_not_hold_the_threads(folder, encoded, seen):
    bomb = scan_bomb(150_000)
    assert len(bomb) < frames.MAX_BYTES
    slowest, refusals = 0.0, []

    with running(folder) as live:

        async def script(page: Any) -> None:
            nonlocal slowest
            async with aiohttp.ClientSession() as client, client.ws_connect(f"{live.address}frames") as hostile:
                assert (await hostile.receive_json(timeout=20))["type"] == "hello"
                for number in range(10):
                    for both in (2 * number, 2 * number + 1):
                        await hostile.send_bytes(frame(both, bomb))
                    started = time.monotonic()
                    assert (await ask(page, frame(number, encoded)))["type"] == "faces"
                    slowest = max(slowest, time.monotonic() - started)
                    refusals.extend([await hostile.receive_json(timeout=30) for _ in range(2)])

        visit(live.address, script)
    assert {answer["type"] for answer in refusals} <= {"error", "dropped"}
    reason = next(answer["message"] for answer in refusals if answer["type"] == "error")
    assert "scans" in reason
    assert slowest < 5
    seen(f"{reason}; another page's frame in at most {slowest:.2f} s")


@pytest.mark.full
@pytest.mark.fault(
    25, "a model replaced, damaged and deleted while the live page runs", "every frame is answered by the first model"
)
def test_changed_model_files_do_not_reach_a_running_server(folder, encoded, seen):
    mobilenet, cnn = (litert.path_of(name, folder=folder / litert.MODELS) for name in ("mobilenet", "cnn"))
    original = mobilenet.read_bytes()
    answered = 0

    def replace() -> None:
        shutil.copy(cnn, folder / "other")  # the opposite predictions
        (folder / "other").replace(mobilenet)

    def overwrite() -> None:
        mobilenet.write_bytes(np.random.default_rng(0).bytes(len(original)))

    def truncate() -> None:
        with mobilenet.open("r+b") as file:
            file.truncate(100)

    def delete() -> None:
        mobilenet.unlink()
        cnn.unlink()

    with running(folder) as live:

        async def converse(expected: list[str] | None) -> list[str]:
            """Two frames at a time, so that both threads work; all answers have the same labels, which it returns."""
            nonlocal answered
            async with aiohttp.ClientSession() as client, client.ws_connect(f"{live.address}frames") as page:
                await page.receive_json(timeout=20)
                for number in range(0, 12, 2):
                    for both in (number, number + 1):
                        await page.send_bytes(frame(both, encoded))
                        await asyncio.sleep(0.01)
                    for _ in range(2):
                        answer = await page.receive_json(timeout=30)
                        if answer["type"] == "dropped":
                            continue
                        assert answer["type"] == "faces", answer
                        faces = sorted(answer["faces"], key=lambda face: face["box"][0])
                        labels = ["with_mask" if face["probability"] > 0.5 else "without_mask" for face in faces]
                        assert labels == (expected or labels)
                        expected = labels
                        answered += 1
                await page.send_json({"type": "model", "model": "cnn"})
                await page.receive_json(timeout=30)
                other = await ask(page, frame(20, encoded))
                assert other["model"] == "cnn" and len(other["faces"]) == 3
                assert expected
                return expected

        (folder / "other").write_bytes(b"")
        # Before any frame: a thread must not read the file at its first frame.
        replace()
        labels = asyncio.run(converse(None))
        predictions = live_workspace.expected(live_workspace.scene(), folder)  # of the file that is there now
        assert labels != ["with_mask" if one.with_mask > 0.5 else "without_mask" for one in predictions]
        for change in (overwrite, truncate, delete):
            change()
            asyncio.run(converse(labels))
    assert live.messages() == []
    seen(f"{answered} frames with the same labels, no connection closed, nothing logged")


@pytest.mark.full
@pytest.mark.fault(28, "50 clients of the live server at once", "answers in order, flat memory, a bounded wait")
def test_many_clients_for_minutes(folder, encoded, seen, request):
    """Four pages are served at a time, two frames in flight each; the others are refused and try again, as pages do.

    After three seconds a page leaves, so that another one gets its turn.
    """
    duration = request.config.getoption("--live-seconds")
    rng = random.Random(28)
    latencies: list[float] = []
    pages: list[float] = []
    memory: list[float] = []
    served: dict[int, int] = {}
    refused = 0

    with running(folder) as live:
        end = time.monotonic() + duration

        async def client_of(client: aiohttp.ClientSession, number: int) -> None:
            nonlocal refused
            while time.monotonic() < end:
                started = time.monotonic()
                async with client.get(live.address) as response:
                    assert response.status == 200
                    await response.read()
                pages.append(1000 * (time.monotonic() - started))
                async with client.ws_connect(f"{live.address}frames") as page:
                    hello = await page.receive(timeout=30)
                    if hello.type == aiohttp.WSMsgType.TEXT:
                        served[number] = served.get(number, 0) + 1
                        await use(page, min(end, time.monotonic() + 3))
                    else:
                        assert page.close_code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
                        refused += 1
                await asyncio.sleep(rng.uniform(0.5, 2))

        async def use(page: Any, until: float) -> None:
            """Send the next frame when one is answered, two in flight, at 10 frames per second."""
            sent: dict[int, float] = {}
            number = answered = 0
            while time.monotonic() < until or sent:
                while len(sent) < 2 and time.monotonic() < until:
                    sent[number] = time.monotonic()
                    await page.send_bytes(frame(number, encoded))
                    number += 1
                answer = await page.receive_json(timeout=60)
                took = 1000 * (time.monotonic() - sent.pop(answer["frame"]))
                assert answer["frame"] == answered  # in order
                answered += 1
                if answer["type"] == "faces":
                    assert len(answer["faces"]) == 3
                    latencies.append(took)
                else:
                    assert answer["type"] == "dropped", answer
                await asyncio.sleep(0.1)

        async def observe() -> None:
            while time.monotonic() < end:
                memory.append(live.memory_mb())
                await asyncio.sleep(1)

        async def run() -> None:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
                await asyncio.gather(observe(), *(client_of(client, number) for number in range(50)))

        asyncio.run(run())
    assert len(served) > 25  # nobody is shut out, as far as the time allows
    half = len(memory) // 2
    first, last = float(np.median(memory[half // 2 : half])), float(np.median(memory[-half // 2 :]))
    assert last < first + 30, memory
    assert live.messages() == []
    p50, p90, p99 = np.percentile(latencies, (50, 90, 99))
    assert p99 < 10_000  # after which the page reconnects
    seen(
        f"{duration} s: {len(latencies):,} frames, answered in {p50:.0f} · {p90:.0f} · {p99:.0f} ms (p50 · p90 · p99);"
        f" the page in {np.percentile(pages, 99):.0f} ms (p99); {refused:,} refusals, {len(served)} of 50 clients"
        f" served; {first:.0f} MB, then {last:.0f} MB"
    )
