"""`python -m face_mask.live`: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable

from face_mask import errors, settings
from face_mask.errors import UserError
from face_mask.live.inference import InferencePool
from face_mask.schema import MODELS


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m face_mask.live", description="Serve a web page that detects face masks in a camera or a video."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free port; default: 8000")
    parser.add_argument("--model", choices=MODELS, help="selected at first; default: live.model of params.yaml")
    parser.add_argument("--log-to-mlflow", action="store_true", help="let the page log its session to MLflow")
    parser.add_argument(
        "--open", action=argparse.BooleanOptionalAction, help="open the browser; default: if there is a display"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port {args.port} is not a valid port: use 0 to 65535")
    values = settings.load()
    if args.model:
        values = values.model_copy(update={"live": values.live.model_copy(update={"model": args.model})})
    log = mlflow_logger() if args.log_to_mlflow else None
    with listen(args.host, args.port) as listener:
        asyncio.run(serve(listener, args, InferencePool(values), log))


def mlflow_logger() -> Callable[..., str]:
    """The function that logs session summaries to MLflow. Raises UserError if it is missing or the store fails."""
    try:
        from pipeline import tracking
        from pipeline.tracking import sessions
    except ImportError as error:
        raise UserError(f"--log-to-mlflow needs the whole repository and its requirements ({error})") from None
    tracking.check()
    return sessions.log


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError if the address is invalid or in use."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror:
        raise UserError(f"--host {host} is not an address of this machine: omit it for 127.0.0.1") from None
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({os.strerror(error.errno or 0)}): try --port {port + 1}, or 0"
        ) from None


async def serve(
    listener: socket.socket, args: argparse.Namespace, pool: InferencePool, log: Callable[..., str] | None
) -> None:
    """Serve until SIGINT or SIGTERM."""
    from aiohttp import web

    from face_mask.live import security, server

    runner = web.AppRunner(server.create_app(pool, args.host, log), shutdown_timeout=2.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = listener.getsockname()[1]
    local = security.is_loopback(args.host) or args.host in ("0.0.0.0", "::", "")
    host = "127.0.0.1" if local and ":" not in args.host else args.host
    address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    print(f"live: {address} with {', '.join(pool.names)}; press Ctrl-C to stop", flush=True)
    if not security.is_loopback(args.host):
        print(
            "live: warning: other machines can connect, and the connection is not encrypted; browsers allow camera"
            " access only on localhost or over HTTPS",
            file=sys.stderr,
        )
    if args.open if args.open is not None else has_display():
        await asyncio.to_thread(webbrowser.open, address)
    await stop.wait()
    await runner.cleanup()


def has_display() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    errors.run(main)
