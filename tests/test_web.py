"""Downloads from untrusted addresses: from a real server on loopback, and against known attacks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from face_mask import web

CONTENT = b"\x89PNG, supposedly" * 1000


class Server(ThreadingHTTPServer):
    daemon_threads = True
    asked: list[str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.closing = threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.close_connection = True
        what, _, rest = self.path.lstrip("/").partition("?")
        if what == "to":
            return self.head(302, Location=rest)
        if what == "round":
            return self.head(302, Location="/round")
        if what == "gone":
            return self.head(404)
        if what == "file":
            self.head(200, **{"Content-Length": str(len(CONTENT))})
            self.wfile.write(CONTENT)
            return None
        if what == "cut":
            self.head(200, **{"Content-Length": str(2 * len(CONTENT))})
            self.wfile.write(CONTENT)
            return None
        if what == "declared_large":
            return self.head(200, **{"Content-Length": str(10**12)})
        if what == "is_large":
            self.head(200)
            for _ in range(100):
                self.wfile.write(bytes(100_000))
            return None
        if what in ("slow", "slow_head"):
            if what == "slow":
                self.head(200)
            for _ in range(200):
                if self.server.closing.wait(0.05):
                    break
                self.wfile.write(b"x")
                self.wfile.flush()
            return None
        return self.head(500)

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self) -> None:
        with suppress(OSError):  # the client has closed the connection, as it should
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


def fetch(url: str, max_bytes: int = 1_000_000, seconds: float = 10) -> bytes:
    """Allows 127.0.0.1 but no other loopback address, so that 127.0.0.2 can represent a private address."""
    return web.fetch(url, max_bytes, seconds, allowed=lambda address: address == "127.0.0.1" or web.is_public(address))


def refused(url: str, *words: str, **limits: float) -> str:
    with pytest.raises(web.NotFetched) as caught:
        fetch(url, **limits)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def test_a_file_and_one_behind_redirects(server: Server) -> None:
    assert fetch(server.url("/file")) == CONTENT
    assert fetch(server.url("/to?/to?" + server.url("/file"))) == CONTENT


def test_characters_beyond_ascii_are_percent_encoded(server: Server) -> None:
    refused(server.url("/straße/ä b?ö=1"), "HTTP 500")
    assert server.asked[-1] == "/stra%C3%9Fe/%C3%A4%20b?%C3%B6=1"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/a.png", "gopher://127.0.0.1/", "data:image/png;base64,AA", "a.png"]
)
def test_only_http_and_https(url: str, server: Server) -> None:
    refused(url, "neither http nor https")
    refused(server.url(f"/to?{url}"), "HTTP" if url == "a.png" else "neither http nor https")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"]
)
def test_loopback_is_refused_by_any_name(host: str, server: Server) -> None:
    asked = len(server.asked)
    with pytest.raises(web.NotFetched, match=r"not on the public Internet|unknown host"):
        web.fetch(server.url("/file", host), 1_000_000, 5)
    assert len(server.asked) == asked


def test_a_redirect_to_a_private_address_is_not_followed(server: Server) -> None:
    refused(server.url("/to?" + server.url("/file", "127.0.0.2")), "127.0.0.2", "not on the public Internet")
    refused(server.url("/to?http://169.254.169.254/latest/meta-data/"), "169.254.169.254", "public Internet")
    refused(server.url("/to?//10.0.0.1/"), "10.0.0.1")


def test_a_name_is_refused_when_any_of_its_addresses_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "192.168.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
    with pytest.raises(web.NotFetched, match=r"192\.168\.0\.1"):
        web.fetch("http://example.org/a.png", 1000, 5)


def test_dns_rebinding_is_prevented(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is resolved once, and the connection goes to the address that was checked."""
    answers = iter(["127.0.0.1", "127.0.0.2"])
    looked_up = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert fetch(server.url("/file", "rebinding.example.org")) == CONTENT
    assert looked_up == ["rebinding.example.org"]


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "192.168.1.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "100.64.0.1", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::127.0.0.1", "fec0::1", "feff::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not web.is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1"])
def test_addresses_that_are_public(address: str) -> None:
    assert web.is_public(address)


@pytest.mark.parametrize("path", ["/declared_large", "/is_large"])
def test_too_large(server: Server, path: str) -> None:
    refused(server.url(path), "more than 1000 bytes", max_bytes=1000)


def test_exactly_the_limit_is_not_too_large(server: Server) -> None:
    assert fetch(server.url("/file"), max_bytes=len(CONTENT)) == CONTENT
    refused(server.url("/file"), "more than", max_bytes=len(CONTENT) - 1)


@pytest.mark.parametrize("path", ["/slow", "/slow_head"])
def test_a_server_that_trickles_bytes_is_given_up(server: Server, path: str) -> None:
    started = time.monotonic()
    refused(server.url(path), "no answer within 0.4 s", seconds=0.4)
    assert time.monotonic() - started < 5


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(f"http://127.0.0.1:{silent.getsockname()[1]}/", "no answer within 0.3 s", seconds=0.3)


def test_other_failures_have_a_reason(server: Server) -> None:
    refused(server.url("/gone"), "HTTP 404")
    refused(server.url("/cut"), f"truncated after {len(CONTENT)} bytes")
    refused(server.url("/round"), "more than 5 redirects")
    refused("http://127.0.0.1:9/", "ConnectionRefusedError")  # the discard service, which does not run
    refused("http://127.0.0.1:99999/", "address is not valid")
    refused("http://[::1/", "address is not valid")
    with pytest.raises(web.NotFetched, match="address is not valid") as caught:
        fetch("http://me:pass/word@example.org/")
    assert "pass" not in str(caught.value)
    refused("http:///a.png", "has no host")
    refused("http://no-such-host.invalid/", "unknown host")
    refused(server.url("/file").replace("http:", "https:"), "SSL")  # a server without TLS


def test_a_reason_is_short_and_safe_to_print() -> None:
    reason = str(web.NotFetched("HTTP 404 \x1b[2J\u202e" + "x" * 5000))
    assert reason.startswith("HTTP 404 \\x1b[2J\\u202ex") and len(reason) < 400


def test_redacted_addresses_have_no_secret() -> None:
    assert (
        web.redact("https://me:secret@example.org:8443/a.png?token=secret#secret") == "https://example.org:8443/a.png"
    )
    assert web.redact("http://[::1/") == "an invalid address"
    assert web.redact("http://me:sec/ret@example.org/a.png") == "http://…@example.org/a.png"
    for mark in "?#":
        assert web.redact(f"http://me:sec{mark}ret@example.org/a.png") == "http://…"
    assert web.redact("http://example.org/a?token=sec@ret") == "http://…"
