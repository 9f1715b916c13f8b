"""The web application: the page's files, and the WebSocket that receives frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from aiohttp import WSCloseCode, web

from face_mask.live import security
from face_mask.live.connection import Connection, Summaries
from face_mask.live.frames import MAX_BYTES
from face_mask.live.inference import InferencePool

PAGE = Path(__file__).parent / "page"
MAX_CONNECTIONS = 4
MAX_MESSAGE = 4 * MAX_BYTES  # a frame above MAX_BYTES gets an error; a message above this closes the connection unread
PING_SECONDS = 20.0
POOL: web.AppKey[InferencePool] = web.AppKey("pool", InferencePool)
SOCKETS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("sockets", set)
LOG: web.AppKey[Callable[[Summaries], str] | None] = web.AppKey("log")


def create_app(pool: InferencePool, host: str, log: Callable[[Summaries], str] | None = None) -> web.Application:
    """The application for a server that listens on `host`; see Connection for `log`."""
    app = web.Application(middlewares=[security.check_host(host)], client_max_size=0)
    app[POOL], app[SOCKETS], app[LOG] = pool, set(), log
    app.router.add_get("/", index)
    app.router.add_get("/frames", connect)
    app.router.add_static("/page", PAGE)
    app.on_response_prepare.append(security.add_headers)
    app.on_shutdown.append(close_all)
    return app


async def index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")


async def connect(request: web.Request) -> web.StreamResponse:
    """Serve the WebSocket of one page until it closes."""
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=PING_SECONDS, compress=False)
    if not socket.can_prepare(request):
        raise web.HTTPUpgradeRequired(text="this address accepts WebSocket connections only\n")
    await socket.prepare(request)
    sockets = request.app[SOCKETS]
    if len(sockets) >= MAX_CONNECTIONS:
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too many connections")
        return socket
    sockets.add(socket)
    try:
        await Connection(socket, request.app[POOL], request.app[LOG]).run()
    except* (ConnectionError, TimeoutError):
        pass  # the page disconnected, was idle, or does not read
    except* Exception:
        logging.getLogger(__name__).exception("the connection is closed because of a bug; the page will reconnect")
        await socket.close(code=WSCloseCode.INTERNAL_ERROR)
    finally:
        sockets.discard(socket)
    return socket


async def close_all(app: web.Application) -> None:
    closing = (socket.close(code=WSCloseCode.GOING_AWAY, message=b"server shutdown") for socket in app[SOCKETS])
    await asyncio.gather(*closing, return_exceptions=True)
    app[POOL].close()
