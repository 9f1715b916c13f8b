"""Damaged images of every format: whatever their bytes, they are decoded or refused, and nothing else happens."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable

import pytest

from tests.faults import fuzz_images, processes

Seen = Callable[[str], None]
COUNT = 10_000


def fuzz(*options: str) -> str:
    outcome = processes.run(
        ["-m", "tests.faults.fuzz_images", *options, str(COUNT), "1"], cwd=processes.REPOSITORY, seconds=900
    )
    assert outcome.code == 0, outcome.stderr[-3000:]
    counts = json.loads([line for line in outcome.stdout.splitlines() if line.startswith("{")][-1])
    assert counts["decoded"] + counts["refused"] >= COUNT and min(counts["decoded"], counts["refused"]) > COUNT / 20
    assert counts["longest"] < 20 and outcome.peak_mb < 1000
    return (
        f"{counts['decoded']:,} decoded, {counts['refused']:,} refused, the longest took {counts['longest']:.2f} s,"
        f" {outcome.peak_mb:.0f} MB"
    )


@pytest.mark.fault(26, "400 images damaged at random", "each is decoded or refused with a reason")
def test_some_damaged_images(seen: Seen) -> None:
    counts = fuzz_images.Counts()
    for encoded in fuzz_images.damaged(400, seed=7):
        counts.decode(encoded)
    assert counts.decoded > 20 and counts.refused > 20 and counts.longest < 20
    seen(f"{counts.decoded} decoded, {counts.refused} refused")


@pytest.mark.full
@pytest.mark.fault(26, "10,000 images damaged and truncated at random", "decoded or refused within 1 GB")
def test_many_damaged_images(seen: Seen) -> None:
    seen(fuzz())


@pytest.mark.full
@pytest.mark.fault(26, "10,000 damaged images, guided by coverage (atheris)", "decoded or refused within 1 GB")
def test_many_damaged_images_guided_by_coverage(seen: Seen) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it has wheels for Linux alone")
    seen(fuzz("--guided"))
