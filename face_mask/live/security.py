"""Access control: which hosts and origins may connect, and response headers that restrict what the page may load.

Otherwise a page of another origin in the same browser could connect to the loopback port: through a host name that
resolves to this machine (DNS rebinding), or directly, as the same-origin policy does not cover WebSockets.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


def check_host(bound: str) -> Middleware:
    """Middleware that allows only requests to this machine's own names and addresses, from pages of the same origin.

    `bound` is the address or name that the server listens on.
    """
    names = {"localhost"} if is_loopback(bound) else {"localhost", bound.lower(), socket.gethostname().lower()}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not allowed_host(request.headers.get("Host", ""), names, only_loopback=is_loopback(bound)):
            raise web.HTTPForbidden(text="unknown host name\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.headers["Host"].lower():
            raise web.HTTPForbidden(text="cross-origin requests are not allowed\n")
        return await handler(request)

    return check


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_host(header: str, names: set[str], only_loopback: bool) -> bool:
    """Whether a Host header is one of `names` or an IP address, which DNS rebinding cannot forge."""
    try:
        host = (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return False
    if host in names:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or not only_loopback


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler of every response: the page may load its own files only, and no other site may embed it."""
    host = request.headers.get("Host", "")
    if not all(character.isalnum() or character in "-.:[]" for character in host):
        host = ""
    response.headers["Content-Security-Policy"] = "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "media-src 'self' blob: mediastream:",
            f"connect-src 'self' ws://{host} wss://{host}" if host else "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Server"] = "face-mask-live"
