"""A fake Kaggle server on loopback, which the official `kaggle` client can use, with faults on demand.

The client calls it http://localhost (KAGGLE_API_ENVIRONMENT=LOCALHOST) on port 80, which needs root. So it is an
HTTP proxy on any free port, and the client's requests to localhost are sent to it by `http_proxy`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

RPC = "/api/v1/datasets.DatasetApiService/"


class Request(NamedTuple):
    path: str
    range: str | None
    authorization: str | None


class Kaggle(ThreadingHTTPServer):
    """Serves `archive` for every data set; `fault` is None, cut, stall, stall midway, or a status from 401 to 500."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.closing = threading.Event()
        self.reset()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnects."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def reset(self, archive: bytes = b"") -> None:
        self.archive, self.fault = archive, None
        self.requests: list[Request] = []

    archive: bytes
    fault: str | None

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which the client connects to this server."""
        url = f"http://127.0.0.1:{self.server_port}"
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "http_proxy": url, "no_proxy": "", "NO_PROXY": ""}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Kaggle

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        server = self.server
        server.requests.append(Request(path, self.headers.get("Range"), self.headers.get("Authorization")))
        if path.endswith("/IntrospectToken"):
            return self.answer(200, {"active": True, "username": "somebody"})
        if path.startswith("/storage/"):
            return self.send_archive()
        if server.fault and server.fault.isdigit():
            # As from Kaggle: the client prints only the message, which does not contain the status.
            return self.answer(int(server.fault), {"code": int(server.fault), "message": "so it is"})
        if path == RPC + "GetDatasetMetadata":
            return self.answer(200, {"info": {"ownerUser": "o", "datasetSlug": "n", "title": "n", "licenses": []}})
        if path == RPC + "DownloadDataset":
            self.send_response(302)
            self.send_header("Location", "http://localhost/storage/archive.zip")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        return self.answer(404, {"code": 404, "message": f"no such method: {path}"})

    def send_archive(self) -> None:
        content, fault, wanted = self.server.archive, self.server.fault, self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Last-Modified", "Tue, 26 May 2020 09:36:32 GMT")
        self.end_headers()
        end = len(content)
        if fault == "stall":
            end = start
        elif fault in ("cut", "stall midway") and not wanted:
            end = len(content) // 2
        self.wfile.write(content[start:end])
        self.wfile.flush()
        if fault and fault.startswith("stall") and end < len(content):
            self.server.closing.wait(60)
        self.close_connection = self.close_connection or end < len(content)

    def answer(self, status: int, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def basic(username: str, key: str) -> str:
    """The Authorization header of a username and key."""
    return "Basic " + base64.b64encode(f"{username}:{key}".encode()).decode()


@contextmanager
def serving() -> Iterator[Kaggle]:
    server = Kaggle()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
