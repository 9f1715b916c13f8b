"""The server: the page's files, and the WebSocket on which frames are judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import WSCloseCode, web

from live import security
from live.connection import Connection, Summaries
from live.frames import MAX_BYTES
from live.judges import Judges

PAGE = Path(__file__).parent / "page"
MAX_CONNECTIONS = 4
MAX_MESSAGE = 4 * MAX_BYTES  # a larger one ends the connection before it is read; up to it, it is one error
HEARTBEAT_SECONDS = 20.0
JUDGES: web.AppKey[Judges] = web.AppKey("judges", Judges)
SOCKETS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("sockets", set)
LOG: web.AppKey[Callable[[Summaries], str] | None] = web.AppKey("log")


def app(judges: Judges, host: str, log: Callable[[Summaries], str] | None = None) -> web.Application:
    """The application for a server that listens on `host`; `log` sends summaries to MLflow and says where they are."""
    application = web.Application(middlewares=[security.host_checked(host)], client_max_size=0)
    application[JUDGES], application[SOCKETS], application[LOG] = judges, set(), log
    application.router.add_get("/", index)
    application.router.add_get("/frames", connect)
    application.router.add_static("/page", PAGE)
    application.on_response_prepare.append(security.add_headers)
    application.on_shutdown.append(close_all)
    return application


async def index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")


async def connect(request: web.Request) -> web.StreamResponse:
    """The WebSocket of one page."""
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT_SECONDS, compress=False)
    if not socket.can_prepare(request):
        raise web.HTTPUpgradeRequired(text="this address is for the page's WebSocket\n")
    await socket.prepare(request)
    sockets = request.app[SOCKETS]
    if len(sockets) >= MAX_CONNECTIONS:
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too many pages")
        return socket
    sockets.add(socket)
    try:
        with suppress(ConnectionError, TimeoutError, asyncio.TimeoutError):
            await Connection(socket, request.app[JUDGES], request.app[LOG]).run()
    finally:
        sockets.discard(socket)
    return socket


async def close_all(application: web.Application) -> None:
    closing = (socket.close(code=WSCloseCode.GOING_AWAY, message=b"server ends") for socket in application[SOCKETS])
    await asyncio.gather(*closing, return_exceptions=True)
    application[JUDGES].close()
