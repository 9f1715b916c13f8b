"""No space left on the disk: every stage, and every kind of writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import pytest

from tests.faults import finished_repository, processes, small_disk

MESSAGE = ": No space left on device: free space or fix the permissions, then run again"
# What writes the file: HDF5 in memory, then Python; NumPy; FFmpeg; Pillow; zipfile; Python alone.
WRITERS = {
    "train_cnn": "models/cnn.weights.h5",
    "features": "data/split/features.npy",
    "decode": "data/split/images.npy",
    "clip": "data/unseen/clip.mp4",
    "audit": "data/audit/label_issues.csv or plots/audit.png",
    "download": "data/raw/images.zip",
    "predict": "data/predictions.csv",
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> list[dict]:
    """How each stage ended on a full disk: see small_disk."""
    if not small_disk.available():
        # A skip is one letter in the output; a warning is a line.
        warnings.warn("full disks are not tested: no user namespaces here (`unshare`)", stacklevel=1)
        pytest.skip("no user namespaces")
    disk = tmp_path_factory.mktemp("disk") / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "tests.faults.small_disk", finished_repository.build(tmp_path_factory), disk]
    done = subprocess.run(
        [*small_disk.NAMESPACE, *command], cwd=processes.REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def message(one: dict) -> str:
    return processes.Outcome(one["code"], "", one["stderr"], 0.0, one["peak_mb"]).error()


@pytest.mark.full
@pytest.mark.fault(
    5, "no space for any, or for a random, write of each stage", "one line, exit code 1; outputs whole; no other file"
)
def test_a_stage_on_a_full_disk_ends_in_one_line_and_leaves_the_old_outputs(ended, seen):
    stages = {one["stage"] for one in ended}
    repository = finished_repository.stages(processes.REPOSITORY)
    assert stages == {stage for stage, outputs in repository.items() if outputs}
    problems = []
    for one in ended:
        try:
            assert "free" in message(one) and "space" in message(one), message(one)
            assert one["code"] == 1 and one["changed"] == [] and one["left"] == [], one
            assert one["free_pages"] > 0 or one["replaced"] == [], one
        except AssertionError as error:
            problems.append(f"{one['stage']}, {one['free_pages']} pages free: {error}")
    assert not problems, "\n".join(problems)
    peak = max(ended, key=lambda one: one["peak_mb"])
    seen(
        f"{len(stages)} stages, {len(ended)} runs: exit code 1 in one line each, nothing lost, nothing left;"
        f" at most {peak['peak_mb']:.0f} MB ({peak['stage']})"
    )


@pytest.mark.full
@pytest.mark.fault(
    6, "no space for HDF5, NumPy, FFmpeg, Pillow, zipfile", "the line names the output and says to free space"
)
def test_every_writer_names_the_file_for_which_there_is_no_space(ended, seen):
    for stage, paths in WRITERS.items():
        for one in ended:
            if one["stage"] == stage:
                assert f"{stage}: " in message(one) and "space" in message(one), one
                assert any(path in message(one) for path in paths.split(" or ")), one
    seen(f"named: {', '.join(WRITERS.values())}")


LIMITED = """
import resource, sys
import numpy as np
from face_mask import errors, files
from pipeline.models import cnn, pooled_features, saving

def main():
    model = cnn.build(32, 0.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    if sys.argv[1] == "hdf5":
        saving.save(model, "cnn")
    with files.replacing("features.npy") as path:
        pooled_features.write_pooled(path, [np.zeros((1, 9, 1280), np.float32)], 9)

errors.run(main)
"""


@pytest.mark.skipif(os.name == "nt", reason="no ulimit")
@pytest.mark.fault(6, "weights and features above `ulimit -f`", "one line with the file, exit code 1; no other file")
def test_a_file_size_limit_ends_in_one_line(tmp_path, seen):
    env = dict(os.environ) | {"PYTHONPATH": str(processes.REPOSITORY)}
    (tmp_path / "models").mkdir()
    old = dict.fromkeys(("features.npy", "models/cnn.json", "models/cnn.weights.h5"), b"old")
    for path, content in old.items():
        (tmp_path / path).write_bytes(content)
    for writer, path in (("hdf5", "models/cnn.weights.h5"), ("numpy", "features.npy")):
        done = processes.run(["-c", LIMITED, writer], cwd=tmp_path, env=env)
        assert done.code == 1
        assert f"{path}: File too large: free space" in done.error()
        assert processes.snapshot(tmp_path) == old
    seen("exit code 1 in one line each, old files intact")
