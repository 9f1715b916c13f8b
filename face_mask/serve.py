"""Serve the model to other programs over HTTP, in the format of MLflow's model server but without MLflow.

    face-mask serve [--host 127.0.0.1] [--port 5001] [--model cnn|mobilenet] [--models DIR]

    POST /invocations   {"dataframe_records": [{"image": "<image file in base64>"}], "params": {"faces": "auto"}}
    GET  /ping, /health, /version

The answer is {"predictions": [{"class": …, "probability": …, "prediction_set": …, "model": …, "error": …}]}, one row
per image; see face_mask/encoded.py and docs/serving.md. A row whose image cannot be classified has the reason in
`error`. An invalid request is refused with HTTP 400, 408, 413, 415 or 503 and {"error_code": …, "message": …}. Nothing
is stored.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from face_mask import cores, detector, encoded, errors, listening, models
from face_mask.__main__ import version
from face_mask.classifier import FaceClassifier
from face_mask.models import Model
from face_mask.schema import MODELS

if TYPE_CHECKING:
    from aiohttp import web

MAX_BODY = 16 << 20  # bytes of a request
MAX_ROWS = 1000  # images in a request
MAX_REQUESTS = 8  # that are received or classified at once; more are refused, so that memory stays bounded
BODY_SECONDS = 60.0  # in which a request's body must arrive
THREADS = max(1, min(4, cores.available()))
FORMATS = ("dataframe_records", "dataframe_split")


class BadRequest(ValueError):
    """An invalid request; the message is the reason, for the client."""


def parse(body: bytes) -> tuple[list[object], str]:
    """The column `image` and the parameter `faces` of a request's body. Raises BadRequest."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not valid JSON") from None
    given = [key for key in request if key != "params"] if isinstance(request, dict) else []
    if len(given) != 1 or given[0] not in FORMATS:
        raise BadRequest(f"the body must have exactly one of the input fields {' and '.join(FORMATS)}")
    images = images_of(given[0], request[given[0]])
    if len(images) > MAX_ROWS:
        raise BadRequest(f"{len(images)} rows are too many: send at most {MAX_ROWS} in a request")
    params = request.get("params") or {}
    if not isinstance(params, dict) or set(params) - {"faces"}:
        raise BadRequest("the only parameter is params.faces")
    faces = params.get("faces", "whole")
    if faces not in encoded.FACES:
        raise BadRequest(f"params.faces = {faces!r}: use {' or '.join(encoded.FACES)}")
    return images, faces


def images_of(name: str, value: Any) -> list[object]:
    """The values of the column `image`, None where a row lacks it. Raises BadRequest if there is no such column."""
    missing = BadRequest("missing inputs ['image']: each row needs a column `image`")
    if name == "dataframe_records":
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise BadRequest("dataframe_records is not a list of objects")
        if not any("image" in row for row in value):
            raise missing
        return [row.get("image") for row in value]
    try:
        columns, rows = list(value["columns"]), list(value["data"])
        if "image" not in columns:
            raise missing
        return [row[columns.index("image")] for row in rows]
    except (KeyError, TypeError, IndexError):
        raise BadRequest("dataframe_split needs `columns` and `data`, a list of rows with a value per column") from None


class Workers:
    """Threads that decode and classify, each with its own copy of the model."""

    def __init__(self, model: Model) -> None:
        """Raises UserError if the model is missing or damaged."""
        # Loaded here, not at a thread's first image: the file may be another one by then.
        self.idle: SimpleQueue[FaceClassifier] = SimpleQueue()
        for _ in range(THREADS):
            self.idle.put(classifier := model.load())
        self.uncalibrated = models.uncalibrated(classifier)
        self.executor = ThreadPoolExecutor(THREADS, thread_name_prefix="classify")
        detector.detect(np.zeros((64, 64, 3), np.uint8), name=model.settings.detector.name)  # not thread-safe at first

    def classify(self, image: object, faces: str) -> dict:
        """The row for one image; runs in a worker thread."""
        classifier = self.idle.get()
        try:
            return encoded.classify_row(image, classifier, faces)
        finally:
            self.idle.put(classifier)


def create_app(model: Model) -> web.Application:
    """The application. Raises UserError if the model is missing or damaged."""
    from aiohttp import web

    workers = Workers(model)
    if workers.uncalibrated:
        print(f"serve: {workers.uncalibrated}", file=sys.stderr)
    active = 0

    def refuse(status: int, message: str, code: str = "BAD_REQUEST") -> web.Response:
        return web.json_response({"error_code": code, "message": message}, status=status)

    async def invocations(request: web.Request) -> web.Response:
        nonlocal active
        if request.content_type != "application/json":  # a browser asks first before it sends JSON to another origin
            return refuse(415, f"Content-Type is {request.content_type}: use application/json")
        if active >= MAX_REQUESTS:
            return refuse(503, "too many requests at once: try again later", "TEMPORARILY_UNAVAILABLE")
        active += 1
        try:
            return await answer(request)
        finally:
            active -= 1

    async def answer(request: web.Request) -> web.Response:
        run = asyncio.get_running_loop().run_in_executor
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return refuse(413, f"the body has more than {MAX_BODY >> 20} MiB: send fewer or smaller images")
        except TimeoutError:
            return refuse(408, f"the body did not arrive within {BODY_SECONDS:g} s")
        try:
            images, faces = await run(workers.executor, parse, body)
        except BadRequest as error:
            return refuse(400, str(error))
        rows = []
        for image in images:  # one after the other, so that requests take turns
            if request.transport is None:  # the client has disconnected
                break
            rows.append(await run(workers.executor, workers.classify, image, faces))
        return web.json_response({"predictions": rows})

    async def ping(request: web.Request) -> web.Response:
        return web.Response(text="\n")

    async def package_version(request: web.Request) -> web.Response:
        return web.Response(text=version())

    async def close(app: web.Application) -> None:
        workers.executor.shutdown(cancel_futures=True)

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/invocations", invocations)
    app.router.add_get("/ping", ping)
    app.router.add_get("/health", ping)
    app.router.add_get("/version", package_version)
    app.on_cleanup.append(close)
    return app


def main() -> None:
    parser = errors.Parser(prog="face-mask serve", description="Serve the model to other programs over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    parser.add_argument("--port", type=int, default=5001, help="0 for any free port; default: %(default)s")
    parser.add_argument("--model", choices=MODELS, help="default: live.model of params.yaml, or the packaged model")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of the models, as `dvc repro export` writes")
    args = parser.parse_args()
    listening.require_aiohttp()
    model = models.find(args.model, folder=args.models)
    with listening.listen(args.host, args.port) as listener:
        app = create_app(model)
        address = listening.url(listener, args.host)
        announcement = f"serve: {address}invocations with {model}; press Ctrl-C to stop"
        asyncio.run(listening.serve_until_signal(app, listener, lambda: print(announcement, flush=True)))


if __name__ == "__main__":
    errors.run(main)
