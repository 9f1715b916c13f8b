"""A real RTSP server on loopback for tests, from the package aio-rtsp-toolkit, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVE = """
import asyncio, sys
from aio_rtsp_toolkit import server
asyncio.run(server.serve(sys.argv[1], "127.0.0.1", int(sys.argv[2])))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    """Serve the videos in `folder`, endlessly with `?play_count=0` after their name; yields the server's address."""
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder), str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, "the RTSP server did not start"
                time.sleep(0.05)
        yield f"rtsp://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
