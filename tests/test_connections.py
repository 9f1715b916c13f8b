"""Accepting connections: a limit, which connections it closes, and a log that malformed requests do not fill."""

from __future__ import annotations

import asyncio
import builtins
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from face_mask import connections, listening

LIMIT = 8
Connect = Callable[[str], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def serve(script: Callable[[Connect], Awaitable[None]], kept: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Run a script that connects from given addresses of this machine; `kept` are those that must not be closed."""

    def is_kept(connection: web.RequestHandler) -> bool:
        return connection.transport is not None and connection.transport.get_extra_info("peername")[0] in kept

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text="answer")

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            accepting = asyncio.create_task(connections.accept(listener, web.Server(answer), LIMIT, is_kept))

            async def connect(source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                streams = await asyncio.open_connection(*listener.getsockname(), local_addr=(source, 0))
                await asyncio.sleep(0.01)
                return streams

            await asyncio.wait_for(script(connect), 20)
            assert not accepting.done()
            accepting.cancel()

    asyncio.run(run())


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), 0.1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_a_new_connection_closes_the_oldest() -> None:
    async def script(connect: Connect) -> None:
        opened = [await connect("127.0.0.1") for _ in range(LIMIT + 3)]
        assert [await is_closed(reader) for reader, _ in opened] == [True] * 3 + [False] * LIMIT
        reader, writer = opened[-1]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await reader.readline()

    serve(script)


def test_closed_connections_do_not_count() -> None:
    async def script(connect: Connect) -> None:
        opened = [await connect("127.0.0.1") for _ in range(LIMIT)]
        for _, writer in opened[4:]:
            writer.close()
        await asyncio.sleep(0.05)
        for _ in range(4):
            await connect("127.0.0.1")
        assert not any([await is_closed(reader) for reader, _ in opened[:4]])

    serve(script)


def test_a_flood_from_one_address_closes_its_own_connections() -> None:
    async def script(connect: Connect) -> None:
        kept, other = await connect("127.0.0.1"), await connect("127.0.0.2")
        flood = [await connect("127.0.0.3") for _ in range(20)]
        assert not await is_closed(kept[0]) and not await is_closed(other[0])
        assert sum([await is_closed(reader) for reader, _ in flood]) == 20 - (LIMIT - 2)

    serve(script)


def test_open_pages_are_kept() -> None:
    async def script(connect: Connect) -> None:
        pages = [await connect("127.0.0.2") for _ in range(4)]
        for _ in range(20):
            await connect("127.0.0.1")
        assert not any([await is_closed(reader) for reader, _ in pages])

    serve(script, kept={"127.0.0.2"})


def test_accepting_goes_on_after_the_system_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(connect: Connect) -> None:
        loop = asyncio.get_running_loop()
        sock_accept, failures = loop.sock_accept, iter([OSError(24, "Too many open files")] * 2)

        async def fails(listener: socket.socket) -> Any:
            if error := next(failures, None):
                raise error
            return await sock_accept(listener)

        monkeypatch.setattr(loop, "sock_accept", fails)
        for _ in range(3):
            reader, writer = await connect("127.0.0.1")
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in await reader.readline()

    serve(script)


@pytest.mark.parametrize(("files", "expected"), [(1024, 256), (256, 128), (4, 8), (-1, 256), (1 << 20, 256)])
def test_the_limit_leaves_half_of_the_files(monkeypatch: pytest.MonkeyPatch, files: int, expected: int) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    assert connections.max_connections() == expected


def test_there_is_a_limit_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_resource(name: str, *arguments: Any) -> Any:
        if name == "resource":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_resource)
    assert connections.max_connections() == connections.MAX_CONNECTIONS


def test_the_log_has_no_malformed_requests_and_no_flood() -> None:
    keep = connections.LogFilter().filter

    def record(error: Exception) -> logging.LogRecord:
        return logging.LogRecord("aiohttp", logging.ERROR, "", 0, "", (), (type(error), error, None))

    assert not any(keep(record(BadHttpMessage("invalid header"))) for _ in range(100))
    assert sum(keep(record(ZeroDivisionError())) for _ in range(1000)) == connections.LOG_BURST


def test_a_connection_that_is_reset_at_once_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS setting an option of such a socket fails."""
    connect_accepted = asyncio.BaseEventLoop.connect_accepted_socket
    failed: list[bool] = []

    async def fail_once(*arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise OSError(22, "Invalid argument")
        return await connect_accepted(*arguments)

    monkeypatch.setattr(asyncio.BaseEventLoop, "connect_accepted_socket", fail_once)

    async def script(connect: Connect) -> None:
        (refused, _), (answered, _) = await connect("127.0.0.1"), await connect("127.0.0.1")
        assert await is_closed(refused) and not await is_closed(answered)

    serve(script)


@pytest.mark.parametrize(
    ("bound", "asked", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost", "127.0.0.1"), ("::1", "localhost", "[::1]"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"), ("::", "::", "[::1]"), ("192.168.1.5", "camera.local", "camera.local"),
    ],
)  # fmt: skip
def test_the_address_for_a_browser_is_one_that_the_server_listens_on(bound: str, asked: str, expected: str) -> None:
    class Listener:
        def getsockname(self) -> tuple[str, int, int, int]:
            return bound, 8000, 0, 0

    assert listening.url(Listener(), asked) == f"http://{expected}:8000/"  # type: ignore[arg-type]
