"""The benchmarks' framework: ratios and intervals, processes, and the files of results. No benchmark runs here."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench import measure, results, run, scenes
from bench.measure import BENCHMARKS, Options, Row, Unavailable, Worker, compare, in_fresh_process, interleave, row
from face_mask.errors import UserError


def replay(values):
    """A measure that returns one value after another; the first is the warm-up's."""
    iterator = iter(values)
    return lambda: next(iterator)


def test_best_peer_and_ratio_of_a_rate():
    found = compare(
        "n", "images/s", replay([0, 30, 32, 31]), {"slow": replay([0, 1, 1, 1]), "fast": replay([0, 10, 11, 10])},
        repeats=3, goal=3,
    )  # fmt: skip
    assert (found.ours, found.peer, found.peer_name, found.ratio) == (31, 10, "fast", 3.1)
    assert found.medians == {"ours": 31, "slow": 1, "fast": 10}
    assert found.values["ours"] == [30, 32, 31] and found.minima["ours"] == 30  # the warm-up is left out
    assert found.met


def test_ratio_is_above_one_where_a_shorter_time_is_ours():
    values = {"ours": [2.0, 2.0, 2.0], "slow": [9.0, 9.0, 9.0], "fast": [4.0, 4.0, 5.0]}
    found = row("n", "s", values, higher_is_better=False, goal=3)
    assert (found.peer_name, found.ratio, found.ratio_low, found.ratio_high) == ("fast", 2.0, 2.0, 2.5)
    assert found.met is False


@pytest.mark.parametrize("better", [True, False])
def test_interval_contains_the_true_ratio(better):
    inside = 0
    for seed in range(20):
        noise = np.random.default_rng(seed)
        slow = noise.lognormal(0, 0.5, 25)  # a busy machine, which slows both
        times = {"ours": slow * noise.lognormal(0, 0.1, 25), "peer": 4 * slow * noise.lognormal(0, 0.1, 25)}
        values = {name: list(1 / of if better else of) for name, of in times.items()}
        found = row("n", "s", values, higher_is_better=better)
        assert found.ratio_low and found.ratio_high and found.ratio
        assert found.ratio_low <= found.ratio <= found.ratio_high
        inside += found.ratio_low <= 4 <= found.ratio_high
    assert inside >= 16


def test_same_values_give_the_same_interval():
    values = {"ours": [1.0, 2.0, 4.0, 3.0], "peer": [2.0, 2.5, 5.0, 4.0]}
    assert row("n", "s", values) == row("n", "s", values)


