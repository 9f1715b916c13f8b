"""Who may talk to the server, and what the page may do.

A page of another origin in the same browser could otherwise connect to a loopback port: by name, after its own name
was made to point here (DNS rebinding), or directly, since WebSockets know no same-origin rule.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


def host_checked(bound: str) -> Middleware:
    """A middleware that lets in only who asks for this machine by a name that is no stranger's, from its own pages.

    `bound` is the address or name that the server listens on.
    """
    names = {"localhost"} if is_loopback(bound) else {"localhost", bound.lower(), socket.gethostname().lower()}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not allowed_host(request.headers.get("Host", ""), names, only_loopback=is_loopback(bound)):
            raise web.HTTPForbidden(text="this server does not go by that name\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.headers["Host"].lower():
            raise web.HTTPForbidden(text="pages of other origins may not connect\n")
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
    """Whether a Host header names this machine: by address, which no DNS answer can forge, or by one of `names`."""
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
    """Nothing on the page but its own files; nothing of it elsewhere. A signal handler of every response."""
    host = request.headers.get("Host", "")
    if not all(letter.isalnum() or letter in "-.:[]" for letter in host):
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
