"""Fetching from addresses that somebody else chose, from a real server on loopback and against what attackers try."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.data import web

PICTURE = b"\x89PNG, or so it says" * 1000


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
        if what == "picture":
            self.head(200, **{"Content-Length": str(len(PICTURE))})
            self.wfile.write(PICTURE)
            return None
        if what == "cut":
            self.head(200, **{"Content-Length": str(2 * len(PICTURE))})
            self.wfile.write(PICTURE)
            return None
        if what == "says_large":
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
        with suppress(OSError):  # the client has hung up, as it should
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
    """Of loopback, 127.0.0.1 alone is allowed: 127.0.0.2 stands for any private address."""
    return web.fetch(url, max_bytes, seconds, allowed=lambda address: address == "127.0.0.1" or web.is_public(address))


def refused(url: str, *words: str, **limits: float) -> str:
    with pytest.raises(web.NotFetched) as caught:
        fetch(url, **limits)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def test_a_picture_and_one_behind_redirects(server: Server) -> None:
    assert fetch(server.url("/picture")) == PICTURE
    assert fetch(server.url("/to?/to?" + server.url("/picture"))) == PICTURE


def test_what_is_no_plain_ascii_is_encoded(server: Server) -> None:
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
def test_no_loopback_by_whatever_name(host: str, server: Server) -> None:
    asked = len(server.asked)
    with pytest.raises(web.NotFetched, match=r"not on the public Internet|is not known"):
        web.fetch(server.url("/picture", host), 1_000_000, 5)
    assert len(server.asked) == asked


def test_a_redirect_to_a_private_address_is_not_followed(server: Server) -> None:
    refused(server.url("/to?" + server.url("/picture", "127.0.0.2")), "127.0.0.2", "not on the public Internet")
    refused(server.url("/to?http://169.254.169.254/latest/meta-data/"), "169.254.169.254", "public Internet")
    refused(server.url("/to?//10.0.0.1/"), "10.0.0.1")


def test_a_name_is_refused_when_any_of_its_addresses_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "192.168.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
    with pytest.raises(web.NotFetched, match=r"192\.168\.0\.1"):
        web.fetch("http://example.org/a.png", 1000, 5)


def test_a_name_that_changes_its_address_gains_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: checked is the first answer, and connected to as well."""
    answers = iter(["127.0.0.1", "127.0.0.2"])
    looked_up = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert fetch(server.url("/picture", "rebinding.example.org")) == PICTURE
    assert looked_up == ["rebinding.example.org"]


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "192.168.1.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "100.64.0.1", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::127.0.0.1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not web.is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1"])
def test_addresses_that_are_public(address: str) -> None:
    assert web.is_public(address)


@pytest.mark.parametrize("path", ["/says_large", "/is_large"])
def test_too_large(server: Server, path: str) -> None:
    refused(server.url(path), "more than 1000 bytes", max_bytes=1000)


def test_exactly_the_limit_is_not_too_large(server: Server) -> None:
    assert fetch(server.url("/picture"), max_bytes=len(PICTURE)) == PICTURE
    refused(server.url("/picture"), "more than", max_bytes=len(PICTURE) - 1)


@pytest.mark.parametrize("path", ["/slow", "/slow_head"])
def test_a_server_that_sends_a_byte_now_and_then_is_left(server: Server, path: str) -> None:
    started = time.monotonic()
    refused(server.url(path), "no answer within 0.4 s", seconds=0.4)
    assert time.monotonic() - started < 5


def test_a_server_that_never_answers_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(f"http://127.0.0.1:{silent.getsockname()[1]}/", "no answer within 0.3 s", seconds=0.3)


def test_what_else_goes_wrong_is_a_reason(server: Server) -> None:
    refused(server.url("/gone"), "HTTP 404")
    refused(server.url("/cut"), f"cut off after {len(PICTURE)} bytes")
    refused(server.url("/round"), "more than 5 redirects")
    refused("http://127.0.0.1:9/", "ConnectionRefusedError")  # the port of the discard service: nobody listens
    refused("http://127.0.0.1:99999/", "ValueError")
    refused("http://[::1/", "ValueError")
    refused("http:///a.png", "names no host")
    refused("http://no-such-host.invalid/", "is not known")
    refused(server.url("/picture").replace("http:", "https:"), "SSL")  # a server that does not speak it


def test_messages_hold_no_secret() -> None:
    assert web.shown("https://me:secret@example.org:8443/a.png?token=secret#secret") == "https://example.org:8443/a.png"
    assert web.shown("http://[::1/") == "an address that is none"
