"""`decode` and `features` on Spark: the bytes of the local path, also if a worker is killed, and errors in one line.

The tests that start Spark need FACE_MASK_SPARK_TESTS=1, requirements-spark.txt and Java.
"""

from __future__ import annotations

import gc
import socket
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from bench import spark_cluster
from face_mask.errors import UserError
from pipeline.core import cluster
from pipeline.dataset import decode_archive, packing
from tests.faults import workspaces
from tests.test_spark import ROOT, missing

needs_spark = pytest.mark.skipif(bool(missing()), reason=missing())
IMAGES = 400  # of each class, if the archive has so many


def invert(number: int) -> float:
    return 1 / number


def read(number: int) -> int:
    raise OSError(5, "Input/output error", "images.zip")


# Without Spark


def test_without_the_setting_the_stage_computes_locally(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is not None:
            monkeypatch.setenv(cluster.SETTING, value)
        with cluster.ordered_map(invert, [1, 2], lambda: map(invert, [1, 2])) as results:
            assert list(results) == [1, 0.5]
    assert "pyspark" not in sys.modules or not missing()


def refused(monkeypatch: pytest.MonkeyPatch, master: str) -> str:
    monkeypatch.setenv(cluster.SETTING, master)
    with (
        pytest.raises(UserError) as caught,
        cluster.ordered_map(invert, [1], lambda: pytest.fail("computed locally")),
    ):
        pass
    return str(caught.value)


def test_without_pyspark_java_or_master_the_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    for name in ("pyspark", "pyspark.sql"):
        monkeypatch.setitem(sys.modules, name, None)
    remedy = "pyspark, of the extra `spark`, is not installed: run `pip install 'pyspark>=4.3,<5' pyarrow`"
    assert refused(monkeypatch, "local") == remedy
    sql: Any = types.ModuleType("pyspark.sql")
    sql.SparkSession = types.SimpleNamespace(builder=types.SimpleNamespace(appName=lambda name: None))
    monkeypatch.setitem(sys.modules, "pyspark", types.ModuleType("pyspark"))
    monkeypatch.setitem(sys.modules, "pyspark.sql", sql)
    with monkeypatch.context() as patch:
        patch.delenv("JAVA_HOME", raising=False)
        patch.setenv("PATH", str(tmp_path))
        assert refused(patch, "local").startswith("Spark needs Java 17 or later, which is not installed: run `apt-get")
    monkeypatch.setattr("face_mask.spark.check_java", lambda: None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        master = f"spark://127.0.0.1:{probe.getsockname()[1]}"
    assert refused(monkeypatch, "nowhere:1").startswith("FACE_MASK_SPARK_MASTER=nowhere:1 is not a valid address")
    assert refused(monkeypatch, master).startswith(f"FACE_MASK_SPARK_MASTER={master} does not answer (")


def test_a_task_returns_what_went_wrong_except_what_may_succeed_at_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cluster.freeze.cache_clear()
    before = gc.get_freeze_count()
    assert cluster.compute(2, invert, str(tmp_path)) == (None, 0.5)
    assert gc.get_freeze_count() > before  # pyspark's collections after each task are quick then
    gc.unfreeze()
    error, _ = cluster.compute(0, invert, str(tmp_path))
    assert isinstance(error, ZeroDivisionError) and "return 1 / number" in error.__notes__[0]
    with pytest.raises(OSError, match="Input/output"):
        cluster.compute(0, read, str(tmp_path))
    error, _ = cluster.compute(2, invert, str(tmp_path / "gone"))
    assert str(error) == f"a worker cannot see the folder {tmp_path}/gone: mount it at this path on all workers"


def test_a_replaced_archive_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reasons = []
    for content in (b"", b"text"):
        with zipfile.ZipFile("new.zip", "w") as archive:
            archive.writestr("a.jpg", content)
        Path("new.zip").replace("images.zip")
        reasons.append(decode_archive.decode_chunk(["a.jpg"], Path("images.zip"), 8)[1]["bad"].item())
    assert reasons == ["empty file", "not an image"]


# On a standalone cluster


def write_archive(path: Path) -> None:
    """Images of the data set if it is here, otherwise drawn ones, and one that is damaged."""
    path.parent.mkdir(parents=True)
    source = ROOT / "data/raw/images.zip"
    if not source.exists():
        from pipeline.synthetic import faces

        source = path.with_name("drawn.zip")
        faces.write_archive(source, IMAGES, 3)
    with zipfile.ZipFile(source) as images, zipfile.ZipFile(path, "w") as archive:
        for label in ("with_mask", "without_mask"):
            names = sorted(name for name in images.namelist() if Path(name).parent.name == label)
            for name in names[:: max(1, len(names) // IMAGES)]:
                archive.writestr(f"{label}/{Path(name).name}", images.read(name))
        archive.writestr("with_mask/damaged.jpg", b"damaged")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Popen]]:
    """The two workers of a cluster that the stages use."""
    monkeypatch.setenv("SPARK_LOCAL_IP", spark_cluster.HOST)
    (tmp_path / "cluster").mkdir()
    with spark_cluster.cluster(tmp_path / "cluster", 2) as (url, workers):
        monkeypatch.setenv(cluster.SETTING, url)
        yield workers


@needs_spark
def test_both_stages_write_the_bytes_of_the_local_path_though_a_worker_is_killed(
    started: list[Popen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[dict]
) -> None:
    from pipeline import decode, features
    from pipeline.models import imagenet_weights, mobilenet

    folder = workspaces.make(tmp_path / "work", {"image_size": 64})
    monkeypatch.chdir(folder)
    write_archive(decode.ARCHIVE)
    imagenet_weights.write(imagenet_weights.obtain("none"), mobilenet.BACKBONE)  # random weights, of the seed
    paths = (packing.IMAGES_PATH, packing.DECODED_PATH, packing.FEATURES_PATH)
    with monkeypatch.context() as patch:
        patch.delenv(cluster.SETTING)
        decode.main()
        features.main()
    expected = [path.read_bytes() for path in paths]
    assert len(packing.open_images()) > 600 and len(expected[2]) > 6 * 600 * 1280 * 4

    jobs = []

    def results_of(job: Any, original: Any = cluster.results_of) -> Iterator[Any]:
        jobs.append(job)
        if len(jobs) == 3:
            spark_cluster.kill(started[-1])
        yield from original(job)

    for path in paths:
        path.unlink()
    monkeypatch.setattr(decode_archive, "CHUNK_BYTES", 8 * 3 * 64**2)  # many jobs
    monkeypatch.setattr(cluster, "results_of", results_of)
    decode.main()
    assert len(jobs) > 9 and started[-1].poll() is not None and started[0].poll() is None
    features.main()
    assert [path.read_bytes() for path in paths] == expected
    assert logged[:2] == logged[2:] and not list(folder.rglob(".*"))


@needs_spark
def test_what_a_task_raises_is_raised_and_what_spark_repeats_in_vain_is_one_line(
    started: list[Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cluster.ENVIRONMENT, "PYTHONPATH", str(ROOT))
    with cluster.ordered_map(invert, range(1, 20), list) as results:
        assert list(results) == [1 / number for number in range(1, 20)]
    with (
        pytest.raises(ZeroDivisionError) as caught,
        cluster.ordered_map(invert, range(-9, 9), list) as results,
    ):
        list(results)
    assert "return 1 / number" in caught.value.__notes__[0]
    with (
        pytest.raises(UserError, match=r"^a worker failed: \[Errno 5\] Input/output error: 'images\.zip'$"),
        cluster.ordered_map(read, [1], list) as results,
    ):
        list(results)
