"""Pictures from web addresses that somebody else chose: public hosts only, of bounded size, in bounded time."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

MAX_REDIRECTS = 5
BLOCK = 1 << 16
LEGAL = "%/:@!$&'()*+,;=?-._~"  # in a path or query; all else is percent-encoded
REDIRECTS = (301, 302, 303, 307, 308)
# Public by the registries, but they lead to an IPv4 address written within them: translation and tunnels.
CARRIERS = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
)
# Servers turn away clients that do not say what they are.
HEADERS = {"User-Agent": "face-mask-pipeline/0.1", "Accept": "image/*", "Accept-Encoding": "identity"}


class NotFetched(Exception):
    """An address that gave nothing; the message is the reason, in a few words."""


def is_public(address: str) -> bool:
    """Whether an IP address is of the public Internet: not loopback, private, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or any(ip in net for net in CARRIERS)):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def shown(url: str) -> str:
    """An address for messages and records: without user name, password and query, which may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fetch(url: str, max_bytes: int, seconds: float, allowed: Callable[[str], bool] = is_public) -> bytes:
    """The content at `url`, at most `max_bytes`, within about `seconds`, looking the names up excepted.

    Redirects are followed by hand: each hop must again be http or https, and all addresses of its host be `allowed`.
    The connection goes to an address that was checked, so a name that resolves differently the next time gains
    nothing; for the same reason no proxy is used. Raises NotFetched.
    """
    ends = time.monotonic() + seconds
    for _ in range(MAX_REDIRECTS + 1):
        try:
            content, target = hop(url, max_bytes, ends, allowed)
        except TimeoutError:
            raise NotFetched(f"no answer within {seconds:g} s") from None
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            # A connection that `hop` ended at the time limit fails in one of many ways.
            late = time.monotonic() >= ends
            said = f"no answer within {seconds:g} s" if late else f"{type(error).__name__}: {error}"[:200]
            raise NotFetched(said) from None
        if target is None:
            return content
        url = urljoin(url, target)
    raise NotFetched(f"more than {MAX_REDIRECTS} redirects")


def hop(url: str, max_bytes: int, ends: float, allowed: Callable[[str], bool]) -> tuple[bytes, str | None]:
    """One request: the content, or b"" and where a redirect leads to."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise NotFetched(f"{parts.scheme or 'no scheme'} is neither http nor https")
    if not parts.hostname:
        raise NotFetched("the address names no host")
    sock = connect(parts, ends, allowed)
    watch = threading.Timer(max(0.0, ends - time.monotonic()), hang_up, [sock])
    watch.daemon = True
    watch.start()
    try:
        connection = http.client.HTTPConnection(parts.netloc.rpartition("@")[2])
        connection.sock = sock
        target = urlunsplit(("", "", quote(parts.path or "/", LEGAL), quote(parts.query, LEGAL), ""))
        connection.request("GET", target, headers=HEADERS)
        response = connection.getresponse()
        if response.status in REDIRECTS and response.headers.get("Location"):
            return b"", response.headers["Location"]
        if response.status != 200:
            raise NotFetched(f"HTTP {response.status} {response.reason}"[:100])
        content = read(response, max_bytes)
        if time.monotonic() >= ends:  # hung up, which without a Content-Length looks like the end
            raise TimeoutError
        return content, None
    finally:
        watch.cancel()
        sock.close()


def hang_up(sock: socket.socket) -> None:
    """End a connection that another thread reads from. A socket's own timeout starts anew with every byte."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own would change its state under the reader


def connect(parts: SplitResult, ends: float, allowed: Callable[[str], bool]) -> socket.socket:
    """A socket to the host, with TLS for https, through the first of its addresses that answers, all checked before."""
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NotFetched(f"{host} is not known ({error.strerror})") from None
    for *_, address in found:
        if not allowed(str(address[0])):
            raise NotFetched(f"{host} is {address[0]}, which is not on the public Internet")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.001, ends - time.monotonic()))
            sock.connect(address)
            if parts.scheme == "https":
                return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            return sock
        except OSError:
            sock.close()
            if place == len(found) - 1:
                raise
    raise NotFetched(f"{host} has no address")


def read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """The body; NotFetched where it is, or says it is, larger than `max_bytes`, or is cut off."""
    too_large = NotFetched(f"more than {max_bytes} bytes")
    if (response.length or 0) > max_bytes:
        raise too_large
    content = bytearray()
    while block := response.read(min(BLOCK, max_bytes + 1 - len(content))):
        content += block
        if len(content) > max_bytes:
            raise too_large
    if response.length:
        raise NotFetched(f"cut off after {len(content)} bytes")
    return bytes(content)
