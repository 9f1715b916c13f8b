"""The web application: the page's files, and the WebSocket that receives frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from aiohttp import WSCloseCode, web

from face_mask.events import Notifier
from face_mask.live import security
from face_mask.live.connection import Connection, Summaries
from face_mask.live.frames import MAX_BYTES
from face_mask.live.inference import InferencePool

PAGE = Path(__file__).parent / "page"
MAX_CONNECTIONS = 4  # pages
MAX_PER_ADDRESS = 2  # pages of one other machine; this one's may come from elsewhere, through a tunnel or a proxy
MAX_MESSAGE = 4 * MAX_BYTES  # a frame above MAX_BYTES gets an error; a message above this closes the connection unread
PING_SECONDS = 20.0
POOL: web.AppKey[InferencePool] = web.AppKey("pool", InferencePool)
PAGES: web.AppKey[dict[web.WebSocketResponse, web.Request]] = web.AppKey("pages", dict)
LOG: web.AppKey[Callable[[Summaries], str] | None] = web.AppKey("log")
NOTIFIER: web.AppKey[Notifier | None] = web.AppKey("notifier")


def create_app(
    pool: InferencePool,
    host: str,
    log: Callable[[Summaries], str] | None = None,
    notifier: Notifier | None = None,
) -> web.Application:
    """The application for a server that listens on `host`; see Connection for `log` and `notifier`."""
    app = web.Application(middlewares=[security.check_host(host)], client_max_size=0)
    app[POOL], app[PAGES], app[LOG], app[NOTIFIER] = pool, {}, log, notifier
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
    pages = request.app[PAGES]
    if len(pages) >= MAX_CONNECTIONS or has_enough(request.remote or "", pages):
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too many connections")
        return socket
    pages[socket] = request
    try:
        await Connection(socket, request.app[POOL], request.app[LOG], request.app[NOTIFIER]).run()
    except* (ConnectionError, TimeoutError):
        pass  # the page disconnected, was idle, or does not read
    except* Exception:
        logging.getLogger(__name__).exception("the connection is closed because of a bug; the page will reconnect")
        await socket.close(code=WSCloseCode.INTERNAL_ERROR)
    finally:
        del pages[socket]
    return socket


def has_enough(address: str, pages: dict[web.WebSocketResponse, web.Request]) -> bool:
    """Whether a client at `address` has as many pages open as one other machine may."""
    return not security.is_loopback(address) and sum(one.remote == address for one in pages.values()) >= MAX_PER_ADDRESS


def is_page(app: web.Application, connection: web.RequestHandler) -> bool:
    """Whether a connection is the WebSocket of an open page."""
    return any(request.protocol is connection for request in app[PAGES].values())


async def close_all(app: web.Application) -> None:
    closing = (socket.close(code=WSCloseCode.GOING_AWAY, message=b"server shutdown") for socket in app[PAGES])
    await asyncio.gather(*closing, return_exceptions=True)
    app[POOL].close()
