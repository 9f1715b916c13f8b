"""`face-mask spark`: what the workers run, and the command on Spark in this machine's two cores.

The tests that start Spark need FACE_MASK_SPARK_TESTS=1, requirements-spark.txt and Java.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from face_mask import FaceMaskDetector, api, arrow, conformal, encoded, inputs, models, spark
from face_mask.errors import UserError
from tests import live_workspace
from tools import scratch

ROOT = Path(__file__).resolve().parents[1]
SENT, _ = spark.find_model()
GREY = live_workspace.jpeg(Image.new("RGB", (120, 90), "grey"))


def missing() -> str:
    """Why Spark is not started; empty if it is."""
    if os.environ.get("FACE_MASK_SPARK_TESTS") != "1":
        return "starts Spark, which takes a minute: set FACE_MASK_SPARK_TESTS=1"
    try:
        import pyspark  # noqa: F401

        spark.check_java()
    except ImportError:
        return "pyspark is not installed: run `pip install -r requirements-spark.txt`"
    except UserError as error:
        return str(error)
    return ""


needs_spark = pytest.mark.skipif(bool(missing()), reason=missing())


def upside_down() -> bytes:
    """The scene, stored upside down, with the EXIF orientation that turns it."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 3
    live_workspace.scene().transpose(Image.Transpose.ROTATE_180).save(file, "JPEG", exif=exif, quality=92)
    return file.getvalue()


@cache
def detector() -> FaceMaskDetector:
    return FaceMaskDetector()


def expected(path: str, content: bytes | None, faces: api.Faces = "auto") -> list[dict]:
    """The rows of an image by the Python API."""
    try:
        found = detector().predict(content or b"", faces=faces)
    except api.BadImage as error:
        return [dict.fromkeys(arrow.COLUMNS) | {"path": path, "error": str(error)}]
    rows = []
    for number, face in enumerate(found, 1):
        left, top, right, bottom = face.box
        labels = face.prediction_set or ()
        box = (left, top, right - left, bottom - top)
        one = labels[0] if len(labels) == 1 else "both" if labels else "none"
        classes = (face.label, face.probability, face.with_mask, one, face.unsure)
        values = (path, len(found), number, *box, face.score, *classes, None)
        rows.append(dict(zip(arrow.COLUMNS, values, strict=True)))
    return rows or [dict.fromkeys(arrow.COLUMNS) | {"path": path, "faces": 0}]


def images() -> dict[str, bytes]:
    """Files by name, of which two cannot be decoded and the last is no image by its name."""
    scene = live_workspace.jpeg(live_workspace.scene())
    return {
        "a.jpg": scene,
        "b [1] {x}*.JPG": scene,  # characters of patterns
        "below/deep/é ü.jpeg": upside_down(),
        "no face.jpg": GREY,
        "cut.jpg": scene[:3000],
        "text.png": b"text",
        "notes.md": b"text",
    }


# What the workers run


def test_the_rows_are_those_of_the_python_api_in_one_row_per_face_or_one_that_says_why_there_is_none() -> None:
    contents = [content for name, content in images().items() if name != "notes.md"]
    contents += [b"", b"x" * (inputs.MAX_BYTES + 1)]
    for faces in ("auto", "whole"):
        batches = [pa.RecordBatch.from_pylist([{"path": str(i), "content": one}]) for i, one in enumerate(contents)]
        rows = [row for batch in arrow.predict_batches(batches, SENT, faces) for row in batch.to_pylist()]
        wanted = [row for i, one in enumerate(contents[:-1]) for row in expected(str(i), one, faces)]
        assert rows[:-1] == wanted
        assert (rows[-1]["path"], rows[-1]["error"]) == (str(len(contents) - 1), arrow.TOO_LARGE)
        reasons = [row["error"] for row in rows if row["error"]]
        assert len(reasons) == 4 and {"empty file", "not an image"} <= set(reasons)
    null = pa.record_batch({"path": ["a"], "content": pa.array([None], pa.binary())})
    ((row,),) = (batch.to_pylist() for batch in arrow.predict_batches([null], SENT, "auto"))
    assert (row["path"], row["faces"], row["error"]) == ("a", None, "no image")


