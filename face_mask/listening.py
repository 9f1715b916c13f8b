"""Listen on an address, and serve an aiohttp application there until a signal: the live page or the model server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from face_mask import connections
from face_mask.errors import UserError

if TYPE_CHECKING:
    from aiohttp import web

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHUTDOWN_SECONDS = 2.0  # for requests in progress


def require_aiohttp() -> None:
    """Raise UserError if the web server's package is not installed: it is an extra."""
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise UserError("aiohttp, of the extra `live`, is not installed: run `pip install aiohttp`") from None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError if the address or the port is invalid or in use."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port} is not a valid port: use 0 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror:
        raise UserError(f"--host {host} is not an address of this machine: omit it for 127.0.0.1") from None
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({os.strerror(error.errno or 0)}): try --port {port + 1}, or 0"
        ) from None


def url(listener: socket.socket, host: str) -> str:
    """The address for a browser on this machine, with a slash at the end; `host` is the one that was asked for."""
    address, port = listener.getsockname()[:2]
    if host in ("", "localhost", "0.0.0.0", "::"):  # the name may be the IPv6 address alone, as on macOS and Windows
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


async def serve_until_signal(
    app: web.Application,
    listener: socket.socket,
    started: Callable[[], object],
    is_kept: Callable[[web.RequestHandler], bool] = lambda connection: False,
) -> None:
    """Serve until SIGINT or SIGTERM; `started` is called, in a thread, once requests are answered.

    The connections are limited: see connections.accept, also for `is_kept`.
    """
    from aiohttp import web

    connections.limit_log()
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=connections.HEADER_SECONDS,  # it counts from the start, whatever arrives of a request
    )
    await runner.setup()
    assert runner.server
    accepting = asyncio.create_task(connections.accept(listener, runner.server, connections.max_connections(), is_kept))
    loop = asyncio.get_running_loop()
    # Not the loop's add_signal_handler, which Windows lacks.
    before = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(accepting.cancel)) for number in SIGNALS
    }
    try:
        await asyncio.to_thread(started)
        with suppress(asyncio.CancelledError):
            await accepting
    finally:
        await runner.cleanup()
        for number, handler in before.items():
            signal.signal(number, handler)
