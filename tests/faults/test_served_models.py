"""Faults of the model servers: the file of the model is replaced, damaged and deleted while they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from face_mask import litert
from tests.test_serve import (  # noqa: F401, the fixtures
    REPOSITORY,
    exported,
    migrated,
    plain,
    predictions,
    scratch,
    served,
    text,
    workspace,
)

IMAGES = [text(plain(red, 100)) for red in range(0, 250, 10)]


def change(path: Path, other: bytes) -> Iterator[str]:
    """Replace a model by `other`, overwrite it with noise, truncate it, and delete it, one after the other."""
    path.with_name("other").write_bytes(other)
    path.with_name("other").replace(path)
    yield "replaced"
    path.write_bytes(bytes(range(256)) * (len(other) // 256))
    yield "overwritten"
    os.truncate(path, 100)
    yield "truncated"
    path.unlink()
    yield "deleted"


def ask_concurrently(address: str) -> list[dict]:
    with ThreadPoolExecutor(8) as pool:
        return [row for (row,) in pool.map(lambda image: predictions(address, image), IMAGES)]


@pytest.mark.full
@pytest.mark.fault(
    25, "a model replaced, damaged and deleted while `face-mask serve` runs", "every request gets the first model"
)
def test_changed_model_files_do_not_reach_a_running_server(exported, tmp_path, seen):  # noqa: F811
    folder = workspace(tmp_path / "repo", exported)
    path, cnn = (litert.path_of(name, folder=folder / litert.MODELS) for name in ("mobilenet", "cnn"))
    process = subprocess.Popen(
        [sys.executable, "-m", "face_mask.serve", "--port", "0"],
        cwd=folder,
        env=scratch.environment() | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        address = process.stdout.readline().split()[1].removesuffix("/invocations")
        expected: list[dict] = []
        for _ in change(path, cnn.read_bytes()):  # the file changes before the first request too
            rows = ask_concurrently(address)
            assert [row["error"] for row in rows] == [None] * len(IMAGES)
            expected = expected or rows
            assert rows == expected
        other = litert.load(cnn)  # the model that replaced it
        assert json.dumps(expected) != json.dumps(other_rows(other, expected))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in process.communicate()[1]
    finally:
        process.kill()
        process.wait()
    seen(f"{4 * len(IMAGES)} concurrent requests, the same answers after each change")


def other_rows(classify: litert.Classify, rows: list[dict]) -> list[dict]:
    """The rows that another model would have answered."""
    import base64

    from face_mask import decoding
    from tests.test_serve import SIZE

    crops = [decoding.decode(base64.b64decode(image), SIZE).pixels for image in IMAGES]
    return [row | {"probability": float(classify(one[None])[0])} for row, one in zip(rows, crops, strict=True)]


@pytest.mark.full
@pytest.mark.fault(
    25, "the champion's file replaced, damaged and deleted while `make serve` runs", "every request gets the champion"
)
def test_changed_artifacts_do_not_reach_mlflows_server(served, seen):  # noqa: F811
    folder, address = served
    [path] = [one for one in (folder / "mlartifacts").rglob("mobilenet*.tflite") if one.is_file()]
    original = path.read_bytes()
    cnn = litert.path_of("cnn", folder=folder / litert.MODELS).read_bytes()
    expected = ask_concurrently(address)
    try:
        for _ in change(path, cnn):
            assert ask_concurrently(address) == expected
    finally:
        path.write_bytes(original)
    seen(f"{4 * len(IMAGES)} concurrent requests, the same answers after each change")
