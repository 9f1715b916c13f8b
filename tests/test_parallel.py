"""The parallel map: order, and workers that are killed at the worst moments."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Generator
from contextlib import closing
from multiprocessing import connection
from typing import cast

import pytest

from face_mask import cores
from face_mask.errors import UserError
from pipeline.core import parallel

BIG = 1 << 20  # bytes, more than a pipe holds


def double(number: int) -> int:
    return 2 * number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_while_sending(number: int) -> bytes:
    """Make this worker die with half of its result sent, and the lock for sending held."""

    def send_half(self: connection.Connection, content: bytes, write: object = os.write) -> None:
        os.write(self.fileno(), bytes(content)[: len(content) // 2 or 1])
        if len(content) > 1000:
            os.kill(os.getpid(), signal.SIGKILL)

    if number == 3:
        connection.Connection._send = send_half  # type: ignore[attr-defined]
    return bytes(BIG)


def divide(number: int) -> float:
    return 1 / (3 - number)


def exit_suddenly(number: int) -> int:
    os._exit(5)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available", lambda: 2)


def test_results_are_in_order() -> None:
    assert list(parallel.ordered_map(double, range(20))) == [2 * number for number in range(20)]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (die, "a worker process was killed, most likely because the memory ran out: run again"),
        (die_while_sending, "a worker process was killed"),
        (exit_suddenly, r"a worker process ended \(5\)"),
    ],
)
def test_a_worker_that_dies_is_one_line_and_no_hang(function, words: str) -> None:
    with pytest.raises(UserError, match=words):
        list(parallel.ordered_map(function, range(20)))
    assert not multiprocessing.active_children()


def test_an_error_in_a_worker_is_raised_with_its_traceback() -> None:
    results = parallel.ordered_map(divide, range(20))
    assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1.0]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "return 1 / (3 - number)" in caught.value.__notes__[0]


def test_no_worker_is_left_if_the_results_are_not_used_up() -> None:
    with closing(cast(Generator, parallel.ordered_map(double, range(1000)))) as results:
        assert next(results) == 0
    assert not multiprocessing.active_children()
