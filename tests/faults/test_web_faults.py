"""Hostile servers: redirects to impossible or private places, and text that would control the terminal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from face_mask import inputs, web
from tests.faults import made_images

Seen = Callable[[str], None]
GOOD = made_images.encoded(Image.new("RGB", (64, 64)), "PNG")
LOCATIONS = (
    b"//x@[::1/", b"http://[::1/", b"http://[", b"//[v1.x]/", b"http://a:b:c/", b"http://h:99999/", b"http://h:-1/",
    b"http:///", b"//", b"http://\xff\xfe/", b"http://a b/", "http://\N{LATIN SMALL LETTER SHARP S}".encode() * 300,
    b"file:///etc/passwd", b"javascript:alert(1)", b"gopher://127.0.0.1/", b"data:image/png;base64,AA==", b"http:x",
    b"http://169.254.169.254/latest/meta-data/", b"//10.0.0.1/", b"http://[fec0::1]/", b"http://[::ffff:10.0.0.1]/",
    b"http://0x7f.2/", b"http://2130706434/", b"/%00%0d%0a", b"/a\x1b]0;title\x07", b"/" + b"a" * 60_000,
    b"http://" + b"a" * 300 + b"/", b"http://" + b"a." * 2000 + b"/", b"?" * 1000, b"http://xn--a/", b"http://%zz/",
)  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Answers /N with a redirect to LOCATIONS[N], /good with an image, and anything else with a hostile status."""
    monkeypatch.setattr(web, "fetch", partial(web.fetch, allowed=lambda a: a == "127.0.0.1" or web.is_public(a)))
    # No name is resolved: what is public would be asked for.
    lookup = socket.getaddrinfo

    def local_only(host: str, *arguments: object, **options: object) -> list:
        if host[-1:].isdigit() or host.startswith("0x") or ":" in host:
            return lookup(host, *arguments, **options)  # type: ignore[arg-type]
        host.encode("idna")
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", local_only)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def serve(listening: socket.socket) -> None:
    while True:
        try:
            connection = listening.accept()[0]
        except OSError:
            return
        with connection:
            path = connection.recv(1 << 20).split(b" ")[1].lstrip(b"/")
            if path.isdigit():
                answer = b"HTTP/1.0 302 x\r\nLocation: " + LOCATIONS[int(path)] + b"\r\n\r\n"
            elif path == b"good":
                answer = b"HTTP/1.0 200 OK\r\n\r\n" + GOOD
            else:
                answer = b"HTTP/1.0 404 \x1b[2J\xe2\x80\xae gone\r\n\r\n"
            connection.sendall(answer)


@pytest.mark.fault(22, f"{len(LOCATIONS)} hostile redirects in one batch", "a reason each, and the batch goes on")
def test_hostile_redirects_do_not_end_the_batch(server: str, seen: Seen) -> None:
    addresses = [f"{server}/{number}" for number in range(len(LOCATIONS))]
    resolved, problems = inputs.resolve([*addresses, f"{server}/good"])
    reasons = []
    for one in resolved[:-1]:
        with pytest.raises(inputs.UnreadableInput) as caught:
            list(inputs.read_frames(one, 0, 1_000_000, 5))
        reasons.append(str(caught.value))
    assert not problems and len(list(inputs.read_frames(resolved[-1], 0, 1_000_000, 5))) == 1
    assert all(reason and reason.isprintable() and len(reason) < 1000 for reason in reasons), reasons
    assert reasons[0] == "the address is not valid"
    seen(f"a reason for each, the first “{reasons[0]}”")


@pytest.mark.fault(22, "a server whose status line has control and bidirectional characters", "they are escaped")
def test_text_of_a_server_is_safe_to_print(server: str, tmp_path: Path, seen: Seen) -> None:
    (one,), _ = inputs.resolve([f"{server}/gone"])
    with pytest.raises(inputs.UnreadableInput, match="HTTP 404") as caught:
        list(inputs.read_frames(one, 0, 1000, 5))
    assert str(caught.value).isprintable() and "\\x1b[2J" in str(caught.value)
    seen(f"“{caught.value}”")