def test_a_worker_loads_the_model_once() -> None:
    assert arrow.load(SENT) is arrow.load(SENT)
    assert arrow.load(SENT).config() == models.find().load().config()
    assert isinstance(arrow.load(SENT).calibration, conformal.Calibration)


# Errors before Spark starts


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "face_mask", "spark", *arguments], cwd=ROOT,
        env=scratch.environment() | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("version", [None, "1.8.0_412", "11.0.2"])
def test_without_java_17_the_error_names_the_package(
    version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if version:
        (tmp_path / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020' >&2\n")
        (tmp_path / "java").chmod(0o755)
    with pytest.raises(UserError, match=r"^Spark needs Java 17 .*`apt-get install openjdk-17-jre-headless`.*$"):
        spark.check_java()


def test_without_pyspark_the_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyspark'] = None; sys.argv = ['', 'spark', 'images', 'faces'];"
        " from face_mask import __main__; __main__.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=scratch.environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    remedy = "pyspark, of the extra `spark`, is not installed: run `pip install 'pyspark>=4.3,<5' pyarrow`"
    assert (done.returncode, done.stderr) == (1, f"spark: {remedy}\n")


def test_a_master_that_does_not_answer_or_is_not_valid_is_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for master in (f"spark://127.0.0.1:{port}", "spark://nowhere", f"spark://h:x,127.0.0.1:{port}"):
        with pytest.raises(UserError, match=r"^--master \S+ does not answer \(.+\): start it, or correct the address$"):
            spark.check_master(master)
    with pytest.raises(
        UserError, match=r"^--master nowhere://x is not a valid address: it begins with local, spark://"
    ):
        spark.check_master("nowhere://x")
    spark.check_master("local[2]")


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="--model yolo: use cnn, mobilenet, or models:/"):
        spark.find_model("yolo")
    with pytest.raises(UserError, match=r"there is no MLflow store mlflow.db here: set MLFLOW_TRACKING_URI"):
        spark.find_model("models:/face-mask@champion")
    assert not list(tmp_path.iterdir())


# On Spark


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    with spark.session("local[2]") as session:
        yield session


Run = Callable[..., tuple[int, list[dict]]]


@pytest.fixture
def run(started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in one session for all tests: the exit code, and the rows of the result.

    Java keeps the working directory in which it was started, so that all paths are absolute here.
    """

    @contextmanager
    def session(master: str | None = None) -> Iterator[Any]:
        yield started

    monkeypatch.setattr(spark, "session", session)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, output: str = "faces") -> tuple[int, list[dict]]:
        code = 0
        try:
            spark.predict(spark.parse([f"{tmp_path}/{arguments[0]}", *arguments[1:], f"{tmp_path}/{output}"]))
        except SystemExit as ended:
            code = int(ended.code or 0)
        assert not list(tmp_path.glob(f".{output}.*"))
        return code, pq.read_table(tmp_path / output).to_pylist()

    return run


def save(folder: Path) -> dict[str, bytes]:
    files = images()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


@needs_spark
def test_a_folder_has_every_image_once_with_the_rows_of_the_python_api(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = save(tmp_path / "a folder")
    unread = {"_c.jpg": spark.IGNORED, "_d/e.jpg": spark.IGNORED, "empty.jpg": "empty file", "a:b.jpg": spark.COLON}
    for name in unread:
        (tmp_path / "a folder" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a folder" / name).write_bytes(b"" if name == "empty.jpg" else GREY)
    (tmp_path / "a folder/.hidden.jpg").write_bytes(GREY)
    code, rows = run("a folder")
    wanted = {
        path: expected(path, files.get(name))
        for name in [*files, *unread]
        if not name.endswith(".md")
        for path in [f"file:{tmp_path}/a folder/{name}"]
    }
    for name, why in unread.items():
        wanted[f"file:{tmp_path}/a folder/{name}"][0]["error"] = why
    assert rows == [row for path in sorted(wanted) for row in wanted[path]]
    assert code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"spark: 9 faces in 10 images, 6 of which could not be read: {tmp_path}/faces"


@needs_spark
def test_every_file_is_listed_with_its_length_whatever_its_name(started: Any, tmp_path: Path) -> None:
    names = (
        "a.jpg",
        "b; isDirectory=true; c/[1]/d; isDirectory=false; length=7; e.jpg",
        "f/g\nh:i.jpg",
        "f/ü.txt",
        "_j",
    )
    for length, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(length))
    (tmp_path / "empty").mkdir()
    listed = {f"file:{tmp_path}/{name}": length for length, name in enumerate(names)}
    assert sorted(spark.files_below(started, str(tmp_path))) == sorted(listed.items())
    assert spark.files_below(started, f"{tmp_path}/a.jpg") == [(f"file:{tmp_path}/a.jpg", 0)]
    assert spark.files_below(started, f"{tmp_path}/empty") == []


@needs_spark
def test_a_list_and_parquet_have_the_same_rows_and_a_result_is_replaced_only_if_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = save(tmp_path / "images")
    names = ["a.jpg", "b [1] {x}*.JPG", "no face.jpg", "a.jpg"]
    missing = f"file:{tmp_path}/images/gone.jpg"
    lines = [*(f"{tmp_path}/images/{name}" for name in names), missing, f"file://{tmp_path}/images/cut.jpg", ""]
    lines.append(f"{tmp_path}/images/./a.jpg")  # again, by another name
    (tmp_path / "images/12:30.jpg").write_bytes(GREY)
    lines += [f"{tmp_path}/images", f"{tmp_path}/images/12:30.jpg", "12:30.jpg", "nowhere://x/a.jpg"]
    Path("paths.txt").write_text("\n".join(lines))
    code, listed = run("paths.txt", "--faces", "whole")
    wanted = {f"file:{tmp_path}/images/{name}": files[name] for name in [*names, "cut.jpg"]}
    assert [row for row in listed if row["path"] in wanted] == [
        row for path in sorted(wanted) for row in expected(path, wanted[path], "whole")
    ]
    assert code == 2 and {row["path"]: row["error"] for row in listed if row["path"] not in wanted} == {
        missing: "no such file",
        f"file:{tmp_path}/images": "a folder, not an image",
        f"file:{tmp_path}/images/12:30.jpg": spark.COLON,
        "12:30.jpg": spark.COLON,
        "nowhere://x/a.jpg": 'No FileSystem for scheme "nowhere"',
    }

    table = pa.table({"number": [1, 2, 3], "jpeg": [files["a.jpg"], None, GREY], "other": [b"", b"", b""]})
    pq.write_table(table, "images.parquet")
    with pytest.raises(UserError, match=r"^/\S+/faces exists: name another folder, or replace it with --overwrite$"):
        run("images.parquet")
    arguments = ["images.parquet", "--overwrite", "--image-column", "jpeg", "--path-column", "number"]
    failed = UserError("fails")
    with monkeypatch.context() as patch:
        patch.setattr(spark, "count", lambda *_: (_ for _ in ()).throw(failed))
        with pytest.raises(UserError, match="fails"):
            run(*arguments)
    assert pq.read_table("faces").to_pylist() == listed and not list(tmp_path.glob(".faces.*"))
    code, rows = run(*arguments)
    no_image = dict.fromkeys(arrow.COLUMNS) | {"path": "2", "error": "no image"}
    assert code == 2 and rows == [*expected("1", files["a.jpg"]), no_image, *expected("3", GREY)]

    for folder in ("nested/day=1", "nested/sub/day=2", "partitions/day=1", "partitions/day=2"):
        Path(folder).mkdir(parents=True)
        pq.write_table(pa.table({"path": [folder], "jpeg": [GREY]}), f"{folder}/a.parquet")
    for folder, found in (("nested", ["day=1", "sub/day=2"]), ("partitions", ["day=1", "day=2"])):
        _, rows = run(folder, "--overwrite")
        assert rows == [row for one in found for row in expected(f"{folder}/{one}", GREY)]
    assert [row["path"] for row in run("partitions", "--overwrite", "--path-column", "day")[1]] == ["1", "2"]


@needs_spark
def test_invalid_inputs_and_outputs_are_one_line_and_leave_nothing(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "images")
    (tmp_path / "empty").mkdir()
    Path("blank.txt").write_text("\n\n")
    Path("_list.txt").write_text("images/a.jpg\n")
    Path("damaged.parquet").write_bytes(b"PAR1 damaged PAR1")
    pq.write_table(pa.table({"path": ["a"], "a": [b"x"], "b": [b"y"]}), "two.parquet")
    for arguments, why in (
        (["gone"], "gone: no such file or folder"),
        (["empty"], "empty: a folder without images"),
        (["blank.txt"], "blank.txt names no images"),
        (["_list.txt"], f"_list.txt: {spark.IGNORED}: rename it"),
        (["damaged.parquet"], "Spark failed: .*damaged.parquet"),
        (["two.parquet"], "has 2 binary columns, .*: name one with --image-column"),
        (["two.parquet", "--image-column", "path"], "has no binary column path"),
        (["two.parquet", "--image-column", "a", "--path-column", "id"], "has no column id"),
    ):
        with pytest.raises(UserError, match=f"{why}[^\n]*$"):
            run(*arguments)
    for output, why in (("images", "is or contains INPUT"), ("", "is or contains INPUT"), ("empty", "not a result of")):
        with pytest.raises(UserError, match=why):
            run("images", "--overwrite", output=output)
    with pytest.raises(UserError, match=r'Spark failed: .*No FileSystem for scheme "nowhere"[^\n]*$'):
        spark.predict(spark.parse(["nowhere://x/images", f"{tmp_path}/faces"]))
    assert {path.name for path in tmp_path.iterdir()} == {
        "images", "empty", "blank.txt", "_list.txt", "damaged.parquet", "two.parquet"
    }  # fmt: skip


JAVA_ENDS = """
import psutil
from face_mask import errors, spark
def main():
    with spark.session("local[1]") as session, spark.one_line_errors():
        for one in psutil.Process().children(recursive=True):
            one.kill()
        session.range(3).count()
errors.run(main, "test")
"""


@needs_spark
def test_the_end_of_java_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", JAVA_ENDS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("test: Java has ended: its messages say why")


@needs_spark
def test_an_error_while_java_lives_is_not_ignored(started: Any) -> None:
    from py4j.protocol import Py4JJavaError

    with pytest.raises(Py4JJavaError, match="No FileSystem for scheme"), spark.if_java_lives():
        spark.locate(started, "nowhere://x/a.jpg")
    with spark.if_java_lives():
        raise ConnectionRefusedError


@needs_spark
def test_the_champion_of_the_registry_predicts_by_the_command_and_by_spark_udf(
    run: Run, started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from pyspark.sql import functions as f

    from pipeline.registry import model_registry

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("tests", artifact_location=(tmp_path / "artifacts").as_uri())
    found = models.packaged()
    classifier = found.load()
    model_registry.ensure(client, "face-mask")
    trained = model_registry.Trained(found.path, classifier, "weights", "validation", 0.99)
    version = model_registry.add(client, "face-mask", trained, experiment_id=experiment, run_id=None, tags={})
    model_registry.set_champion(client, "face-mask", version)

    files = save(tmp_path / "images")
    champion = "models:/face-mask@champion"
    code, rows = run("images/a.jpg", "--model", champion)
    image = arrow.to_rows(f"file:{tmp_path}/images/a.jpg", files["a.jpg"], classifier, "auto")
    assert (code, rows) == (0, [dict.fromkeys(arrow.COLUMNS) | row for row in image])
    with pytest.raises(UserError, match=r"^models:/face-mask@other is not available: [^\n]+$"):
        run("images/a.jpg", "--model", "models:/face-mask@other", output="other")

    udf = mlflow.pyfunc.spark_udf(started, champion, env_manager="local", params={"faces": "auto"})
    contents = [files["a.jpg"], GREY, files["cut.jpg"]]
    table = started.createDataFrame([(bytearray(one),) for one in contents], "content binary")
    answers = [row[0].asDict() for row in table.select(udf(f.base64("content"))).collect()]
    for answer, content in zip(answers, contents, strict=True):
        assert answer == encoded.classify_row(base64.b64encode(content).decode(), classifier, "auto")


@needs_spark
def test_the_command_itself_with_one_missing_input(tmp_path: Path) -> None:
    done = command("--master", "local[1]", str(tmp_path / "gone"), str(tmp_path / "faces"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"spark: {tmp_path}/gone: no such file or folder"
    assert shutil.which("java") and not list(tmp_path.iterdir())
