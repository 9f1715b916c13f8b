"""Download from untrusted web addresses: only from public hosts, with limits on size and time."""

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

from face_mask.errors import printable

MAX_REDIRECTS = 5
MAX_REASON = 300  # characters
BLOCK = 1 << 16  # bytes per read
SAFE = "%/:@!$&'()*+,;=?-._~"  # characters of a path or query that are not percent-encoded
REDIRECTS = (301, 302, 303, 307, 308)
# Global addresses that embed an IPv4 address, to which translators and tunnels forward.
IPV4_EMBEDDING = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
)
# Some servers refuse clients without a user agent.
HEADERS = {"User-Agent": "face-mask-pipeline/0.1", "Accept": "image/*", "Accept-Encoding": "identity"}


class NotFetched(Exception):
    """A failed download; the message is the reason, in a few words, and safe to print: some of it is the server's."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason)[:MAX_REASON])


def is_public(address: str) -> bool:
    """Whether an IP address is on the public Internet: not loopback, private, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or any(ip in net for net in IPV4_EMBEDDING)):
        return False
    site_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local  # deprecated, still routed in private
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or site_local)


def redact(url: str) -> str:
    """An address without user name, password and query, which may be secret, for output and messages.

    A password may have characters that should have been percent-encoded, such as a slash. So what is before the last @
    is hidden, wherever that is.
    """
    scheme, separator, rest = url.partition("://")
    before, _, after = rest.rpartition("@")
    if "?" in before or "#" in before:  # or the @ is part of the query: both sides may be secret
        return f"{scheme}://…"
    try:
        parts = urlsplit(f"{scheme}{separator}{after}")
    except ValueError:
        return "an invalid address"
    hidden = "…@" if "/" in before else ""
    return urlunsplit((parts.scheme, hidden + parts.netloc, parts.path, "", ""))


def fetch(url: str, max_bytes: int, seconds: float, allowed: Callable[[str], bool] = is_public) -> bytes:
    """Download at most `max_bytes` from `url` within about `seconds`, name resolution excepted.

    Redirects are followed one by one: each target must again be http or https, and all IP addresses of its host must be
    `allowed`. The connection goes to an IP address that was checked, which prevents DNS rebinding; for the same reason
    no proxy is used. Raises NotFetched.
    """
    deadline = time.monotonic() + seconds
    for _ in range(MAX_REDIRECTS + 1):
        try:
            content, target = request(url, max_bytes, deadline, allowed)
            if target is None:
                return content
            url = urljoin(url, target)  # which raises ValueError on an impossible target
        except TimeoutError:
            raise NotFetched(f"no answer within {seconds:g} s") from None
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            # A connection that `request` shut down at the deadline fails in one of many ways.
            late = time.monotonic() >= deadline
            reason = f"no answer within {seconds:g} s" if late else reason_of(error)
            raise NotFetched(reason) from None
    raise NotFetched(f"more than {MAX_REDIRECTS} redirects")


def reason_of(error: Exception) -> str:
    """A failure in a few words, without the parts of an invalid address that a ValueError quotes: may be a password."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return "the address is not valid"
    return f"{type(error).__name__}: {error}"[:200]


def request(url: str, max_bytes: int, deadline: float, allowed: Callable[[str], bool]) -> tuple[bytes, str | None]:
    """Send one request. Returns the content and None, or b"" and the target of a redirect."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise NotFetched(f"{parts.scheme or 'an empty scheme'} is neither http nor https")
    if not parts.hostname:
        raise NotFetched("the address has no host")
    sock = connect(parts, deadline, allowed)
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), shut_down, [sock])
    timer.daemon = True
    timer.start()
    try:
        connection = http.client.HTTPConnection(parts.netloc.rpartition("@")[2])
        connection.sock = sock
        target = urlunsplit(("", "", quote(parts.path or "/", SAFE), quote(parts.query, SAFE), ""))
        connection.request("GET", target, headers=HEADERS)
        response = connection.getresponse()
        if response.status in REDIRECTS and response.headers.get("Location"):
            return b"", response.headers["Location"]
        if response.status != 200:
            raise NotFetched(f"HTTP {response.status} {response.reason}"[:100])
        content = read(response, max_bytes)
        if time.monotonic() >= deadline:  # without a Content-Length, a shut-down connection looks complete
            raise TimeoutError
        return content, None
    finally:
        timer.cancel()
        sock.close()


def shut_down(sock: socket.socket) -> None:
    """End a connection that another thread reads from; a socket's own timeout restarts with every byte."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's own would reset the reader's state


def connect(parts: SplitResult, deadline: float, allowed: Callable[[str], bool]) -> socket.socket:
    """Connect to the first IP address of the host that answers, with TLS for https, after checking all of them."""
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NotFetched(f"unknown host {host} ({error.strerror})") from None
    for *_, address in addresses:
        if not allowed(str(address[0])):
            raise NotFetched(f"{host} is {address[0]}, which is not on the public Internet")
    for i, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            sock.connect(address)
            if parts.scheme == "https":
                return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            return sock
        except OSError:
            sock.close()
            if i == len(addresses) - 1:
                raise
    raise NotFetched(f"{host} has no IP address")


def read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """The body. Raises NotFetched if it is, or is declared to be, larger than `max_bytes`, or if it is truncated."""
    too_large = NotFetched(f"more than {max_bytes} bytes")
    if (response.length or 0) > max_bytes:
        raise too_large
    content = bytearray()
    while block := response.read(min(BLOCK, max_bytes + 1 - len(content))):
        content += block
        if len(content) > max_bytes:
            raise too_large
    if response.length:
        raise NotFetched(f"truncated after {len(content)} bytes")
    return bytes(content)
