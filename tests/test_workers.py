"""Image files are predicted by several threads, in order, with few images in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from face_mask import ahead, workers
from face_mask.classifier import Prediction
from face_mask.inputs import Input, UnreadableInput
from face_mask.video import Frame


def make_inputs(names: list[str]) -> list[Input]:
    return [Input(name, "http://x" if name.startswith("url") else Path(name), PurePosixPath(name)) for name in names]


def number(name: str) -> int:
    return int(name.partition(".")[0].strip("abcdefghijklmnopqrstuvwxyz"))


class Reading:
    """Reads the frames of an input; its number is the value of the pixel. Counts what is read and not yet consumed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started: list[str] = []
        self.threads: dict[str, str] = {}

    def __call__(self, one: Input) -> Iterator[Frame]:
        with self.lock:
            self.started.append(one.name)
            self.threads[one.name] = threading.current_thread().name
        if one.name.startswith("bad"):
            raise UnreadableInput("why")
        for count in range(3 if one.is_video else 1):
            yield Frame(np.full((1, 1, 3), number(one.name), np.uint8), count if one.is_video else None)


def predict(image: np.ndarray) -> list[Prediction]:
    value = int(image[0, 0, 0])
    time.sleep(0.01 * (value % 3))  # later images are done first
    return [Prediction((0, 0, 1, 1), 1.0, value / 1000)]


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_order_and_nothing_is_read_far_ahead(threads: int) -> None:
    names = [f"{i}.png" for i in range(6)] + ["bad6.png", "video7.mp4", "url8.png"] + [f"{i}.png" for i in range(9, 14)]
    reading, seen = Reading(), []
    with workers.predicted(make_inputs(names), reading, predict, threads) as predicted:
        for index, (name, frames) in enumerate(zip(names, predicted, strict=True)):
            assert set(reading.started) <= set(names[: index + threads + 1])
            if name.startswith("bad"):
                with pytest.raises(UnreadableInput, match="why"):
                    list(frames)
                continue
            found: list[Any] = list(frames)
            assert [faces[0].with_mask for _, faces in found] == [number(name) / 1000] * (3 if "video" in name else 1)
            seen.append(name)
            if name == "5.png":  # nothing after the video is read before it
                assert not set(reading.started) & set(names[7:])
    assert seen == [name for name in names if not name.startswith("bad")]
    early = {name for name, thread in reading.threads.items() if thread.startswith("predict")}
    assert early == {name for name in names if not name.startswith(("video", "url"))}


def test_what_waits_is_cancelled_when_the_caller_stops() -> None:
    names = [f"{i}.png" for i in range(100)]
    reading = Reading()
    with (
        pytest.raises(KeyboardInterrupt),
        workers.predicted(make_inputs(names), reading, predict, 2) as predicted,
    ):
        next(predicted)
        raise KeyboardInterrupt
    assert len(reading.started) <= 3


def test_each_thread_has_a_copy_of_the_model_of_its_own() -> None:
    loaded: list[object] = []

    def load() -> Any:
        loaded.append(object())
        return loaded[-1]

    copies = workers.Copies(load(), load)
    with copies.one() as first, copies.one() as second:
        assert first is not second
    with copies.one() as again:
        assert again in loaded
    assert len(loaded) == 2


def test_large_images_are_read_one_at_a_time_in_the_callers_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "LARGE_PIXELS", 100)
    resolved = []
    for number, side in enumerate((8, 20, 20, 8)):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (side, side)).save(path)
        resolved.append(Input(path.name, path, PurePosixPath(path.name)))
    (tmp_path / "4.png").write_bytes(b"no image")
    resolved.append(Input("4.png", tmp_path / "4.png", PurePosixPath("4.png")))
    read_in: dict[str, bool] = {}

    def read(one: Input) -> list[Frame]:
        read_in[one.name] = threading.current_thread() is threading.main_thread()
        return [Frame(np.zeros((1, 1, 3), np.uint8))]

    with workers.predicted(resolved, read, lambda image: [], 2) as predicted:
        assert [len(list(frames)) for frames in predicted] == [1] * 5
    assert read_in == {"0.png": False, "1.png": True, "2.png": True, "3.png": False, "4.png": False}


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_frames_before_a_damaged_one_come_first_and_few_are_read_ahead(threads: int) -> None:
    read = []

    def late(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    def frames() -> Iterator[int]:
        for number in range(9):
            read.append(number)
            yield number
        raise UnreadableInput("why")

    found = []
    with pytest.raises(UnreadableInput, match="why"):
        for result in ahead.ordered(late, frames(), threads, UnreadableInput):
            found.append(result)
            assert len(read) <= result + threads + 1
    assert found == list(range(9))
