"""`python -m face_mask.live`: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from functools import partial

from face_mask import errors, events, listening, models
from face_mask.live.inference import InferencePool
from face_mask.replay import mlflow_logger
from face_mask.schema import MODELS


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = errors.Parser(
        prog="face-mask live", description="Serve a web page that detects face masks in a camera or a video."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free port; default: 8000")
    parser.add_argument("--model", choices=MODELS, help="selected at first; default: live.model of params.yaml")
    parser.add_argument("--log-to-mlflow", action="store_true", help="let the page log its session to MLflow")
    parser.add_argument(
        "--open", action=argparse.BooleanOptionalAction, help="open the browser; default: if there is a display"
    )
    events.add_arguments(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    listening.require_aiohttp()
    model = models.find(args.model)
    values = model.settings
    values = values.model_copy(update={"live": values.live.model_copy(update={"model": model.name})})
    log = mlflow_logger() if args.log_to_mlflow else None
    notifier = events.from_arguments(args, lambda line: print(f"live: {line}", file=sys.stderr, flush=True))
    with listening.listen(args.host, args.port) as listener:
        serve(listener, args, InferencePool(values), log, notifier)
    if notifier:
        notifier.close()


def serve(
    listener: socket.socket,
    args: argparse.Namespace,
    pool: InferencePool,
    log: Callable[..., str] | None,
    notifier: events.Notifier | None,
) -> None:
    """Serve until SIGINT or SIGTERM."""
    from face_mask.live import security, server

    def announce() -> None:
        address = listening.url(listener, args.host)
        print(f"live: {address} with {', '.join(pool.names)}; press Ctrl-C to stop", flush=True)
        print(f"live: {'; '.join(map(str, pool.models))}", file=sys.stderr)
        for line in filter(None, map(models.uncalibrated, pool.classifiers.values())):
            print(f"live: {line}", file=sys.stderr)
        if not security.is_loopback(args.host):
            print(
                "live: warning: other machines can connect, and the connection is not encrypted; browsers allow camera"
                " access only on localhost or over HTTPS",
                file=sys.stderr,
            )
        if args.open if args.open is not None else has_display():
            webbrowser.open(address)

    app = server.create_app(pool, args.host, log, notifier)
    asyncio.run(listening.serve_until_signal(app, listener, announce, partial(server.is_page, app)))


def has_display() -> bool:
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    errors.run(main)
