"""Accept connections so that no client can use up the descriptors, the memory or the log of a server.

asyncio's own server accepts without a limit. Once a process has no descriptor left, it logs a traceback for each
attempt, and answers nobody until a client gives up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from face_mask.live.rate import RateLimiter

if TYPE_CHECKING:
    from aiohttp import web

MAX_CONNECTIONS = 256  # a browser opens six
BACKLOG = 1024  # connections that wait to be accepted; if the queue is full, a client tries again after a second
HEADER_SECONDS = 15.0  # after which a connection without a complete request is closed
RETRY_SECONDS = 0.1  # after the system refused to accept a connection
LOG_BURST, LOG_PER_SECOND = 50, 1 / 60  # messages


def max_connections() -> int:
    """How many connections may be open: at most half of the files that this process may open."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return MAX_CONNECTIONS
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, files // 2))


async def accept(
    listener: socket.socket,
    server: web.Server,
    limit: int,
    is_kept: Callable[[web.RequestHandler], bool] = lambda connection: False,
) -> NoReturn:
    """Accept connections for `server`; above `limit`, a new one closes an older one.

    That is the oldest of the address that has the most, except for those that `is_kept` is true for, which must be
    fewer than `limit`. So a flood from elsewhere closes its own connections, and one from the same machine leaves a
    request the time in which `limit` others arrive.
    """
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    listener.listen(BACKLOG)
    connections: dict[asyncio.Transport, web.RequestHandler] = {}  # oldest first
    while True:
        try:
            accepted, _ = await loop.sock_accept(listener)
        except OSError:  # the client is gone, or there is no descriptor or memory left
            await asyncio.sleep(RETRY_SECONDS)
            continue
        connections = {transport: one for transport, one in connections.items() if is_open(transport)}
        if len(connections) >= limit:
            oldest_of_most([one for one in connections if not is_kept(connections[one])]).abort()
        try:
            transport, connection = await loop.connect_accepted_socket(server, accepted)
        except OSError:  # macOS refuses to set options of a connection that the client has reset meanwhile
            accepted.close()
            continue
        connections[transport] = connection


def is_open(transport: asyncio.Transport) -> bool:
    """Whether a connection has a descriptor; it has one after `close` until the client has read everything."""
    return transport.get_extra_info("socket").fileno() != -1


def oldest_of_most(transports: list[asyncio.Transport]) -> asyncio.Transport:
    """The first of the connections from the address that has the most."""
    addresses = [(transport.get_extra_info("peername") or ("",))[0] for transport in transports]
    [(most, _)] = Counter(addresses).most_common(1)
    return transports[addresses.index(most)]


def limit_log() -> None:
    """Log warnings and errors to stderr, but no malformed requests, which are answered, and no flood of messages."""
    handler = logging.StreamHandler()
    handler.addFilter(LogFilter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class LogFilter(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.rate = RateLimiter(LOG_PER_SECOND, LOG_BURST)

    def filter(self, record: logging.LogRecord) -> bool:
        from aiohttp.http_exceptions import HttpProcessingError

        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError) and self.rate.allow(time.monotonic())
