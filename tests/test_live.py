"""The live page's server, tested by a real client over a real WebSocket."""

from __future__ import annotations

import asyncio
import io
import math
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import WSMsgType
from aiohttp.test_utils import TestServer
from PIL import Image

from face_mask import litert, settings
from face_mask.errors import UserError
from face_mask.events import Notifier
from face_mask.live import connection, frames, inference, security, server
from face_mask.live.inference import InferencePool
from face_mask.live.rate import RateLimiter
from face_mask.tracker import Face
from tests import live_workspace
from tools.live_server import serving

Client = Any  # aiohttp.ClientWebSocketResponse, whose parameter differs from version to version


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live_workspace.workspace(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def encoded() -> bytes:
    return live_workspace.jpeg(live_workspace.scene())


def frame(number: int, encoded: bytes, time: float | None = None) -> bytes:
    return frames.HEADER.pack(number, number / 20 if time is None else time) + encoded


@asynccontextmanager
async def served(
    folder: Path, log: Callable | None = None, threads: int = 2, notifier: Notifier | None = None
) -> AsyncIterator[Any]:
    pool = InferencePool(settings.load(), folder / litert.MODELS, threads)
    async with TestServer(server.create_app(pool, "127.0.0.1", log, notifier)) as running:
        yield running


@asynccontextmanager
async def connected(running: TestServer, **options: Any) -> AsyncIterator[tuple[Client, dict]]:
    async with aiohttp.ClientSession() as client, client.ws_connect(running.make_url("/frames"), **options) as page:
        yield page, await page.receive_json(timeout=20)


def talk(folder: Path, script: Callable[[Client, dict], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a script as a page that has connected."""

    async def run() -> None:
        async with served(folder, **options) as running, connected(running) as (page, hello):
            await asyncio.wait_for(script(page, hello), 60)

    asyncio.run(run())


async def ask(page: Client, message: bytes | dict) -> dict:
    if isinstance(message, bytes):
        await page.send_bytes(message)
    else:
        await page.send_json(message)
    return await page.receive_json(timeout=20)


def test_a_frame_is_answered_with_the_predictions_of_the_classifier(folder: Path, encoded: bytes) -> None:
    expected = live_workspace.expected(Image.open(io.BytesIO(encoded)), folder)

    async def script(page: Client, hello: dict) -> None:
        assert hello == {
            "type": "hello",
            "models": ["cnn", "mobilenet"],
            "model": "mobilenet",
            "mlflow": False,
            "unsure": {"cnn": [0.3, 0.7], "mobilenet": [0.3, 0.7]},
        }
        for number in (7, 8):
            answer = await ask(page, frame(number, encoded))
            assert (answer["type"], answer["frame"], answer["model"]) == ("faces", number, "mobilenet")
            assert (answer["width"], answer["height"]) == live_workspace.SIZE
            faces = sorted(answer["faces"], key=lambda face: face["box"][0])
            assert [face["label"] for face in faces] == live_workspace.LABELS
            for face, prediction in zip(faces, expected, strict=True):
                assert face["box"] == pytest.approx(prediction.box, abs=0.06)
                assert face["probability"] == face["smoothed"] == pytest.approx(prediction.with_mask, abs=1e-4)
                assert face["detected"]
        assert answer["metrics"]["frames"] == 2
        assert answer["metrics"]["faces"] == 6
        assert answer["metrics"]["distinct_faces"] == 3
        assert answer["metrics"]["latency_ms_p50"] > 0

    talk(folder, script)


def test_a_picture_is_classified_like_an_image_by_predict_and_reports_no_event(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = live_workspace.expected(Image.open(io.BytesIO(encoded)), folder, picture=True)
    notifier = Notifier("true", after=0, at_most_every=0, report=print)
    offered: list[int] = []

    def offer(face: Face, *_: object) -> bool:
        offered.append(face.number)
        return True

    monkeypatch.setattr(notifier, "offer", offer)

    async def script(page: Client, hello: dict) -> None:
        assert await ask(page, {"type": "pictures", "on": True}) == {"type": "pictures", "on": True}
        for number in (1, 2):  # two pictures have no face in common
            answer = await ask(page, frame(number, encoded, time=-1.0 * number))
            faces = sorted(answer["faces"], key=lambda face: face["box"][0])
            assert [face["number"] for face in answer["faces"]] == [3 * number - 2, 3 * number - 1, 3 * number]
            for face, prediction in zip(faces, expected, strict=True):
                assert face["box"] == pytest.approx(prediction.box, abs=0.06)
        assert (await ask(page, {"type": "pictures", "on": 1}))["message"] == "unknown command"
        assert offered == []
        await ask(page, {"type": "pictures", "on": False})
        answer = await ask(page, frame(3, encoded))
        assert offered == [face["number"] for face in answer["faces"] if face["label"] == "without_mask"] != []

    talk(folder, script, notifier=notifier)


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("message", "reason", "number"),
    [
        (b"", "header of 12 bytes", None),
        (b"12345678901", "header of 12 bytes", None),
        (frame(3, b""), "empty file", 3),
        (frame(3, b"not an image at all"), "cannot be decoded: not an image", 3),
        (frame(3, b"GIF89a" + bytes(100)), "cannot be decoded: not an image", 3),
        (frame(3, png(4, 4)[:40]), "cannot be decoded", 3),
        (frame(3, png(8000, 8000)), "8000x8000 pixels", 3),
        (frame(3, bytes(frames.MAX_BYTES)), "bytes, more than", 3),
        (frame(3, b"x", time=math.nan), "not a finite number of seconds", 3),
        (frame(3, b"x", time=math.inf), "not a finite number of seconds", 3),
    ],
)
def test_an_invalid_frame_is_an_error_and_nothing_else(
    folder: Path, encoded: bytes, message: bytes, reason: str, number: int | None
) -> None:
    async def script(page: Client, hello: dict) -> None:
        answer = await ask(page, message)
        assert (answer["type"], answer["frame"]) == ("error", number)
        assert reason in answer["message"]
        good = await ask(page, frame(4, encoded))
        assert (good["type"], good["frame"], len(good["faces"])) == ("faces", 4, 3)
        assert good["metrics"]["frames"] == 1

    talk(folder, script)


def test_a_truncated_jpeg_is_an_error(folder: Path, encoded: bytes) -> None:
    async def script(page: Client, hello: dict) -> None:
        answer = await ask(page, frame(1, encoded[: len(encoded) // 2]))
        assert answer["type"] == "error"
        assert "damaged" in answer["message"]

    talk(folder, script)


def test_tiny_and_odd_frames_are_answered(folder: Path) -> None:
    async def script(page: Client, hello: dict) -> None:
        for number, size in enumerate([(1, 1), (1900, 2), (3, 1080)]):
            answer = await ask(page, frame(number, png(*size)))
            assert (answer["type"], answer["faces"]) == ("faces", [])

    talk(folder, script)


def test_a_message_above_the_limit_closes_the_connection(folder: Path) -> None:
    async def run() -> None:
        async with served(folder) as running:
            async with connected(running) as (page, _):
                with suppress(ConnectionError):  # it may be closed while this is still being sent
                    await page.send_bytes(bytes(server.MAX_MESSAGE + 100))
                assert (await page.receive(timeout=20)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
            async with connected(running) as (_, hello):
                assert hello["type"] == "hello"

    asyncio.run(run())


class Held:
    """Replaces InferencePool.predict: each frame waits until the test releases `gate`."""

    def __init__(self, pool: InferencePool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.predict, self.gate = pool.predict, threading.Semaphore(0)
        self.predicted: list[int] = []
        monkeypatch.setattr(pool, "predict", self)

    def __call__(self, frame: frames.Frame, model: str, picture: bool) -> Any:
        assert self.gate.acquire(timeout=20)
        self.predicted.append(frame.number)
        return self.predict(frame, model, picture)


def test_only_the_newest_frame_waits_and_older_ones_are_dropped(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with served(folder, threads=1) as running, connected(running) as (page, _):
            held = Held(running.app[server.POOL], monkeypatch)
            for number in range(10):
                await page.send_bytes(frame(number, encoded))
                await asyncio.sleep(0.02)
            early = [await page.receive_json(timeout=20) for _ in range(8)]
            assert [(answer["type"], answer["frame"]) for answer in early] == [("dropped", n) for n in range(1, 9)]
            held.gate.release(2)
            late = [await page.receive_json(timeout=20) for _ in range(2)]
            assert [(answer["type"], answer["frame"]) for answer in late] == [("faces", 0), ("faces", 9)]
            assert held.predicted == [0, 9]

    asyncio.run(run())


def test_answers_are_in_order_although_two_threads_predict(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with served(folder, threads=2) as running, connected(running) as (page, _):
            pool = running.app[server.POOL]
            predict = pool.predict

            def uneven(frame: frames.Frame, model: str, picture: bool) -> Any:
                time.sleep(0.3 if frame.number % 2 == 0 else 0)
                return predict(frame, model, picture)

            monkeypatch.setattr(pool, "predict", uneven)
            answers = []
            for number in range(0, 6, 2):
                await page.send_bytes(frame(number, encoded))
                await page.send_bytes(frame(number + 1, encoded))
                answers += [await page.receive_json(timeout=20) for _ in range(2)]
            assert [(answer["type"], answer["frame"]) for answer in answers] == [("faces", n) for n in range(6)]
            assert [answer["metrics"]["frames"] for answer in answers] == [1, 2, 3, 4, 5, 6]

    asyncio.run(run())


def test_a_page_that_disconnects_during_inference_frees_its_thread(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with served(folder, threads=1) as running:
            held = Held(running.app[server.POOL], monkeypatch)
            for _ in range(3):
                async with connected(running) as (page, _):
                    await page.send_bytes(frame(1, encoded))
                    await page.send_bytes(frame(2, encoded))
                    await asyncio.sleep(0.05)
                held.gate.release(2)
            await asyncio.sleep(0.2)
            held.gate.release(100)
            async with connected(running) as (page, _):
                answer = await ask(page, frame(5, encoded))
                assert (answer["type"], answer["frame"]) == ("faces", 5)

    asyncio.run(run())


def test_one_page_does_not_hold_all_threads_when_another_is_connected(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with served(folder, threads=2) as running:
            pool = running.app[server.POOL]
            predict, gate = pool.predict, threading.Event()

            def slow(frame: frames.Frame, model: str, picture: bool) -> Any:
                assert frame.number > 10 or gate.wait(20)
                return predict(frame, model, picture)

            monkeypatch.setattr(pool, "predict", slow)
            try:
                async with connected(running) as (hostile, _), connected(running) as (page, _):
                    for number in (1, 2, 3):
                        await hostile.send_bytes(frame(number, encoded))
                    assert (await hostile.receive_json(timeout=20))["type"] == "dropped"
                    assert (await ask(page, frame(11, encoded)))["frame"] == 11
                    gate.set()
                    assert [(await hostile.receive_json(timeout=20))["frame"] for _ in range(2)] == [1, 3]
                    await page.close()
                    await asyncio.sleep(0.1)
                    assert pool.threads_per_page() == 2
            finally:
                gate.set()

    asyncio.run(run())


def test_the_server_responds_during_inference(folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with served(folder, threads=1) as running, connected(running) as (page, _):
            held = Held(running.app[server.POOL], monkeypatch)
            await page.send_bytes(frame(1, encoded))
            async with aiohttp.ClientSession() as client, client.get(running.make_url("/")) as response:
                assert response.status == 200
            assert (await ask(page, {"type": "model", "model": "cnn"}))["model"] == "cnn"
            held.gate.release()
            assert (await page.receive_json(timeout=20))[
                "model"
            ] == "mobilenet"  # as it was when the frame was submitted

    asyncio.run(run())


def test_a_bug_closes_the_connection_and_is_logged(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with served(folder) as running:
            with monkeypatch.context() as patch:
                patch.setattr(running.app[server.POOL], "predict", lambda *_: 1 // 0)
                async with connected(running) as (page, _):
                    await page.send_bytes(frame(1, encoded))
                    assert (await page.receive(timeout=20)).type == WSMsgType.CLOSE
                    assert page.close_code == 1011
            assert "ZeroDivisionError" in caplog.text
            async with connected(running) as (page, _):
                assert (await ask(page, frame(2, encoded)))["type"] == "faces"

    asyncio.run(run())


def test_too_many_frames_are_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_FRAMES_PER_SECOND", 5)

    async def script(page: Client, hello: dict) -> None:
        answers = [await ask(page, frame(number, b"nothing")) for number in range(8)]
        assert sum("too many frames: the maximum is 5 per second" in answer["message"] for answer in answers) >= 2
        assert all(answer["frame"] == number for number, answer in enumerate(answers))
        await asyncio.sleep(0.5)
        assert "not an image" in (await ask(page, frame(9, b"nothing")))["message"]

    talk(folder, script)


def test_the_rate_limiter_refills() -> None:
    rate = RateLimiter(10)
    assert [rate.allow(0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [rate.allow(0.25) for _ in range(4)] == [True, True, False, False]
    assert [rate.allow(60.0) for _ in range(12)] == [True] * 10 + [False] * 2
    slow = RateLimiter(0.1, burst=3)
    assert [slow.allow(now) for now in (0, 0, 0, 0, 10, 10)] == [True] * 3 + [False, True, False]


def test_the_model_can_be_switched(folder: Path, encoded: bytes) -> None:
    async def script(page: Client, hello: dict) -> None:
        first = await ask(page, frame(1, encoded))
        assert await ask(page, {"type": "model", "model": "cnn"}) == {"type": "model", "model": "cnn"}
        second = await ask(page, frame(2, encoded))
        assert (second["model"], second["metrics"]["model"], second["metrics"]["frames"]) == ("cnn", "cnn", 1)
        for before, now in zip(first["faces"], second["faces"], strict=True):
            assert before["number"] == now["number"]
            assert now["smoothed"] == pytest.approx(1 - before["smoothed"], abs=1e-3)  # no smoothing across models
        await ask(page, {"type": "model", "model": "mobilenet"})
        assert (await ask(page, frame(3, encoded)))["metrics"]["frames"] == 2

    talk(folder, script)


@pytest.mark.parametrize(
    "command",
    ["", "{", "[]", "3", '"model"', "{}", '{"type": "model"}', '{"type": "model", "model": "../cnn"}',
     '{"type": "model", "model": ["cnn"]}', "[" * 5000],
)  # fmt: skip
def test_an_invalid_command_is_an_error(folder: Path, encoded: bytes, command: str) -> None:
    async def script(page: Client, hello: dict) -> None:
        await page.send_str(command)
        assert await page.receive_json(timeout=20) == {"type": "error", "message": "unknown command"}
        assert (await ask(page, frame(1, encoded)))["type"] == "faces"

    talk(folder, script)


def test_a_long_command_is_not_parsed(folder: Path) -> None:
    async def script(page: Client, hello: dict) -> None:
        await page.send_str(" " * 7_000_000 + '{"type": "reset"}')
        assert (await page.receive_json(timeout=20))["message"] == "unknown command"

    talk(folder, script)


def test_a_flood_of_commands_is_slowed_down(folder: Path) -> None:
    async def script(page: Client, hello: dict) -> None:
        started = time.monotonic()
        for _ in range(30):
            await ask(page, {"type": "reset"})
        assert time.monotonic() - started > 0.5  # half of those after the first ten are refused, after 0.1 s each

    talk(folder, script)


def test_a_model_that_gives_no_probabilities_is_an_error_of_the_frame(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(frame: frames.Frame, model: str, picture: bool) -> Any:
        raise UserError("the model is damaged")

    async def run() -> None:
        async with served(folder) as running, connected(running) as (page, _):
            with monkeypatch.context() as patch:
                patch.setattr(running.app[server.POOL], "predict", fails)
                answer = await ask(page, frame(1, encoded))
            assert answer == {"type": "error", "frame": 1, "message": "the model is damaged"}
            assert (await ask(page, frame(2, encoded)))["type"] == "faces"

    asyncio.run(run())
    assert "Traceback" not in caplog.text


def test_the_models_are_loaded_once(folder: Path, encoded: bytes, tmp_path: Path) -> None:
    """A thread that read the file at its first frame would answer with another model than the others."""
    copies = [shutil.copy(path, tmp_path) for path in (folder / litert.MODELS).iterdir()]
    pool = InferencePool(settings.load(), tmp_path)
    for path in copies:
        Path(path).unlink()
    expected = live_workspace.expected(live_workspace.scene(), folder)
    one = frames.Frame(1, 0.0, encoded)
    answers = [pool.executor.submit(pool.predict, one, "mobilenet") for _ in range(4)]
    assert [len(answer.result()[0]) for answer in answers] == [len(expected)] * 4
    assert len(pool.predict(one, "cnn")[0]) == len(expected)
    pool.close()


def test_the_faces_of_one_frame_are_limited(folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    many = np.column_stack([np.arange(500) % 600, np.full(500, 10), np.arange(500) % 600 + 40, np.full(500, 50),
                            np.linspace(1, 0.5, 500)]).astype(float)  # fmt: skip
    pool = InferencePool(settings.load(), folder / litert.MODELS)
    monkeypatch.setattr("face_mask.detector.detect", lambda image, **options: many)
    predictions = pool.predict(frames.Frame(1, 0.0, encoded), "cnn")[0]
    assert [one.score for one in predictions] == many[: inference.MAX_FACES, 4].tolist()


def test_a_session_can_be_reset(folder: Path, encoded: bytes) -> None:
    async def script(page: Client, hello: dict) -> None:
        await ask(page, frame(1, encoded))
        assert (await ask(page, {"type": "reset"}))["type"] == "reset"
        answer = await ask(page, frame(2, encoded))
        assert (answer["metrics"]["frames"], answer["metrics"]["distinct_faces"]) == (1, 3)

    talk(folder, script)


def test_each_page_has_its_own_session_and_their_number_is_limited(folder: Path, encoded: bytes) -> None:
    async def run() -> None:
        async with served(folder) as running, aiohttp.ClientSession() as client:
            pages = [await client.ws_connect(running.make_url("/frames")) for _ in range(server.MAX_CONNECTIONS)]
            for page in pages:
                await page.receive_json(timeout=20)
                assert (await ask(page, frame(1, encoded)))["metrics"]["frames"] == 1
            one_more = await client.ws_connect(running.make_url("/frames"))
            assert (await one_more.receive(timeout=20)).type == WSMsgType.CLOSE
            assert one_more.close_code == 1013
            await pages[0].close()
            again = await client.ws_connect(running.make_url("/frames"))
            assert (await again.receive_json(timeout=20))["type"] == "hello"

    asyncio.run(run())


def test_another_machine_gets_a_part_of_the_pages() -> None:
    def at(address: str) -> Any:
        return SimpleNamespace(remote=address)

    pages: Any = {1: at("192.168.1.5"), 2: at("192.168.1.6"), 3: at("192.168.1.5")}
    assert server.has_enough("192.168.1.5", pages) and not server.has_enough("192.168.1.6", pages)
    assert not server.has_enough("127.0.0.1", {number: at("127.0.0.1") for number in range(3)})  # type: ignore[misc]


def test_an_idle_page_is_disconnected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.2)

    async def script(page: Client, hello: dict) -> None:
        await page.receive(timeout=20)
        assert page.close_code == connection.IDLE

    talk(folder, script)


HEADERS: tuple[tuple[dict[str, str], int], ...] = (
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://127.0.0.1:1"}, 403),
    ({"Origin": "http://127.0.0.1"}, 403),
    ({"Host": "evil.example"}, 403),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
    ({"Host": "127.0.0.1.evil.example"}, 403),
    ({"Host": "192.168.1.5"}, 403),
    ({"Host": "["}, 403),
    ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 101),
    ({"Host": "[::1]:8000", "Origin": "http://[::1]:8000"}, 101),
    ({}, 101),
)


@pytest.mark.parametrize(("headers", "status"), HEADERS)
def test_only_the_servers_own_page_may_connect(folder: Path, headers: dict[str, str], status: int) -> None:
    async def run() -> None:
        async with served(folder) as running:
            if status == 101:
                async with connected(running, headers=headers) as (_, hello):
                    assert hello["type"] == "hello"
            else:
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    async with connected(running, headers=headers):
                        pass
                assert caught.value.status == status

    asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("192.168.1.5:8000", True), ("localhost", True), ("evil.example", False), (socket.gethostname(), True)],
)
def test_a_public_server_accepts_its_own_addresses_and_names(host: str, allowed: bool) -> None:
    names = {"localhost", "0.0.0.0", socket.gethostname().lower()}
    assert security.allowed_host(host, names, only_loopback=False) == allowed


def test_the_files_of_the_page_have_strict_headers(folder: Path) -> None:
    async def run() -> None:
        async with served(folder) as running, aiohttp.ClientSession() as client:
            for path in (
                "/",
                "/page/app.js",
                "/page/style.css",
                "/nothing",
                "/page/../server.py",
                "/page/%2e%2e/rate.py",
            ):
                async with client.get(
                    running.make_url("/").join(type(running.make_url("/"))(path, encoded=True))
                ) as got:
                    assert got.status == (200 if path in ("/", "/page/app.js", "/page/style.css") else 404), path
                    policy = got.headers["Content-Security-Policy"]
                    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
                    assert "unsafe" not in policy
                    assert got.headers["X-Content-Type-Options"] == "nosniff"
                    assert got.headers["X-Frame-Options"] == "DENY"
                    assert "ython" not in got.headers["Server"]
            async with client.post(running.make_url("/")) as got:
                assert got.status == 405
            async with client.get(running.make_url("/frames")) as got:
                assert got.status == 426

    asyncio.run(run())


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_script() -> None:
    pages = list(server.PAGE.iterdir())
    assert {path.suffix for path in pages} == {".html", ".css", ".js", ".svg"}
    html = (server.PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", html)
    for path in pages:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://[\w.]+", text) in ([], ["http://localhost"]), path
    for name in re.findall(r'(?:src|href)="/page/([^"]+)"', html):
        assert (server.PAGE / name).is_file()


def test_logging_that_fails_or_is_not_enabled_is_an_error(folder: Path, encoded: bytes) -> None:
    def fails(summaries: list) -> str:
        raise UserError("the store is down")

    async def script(page: Client, hello: dict) -> None:
        assert hello["mlflow"]
        assert (await ask(page, {"type": "log"}))["message"] == "cannot log to MLflow: no frame has been processed yet"
        await ask(page, frame(1, encoded))
        assert await ask(page, {"type": "log"}) == {
            "type": "error",
            "message": "cannot log to MLflow: the store is down",
        }
        assert (await ask(page, frame(2, encoded)))["type"] == "faces"

    talk(folder, script, log=fails)

    async def without(page: Client, hello: dict) -> None:
        assert "start the server with --log-to-mlflow" in (await ask(page, {"type": "log"}))["message"]

    talk(folder, without)


def test_a_session_is_logged_to_a_real_store(folder: Path, encoded: bytes, migrated: Path) -> None:
    """By the real command, which stops cleanly on SIGTERM."""
    from mlflow import MlflowClient

    shutil.copy(migrated, folder / "mlflow.db")

    async def drive(address: str) -> list[dict]:
        answers = []
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{address}frames") as page:
            assert (await page.receive_json(timeout=20))["mlflow"]
            for number, model in enumerate(["mobilenet", "mobilenet", "cnn"]):
                await ask(page, {"type": "model", "model": model})
                answers.append(await ask(page, frame(number, encoded)))
            await page.send_json({"type": "log"})
            answers.append(await page.receive_json(timeout=120))
        return answers

    with serving("--log-to-mlflow", folder=folder) as address:
        *_, mobilenet, cnn, logged = asyncio.run(drive(address))
    assert logged["type"] == "logged", logged
    assert logged["message"].startswith("2 runs below workspace-")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("face-mask")
    assert experiment
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'session'")
    assert {run.data.params["live.model"] for run in runs} == {"cnn", "mobilenet"}
    for run in runs:
        metrics = (cnn if run.data.params["live.model"] == "cnn" else mobilenet)["metrics"]
        assert run.data.metrics["live.frames"] == metrics["frames"]
        assert run.data.metrics["live.mean_confidence_with_mask"] == metrics["mean_confidence_with_mask"]
        assert run.data.metrics["live.latency_ms_p50"] > 0
    # Nothing is written but the MLflow store.
    assert {path.name for path in folder.iterdir()} <= {
        "models", "params.yaml", "dvc.yaml", "mlflow.db", "mlflow.db.lock", "mlartifacts"
    }  # fmt: skip


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "face_mask.live", "--no-open", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(live_workspace.REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_mistakes_of_the_user_are_one_line(folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(folder, "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"live: cannot listen on 127.0.0.1 port {port}")
    assert "Traceback" not in done.stderr

    (tmp_path / "params.yaml").write_text(Path("params.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    done = command(tmp_path, "--port", "0", "--model", "cnn")  # mobilenet is packaged
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("live: cnn is not packaged") and "train cnn with `dvc repro export`" in done.stderr


def test_models_of_another_image_size_are_rejected(tmp_path: Path) -> None:
    live_workspace.write_models(tmp_path, size=96)
    with pytest.raises(UserError, match=r"does not take images of image_size = 128: run `dvc repro export`"):
        InferencePool(settings.load(), tmp_path)


def test_a_missing_model_is_not_offered(folder: Path, tmp_path: Path) -> None:
    shutil.copy(litert.path_of("mobilenet", folder=folder / litert.MODELS), tmp_path)
    assert InferencePool(settings.load(), tmp_path).names == ["mobilenet"]


def test_answers_after_a_reset_count_for_the_new_session(
    folder: Path, encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with served(folder, threads=1) as running, connected(running) as (page, _):
            held = Held(running.app[server.POOL], monkeypatch)
            held.gate.release()
            await ask(page, frame(1, encoded))
            await page.send_bytes(frame(2, encoded))
            await asyncio.sleep(0.05)
            assert (await ask(page, {"type": "reset"}))["type"] == "reset"
            held.gate.release()
            assert (await page.receive_json(timeout=20))["metrics"]["frames"] == 1

    asyncio.run(run())
