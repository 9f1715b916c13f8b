"""`python -m live`: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import webbrowser

from pipeline import errors, params
from pipeline.errors import UserError
from pipeline.serve import litert


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m live", description="Judge a browser's camera, face by face.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; only this machine by default")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one")
    parser.add_argument("--model", choices=litert.NAMES, help="at first; live.model of params.yaml by default")
    parser.add_argument("--log-to-mlflow", action="store_true", help="let the page log its session to MLflow")
    parser.add_argument("--open", action=argparse.BooleanOptionalAction, help="the browser; default where there is one")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port {args.port} is no port: use 0 to 65535")
    values = params.load()
    if args.model:
        values = values.model_copy(update={"live": values.live.model_copy(update={"model": args.model})})
    if args.log_to_mlflow:
        from pipeline import tracking

        tracking.check()
    listening = listen(args.host, args.port)
    with listening:
        asyncio.run(serve(listening, args, values))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; UserError where it cannot."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror:
        raise UserError(f"--host {host} is no address of this machine: leave it out for 127.0.0.1") from None
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({os.strerror(error.errno or 0)}): try --port {port + 1}, or 0"
        ) from None


async def serve(listening: socket.socket, args: argparse.Namespace, values: params.Params) -> None:
    """Serve until the process is told to end."""
    from aiohttp import web

    from live import security, server
    from live.judges import Judges
    from pipeline.serve import session_log

    judges = Judges(values)
    runner = web.AppRunner(
        server.app(judges, args.host, session_log.log if args.log_to_mlflow else None), shutdown_timeout=2.0
    )
    await runner.setup()
    await web.SockSite(runner, listening).start()
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    port = listening.getsockname()[1]
    local = security.is_loopback(args.host) or args.host in ("0.0.0.0", "::", "")
    shown = "127.0.0.1" if local and ":" not in args.host else args.host
    address = f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"
    print(f"live: {address} with {', '.join(judges.names)}; Ctrl-C ends it", flush=True)
    if not security.is_loopback(args.host):
        print(
            "live: warning: other machines can connect, and nothing is encrypted; browsers give a camera only to"
            " localhost and https",
            file=sys.stderr,
        )
    if args.open if args.open is not None else has_screen():
        await asyncio.to_thread(webbrowser.open, address)
    await told.wait()
    await runner.cleanup()


def has_screen() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    errors.run(main)