def test_measures_run_in_rotating_order():
    calls: list[str] = []
    interleave({name: partial(calls.append, name) for name in "abc"}, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


@pytest.mark.parametrize(("value", "better", "met"), [(2.0, False, True), (4.0, False, False), (4.0, True, True)])
def test_goal_without_a_peer_is_of_the_value(value, better, met):
    found = row("n", "s", {"ours": [value]}, goal=3, higher_is_better=better)
    assert found.ratio is None and found.peer_name is None and found.met is met
    assert row("n", "s", {"ours": [1.0]}).met is None


def test_fresh_process_reports_time_memory_and_output():
    code = "import time; print('hello'); block = bytearray(60_000_000); time.sleep(0.2)"
    seconds, peak, output = in_fresh_process([sys.executable, "-S", "-c", code])
    assert output == "hello\n" and 0.2 < seconds < 20
    _, small, _ = in_fresh_process([sys.executable, "-S", "-c", "pass"])
    assert 55 < peak - small < 65  # not the memory of this process, which has loaded NumPy and more
    with pytest.raises(RuntimeError, match=r"exit code 3(.|\n)*no such thing"):
        in_fresh_process(
            [sys.executable, "-S", "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"]
        )


WORKER = """
import sys
from bench import worker
print("a library's message")
values = iter([1.5, {"p50": 2.5}])
worker.serve(lambda: next(values))
"""


def test_worker_measures_once_per_call_and_reports_its_end(tmp_path, monkeypatch):
    (tmp_path / "one_worker.py").write_text(WORKER)
    with Worker("one_worker", environment={"PYTHONPATH": str(tmp_path)}) as worker:
        assert worker() == 1.5
        assert worker() == {"p50": 2.5}
        assert 5 < worker.peak_mb() < 100
        with pytest.raises(RuntimeError, match="StopIteration"):
            worker()
    assert worker.process.poll() is not None


def test_missing_data_and_missing_peers_are_reported(tmp_path, monkeypatch):
    with pytest.raises(Unavailable, match=r"^data/raw/images.zip is missing: run `dvc repro`"):
        Options(tmp_path).path("data/raw/images.zip")
    monkeypatch.setattr(measure, "PEER_PYTHON", tmp_path / "python")
    with pytest.raises(Unavailable, match="make bench-install"):
        measure.peer_interpreter()


def test_machine_is_described_without_its_name():
    described = json.dumps(measure.machine())
    assert '"numpy"' in described and str(Path.home()) not in described
    import socket

    assert len(socket.gethostname()) < 4 or socket.gethostname() not in described


def test_annotated_faces_count_once():
    annotated = [[("with_mask", 0, 0, 10, 10), ("incorrect", 50, 50, 60, 60)], []]
    found = [
        [("with_mask", 0, 0, 10, 9), ("with_mask", 1, 0, 10, 10), ("with_mask", 50, 50, 60, 60)],
        [("a", 0, 0, 1, 1)],
    ]
    assert scenes.rates(found, annotated, 2.0) == {
        "frames": 1, "faces": 1, "correct": 0.5, "recall": 1, "accuracy": 0.5
    }  # fmt: skip


@pytest.fixture
def benchmarks(monkeypatch):
    """Two cheap benchmarks in place of all others; they run in this process."""
    monkeypatch.setattr(run, "load_benchmarks", lambda: None)
    monkeypatch.setattr(run, "run_apart", run.run_here)
    for name in list(BENCHMARKS):
        monkeypatch.delitem(BENCHMARKS, name)

    def fast(options: Options) -> list[Row]:
        values = {"ours": [2 / 3, 2 / 3], "peer": [4 / 3, 4 / 3]}
        return [row("fast one", "s", values, higher_is_better=False, goal=3, how="In turn.", note="Why it is missed.")]

    def missing(options: Options) -> list[Row]:
        return [row("file", "s", {"ours": [float(options.path("file").stat().st_size)]}, goal=30)]

    monkeypatch.setitem(BENCHMARKS, "fast", fast)
    monkeypatch.setitem(BENCHMARKS, "missing", missing)


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--results", str(folder), "--workspace", str(folder), *more]


def test_run_writes_results_and_keeps_rows_that_could_not_be_measured(tmp_path, benchmarks, capsys):
    (tmp_path / "file").write_bytes(b"x" * 42)
    run.main(arguments(tmp_path))
    stored = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    fast, file = stored
    assert {"name", "unit", "ours", "peer", "peer_name", "ratio", "ratio_low", "ratio_high", "goal"} <= set(fast)
    assert (fast["name"], fast["ours"], fast["peer"], fast["ratio"]) == ("fast one", 0.6667, 1.333, 2.0)
    assert file["ours"] == 42 and file["ratio"] is None
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| fast one | 0.667 s | 1.33 s (peer) | 2× (2–2) | 3× | missed |" in text
    assert "| file | 42 s | – | – | at least 30 s | met |" in text
    assert "In turn. Medians of 2 in s: ours 0.667; peer 1.33." in text and "Why it is missed." in text
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")

    (tmp_path / "file").unlink()
    earlier = stored[0] | {"ours": 99.0}
    (tmp_path / "results.json").write_text(json.dumps([earlier, stored[1]]))
    run.main(arguments(tmp_path))
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == stored
    assert "missing: not measured: file is missing: run `dvc repro`" in capsys.readouterr().out


def test_quick_run_only_prints(tmp_path, benchmarks, capsys):
    run.main(arguments(tmp_path, "fast", "--quick"))
    assert "fast: fast one: 0.667 s, peer 1.33: 2× (2–2), goal 3×: missed. Why it is missed." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_unknown_name_is_an_error(tmp_path, benchmarks):
    with pytest.raises(UserError, match="slow is not a valid benchmark: use some of fast, missing"):
        run.main(arguments(tmp_path, "slow"))


def test_rows_of_removed_benchmarks_go_and_the_order_is_that_of_the_registry():
    def of(benchmark, ours):
        return Row("n", "s", ours, benchmark=benchmark)

    old = [of("a", 1), of("gone", 1), of("b", 1), of("b", 1)]
    merged = results.merge(old, [of("b", 2)], ["b", "a"])
    assert [(one.benchmark, one.ours) for one in merged] == [("b", 2), ("a", 1)]


def test_not_finite_values_are_refused():
    with pytest.raises(ValueError, match="nan is not a valid measurement"):
        run.rounded({"ours": [1.0, float("nan")]})


def test_values_that_no_noise_explains_are_no_result():
    """As of a pipeline that is timed while it hands out batches that were waiting."""
    with pytest.raises(ValueError, match="a measurement is wrong"):
        measure.row("x", "images/s", {"ours": [1.0, 1.1, 1.2], "peer": [1.0, 2.0, 1400.0]})
