"""Stages in forks of a process behave as in processes of their own; independent ones run side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tools import preloaded, scratch, side_by_side

STAGE = """
import multiprocessing, os, sys, time
import pipeline.helper
if __name__ == "__main__":
    print(sys.argv[1:], os.getcwd(), os.environ["VALUE"], pipeline.helper.VALUE, sys.modules["__main__"].__spec__.name)
    print("problem", file=sys.stderr)
    if sys.argv[1] == "sleep":
        time.sleep(60)
    sys.exit(int(sys.argv[1]))
"""
GRAPH = """
stages:
  last: {cmd: "", deps: [b.txt, c.csv], outs: [d.txt]}
  first: {cmd: "", outs: [a.txt: {cache: false}]}
  alone: {cmd: "", deps: [a.txt], metrics: [c.csv: {cache: false}]}
  second: {cmd: "", deps: [a.txt, code.py], plots: [b.txt]}
"""
# As `python`: notes when each stage starts and ends.
NOTES = """#!/bin/sh
for stage; do :; done
echo "start $stage" >> "$NOTES"
sleep 0.3
echo "end $stage" >> "$NOTES"
echo "output of $stage"
[ "$stage" != "$FAILING" ]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `python -m pipeline.stage` as DVC does, in a repository with a changed module."""
    if sys.platform != "linux":
        pytest.skip("elsewhere stages are not forked")
    folder = tmp_path_factory.mktemp("repository")
    scratch.copy_tree(folder)
    (folder / "pipeline/stage.py").write_text(STAGE)
    (folder / "pipeline/helper.py").write_text("VALUE = 'before'")
    with preloaded.serving(folder, scratch.environment(), ()) as environment:
        (folder / "pipeline/helper.py").write_text("VALUE = 'after'")

        def start(arguments: str) -> subprocess.Popen:
            return subprocess.Popen(
                f"exec python -m pipeline.stage {arguments}", shell=True, cwd=folder, text=True,
                env=environment | {"VALUE": "ours"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

        yield start


@pytest.mark.parametrize("code", [0, 3])
def test_a_stage_has_the_arguments_streams_environment_and_exit_code_of_its_command(run, code):
    process = run(f"{code} 'a b'")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "problem\n")
    assert out.startswith(f"['{code}', 'a b'] ")
    assert out.split()[-3:] == ["ours", "after", "pipeline.stage"]


def test_two_stages_run_at_once_and_one_that_is_ended_ends(run):
    ended, other = run("sleep"), run("0")
    assert ended.stderr.readline() == other.stderr.readline() == "problem\n"
    assert other.wait(60) == 0
    ended.terminate()
    assert ended.wait(60) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere stages are not forked")
def test_a_stage_does_not_wait_for_a_process_that_has_ended(tmp_path):
    scratch.copy_tree(tmp_path)
    command = ["python", "-m", "pipeline.split"]
    with preloaded.serving(tmp_path, scratch.environment(), ("no_such_library",)) as environment:
        # At first it waits for the libraries, so this is the answer of one that ends meanwhile, or has ended.
        for _ in range(2):
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
            assert done.returncode == 1
            assert done.stderr == "the process that starts the stages has ended, see its messages above: run again\n"


def test_stages_wait_for_those_that_they_read_from_and_the_others_run_side_by_side(tmp_path, capsys):
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "python").write_text(NOTES)
    (tmp_path / "python").chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin:/bin", "NOTES": str(tmp_path / "notes"), "FAILING": ""}
    assert side_by_side.dependencies(tmp_path) == {
        "last": {"second", "alone"}, "first": set(), "alone": {"first"}, "second": {"first"}
    }  # fmt: skip
    side_by_side.repro(tmp_path, environment)
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes[:2] == ["start first", "end first"] and notes[-2:] == ["start last", "end last"]
    assert {line.partition(" ")[0] for line in notes[2:4]} == {"start"}
    assert sorted(capsys.readouterr().out.split()[2::3]) == ["alone", "first", "last", "second"]

    (tmp_path / "notes").unlink()
    with pytest.raises(subprocess.CalledProcessError, match="alone"):
        side_by_side.repro(tmp_path, environment | {"FAILING": "alone"})
    assert "start last" not in (tmp_path / "notes").read_text()
    assert (tmp_path / "notes").read_text().count("end") == 3  # the one beside it has ended


def test_stages_start_in_milliseconds(run):
    started = time.monotonic()
    assert run("0").wait(60) == 0
    plain = time.monotonic()
    subprocess.run([sys.executable, "-c", "import pandas"], check=True)
    assert plain - started < max(1, 2 * (time.monotonic() - plain))
