"""The package's model server: requests and answers of docs/serving.md, without MLflow."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from PIL import Image

from face_mask import encoded, models, serve
from tests import live_workspace
from tools import scratch

ROOT = Path(__file__).resolve().parents[1]
MODEL = models.find()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def text(image: bytes) -> str:
    return base64.b64encode(image).decode()


SCENE, GREY = text(png(live_workspace.scene())), text(png(Image.new("RGB", (50, 40), (100, 100, 100))))
Ask = Callable[..., Coroutine[Any, Any, tuple[int, Any]]]


def serving(script: Callable[[Ask], Coroutine[Any, Any, None]]) -> None:
    """Run a script with a function that sends a body and returns the HTTP status and the JSON of the answer."""

    async def run() -> None:
        async with TestServer(serve.create_app(MODEL)) as server, aiohttp.ClientSession() as client:

            async def ask(body: object, kind: str = "application/json") -> tuple[int, Any]:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                async with client.post(
                    server.make_url("/invocations"), data=data, headers={"Content-Type": kind}
                ) as answer:
                    return answer.status, await answer.json(
                        loads=lambda body: json.loads(body, parse_constant=pytest.fail)
                    )

            await asyncio.wait_for(script(ask), 120)

    asyncio.run(run())


def records(*images: object, **params: object) -> dict:
    return {"dataframe_records": [{"image": image} for image in images]} | ({"params": params} if params else {})


def test_the_answer_is_that_of_classify_row() -> None:
    classifier = MODEL.load()

    async def script(ask: Ask) -> None:
        for faces in encoded.FACES:
            status, answer = await ask(records(SCENE, GREY, faces=faces))
            expected = [encoded.classify_row(image, classifier, faces) for image in (SCENE, GREY)]
            assert (status, answer) == (200, {"predictions": expected})
            assert list(answer["predictions"][0]) == list(encoded.COLUMNS)
        assert expected[1]["error"] == "no face detected"  # of a grey image, with auto
        split = {"dataframe_split": {"columns": ["id", "image"], "index": [5], "data": [[1, SCENE]]}}
        assert await ask(split) == await ask(records(SCENE))

    serving(script)


def test_a_bad_image_is_an_error_of_its_row_only() -> None:
    async def script(ask: Ask) -> None:
        status, answer = await ask(records("!!", GREY, None, "", text(b"hello"), 7, f"data:image/png;base64,{GREY}"))
        assert status == 200
        reasons = [row["error"] for row in answer["predictions"]]
        empty = "no image: the column image is empty"
        assert reasons == ["not base64", None, empty, empty, "not an image", "not base64", None]
        assert all((row["class"] is None) == (row["error"] is not None) for row in answer["predictions"])

    serving(script)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dataframe_records": [{"picture": "x"}]}, "missing inputs ['image']"),
        ({"dataframe_records": []}, "missing inputs ['image']"),
        ({"dataframe_records": ["x"]}, "not a list of objects"),
        ({"dataframe_split": {"columns": ["image"]}}, "needs `columns` and `data`"),
        ({"dataframe_split": {"columns": ["image"], "data": [[]]}}, "needs `columns` and `data`"),
        ({"dataframe_split": 5}, "needs `columns` and `data`"),
        ({"dataframe_split": {"columns": ["x"], "data": []}}, "missing inputs ['image']"),
        ({"images": ["x"]}, "exactly one of the input fields"),
        ({**records("x"), "dataframe_split": {}}, "exactly one of the input fields"),
        ([], "exactly one of the input fields"),
        (b"image=x", "valid JSON"),
        (b"\xff", "valid JSON"),
        (b"[" * 100_000, "valid JSON"),
        (records(*["x"] * 1001), "1001 rows are too many"),
        (records("x", faces="some"), "params.faces = 'some': use whole or auto"),
        (records("x", faces=["auto"]), "params.faces = ['auto']: use whole or auto"),
        (records("x", size=3), "the only parameter is params.faces"),
        ({**records("x"), "params": "auto"}, "the only parameter is params.faces"),
    ],
)
def test_an_invalid_request_is_refused_with_the_reason(body: object, message: str) -> None:
    with pytest.raises(serve.BadRequest, match=re.escape(message)):
        serve.parse(body if isinstance(body, bytes) else json.dumps(body).encode())


def test_the_reason_and_the_status_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(ask: Ask) -> None:
        status, answer = await ask({"images": []})
        assert (status, answer["error_code"]) == (400, "BAD_REQUEST") and "exactly one" in answer["message"]
        assert (await ask(records(GREY), kind="text/plain"))[0] == 415
        monkeypatch.setattr(serve, "MAX_REQUESTS", 0)
        status, answer = await ask(records(GREY))
        assert (status, answer["message"]) == (503, "too many requests at once: try again later")

    serving(script)


def test_a_large_body_is_refused_and_the_server_goes_on() -> None:
    async def script(ask: Ask) -> None:
        status, answer = await ask(b" " * (serve.MAX_BODY + 1))
        assert status == 413 and "16 MiB" in answer["message"]
        assert (await ask(records(GREY)))[0] == 200

    serving(script)


def test_other_requests_are_answered_while_images_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held while a large image is decoded: a second thread answers others."""
    classify, gate = encoded.classify_row, threading.Event()
    monkeypatch.setattr(serve, "THREADS", 2)

    def slow(image: object, *arguments: Any) -> dict:
        assert image != "slow" or gate.wait(30)
        return classify(image, *arguments)

    monkeypatch.setattr(encoded, "classify_row", slow)

    async def script(ask: Ask) -> None:
        waiting = asyncio.create_task(ask(records("slow")))
        try:
            answers = [await ask(records(GREY)) for _ in range(3)]
        finally:
            gate.set()
        assert [status for status, _ in answers] == [200] * 3
        assert (await waiting)[1]["predictions"][0]["error"] == "not an image"

    serving(script)


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "face_mask", "serve", "--port", "0"],
        cwd=tmp_path, env=scratch.environment() | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        line = process.stdout.readline()
        address = line.split()[1].removesuffix("invocations")
        assert "with mobilenet from " in line
        for path, content in (("ping", b"\n"), ("health", b"\n")):
            assert urllib.request.urlopen(address + path, timeout=10).read() == content
        request = urllib.request.Request(
            f"{address}invocations", json.dumps(records(SCENE)).encode(), {"Content-Type": "application/json"}
        )
        (row,) = json.loads(urllib.request.urlopen(request, timeout=30).read())["predictions"]
        assert row["class"] in ("with_mask", "without_mask") and row["error"] is None
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
    finally:
        process.kill()
        process.wait()
