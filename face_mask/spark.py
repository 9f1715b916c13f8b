"""Detect and classify the faces of many images on Apache Spark, and write a Parquet row for each face.

    face-mask spark images/ faces.parquet
    face-mask spark --master spark://head:7077 s3a://bucket/images.parquet s3a://bucket/faces.parquet
    face-mask spark --model models:/face-mask@champion hdfs:///paths.txt hdfs:///faces.parquet

INPUT is a folder of images, searched recursively; a Parquet file or folder with the bytes of image files in a binary
column; or a text file with the path of an image on each line. It and OUTPUT, a new folder, may be on any file system
that Spark reads. Videos are left out.

Every image has a row in OUTPUT: one for each face, one with `faces` = 0, or one with the reason why it could not be
read in `error`; docs/spark.md lists the columns. OUTPUT appears as a whole when everything is written, or not at all.
Exit code: 0 if every image was read, 2 if some could not be read, 1 if none could or the command is invalid.

Takes the model that `face-mask predict` takes, or with --model models:/… a version of MLflow's model registry, at
MLFLOW_TRACKING_URI. Needs the extra `spark` here and on all workers, and Java 17 or later.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face_mask import arrow, errors, inputs, models
from face_mask.arrow import SentModel
from face_mask.classifier import FaceClassifier
from face_mask.errors import Parser, UserError, printable
from face_mask.schema import IMAGE_SUFFIXES, MODELS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SOME_UNREADABLE = 2
MASTERS = ("local", "spark://", "yarn", "k8s://")
JAVA = 17  # the oldest version that Spark 4 runs on
# An Arrow batch is in memory as a whole, in Spark and in Python. It ends at either limit.
BATCH_IMAGES, BATCH_BYTES = 64, 32 << 20
# What a file counts beside its bytes when Spark fills the 128 MB of a task. By default it is 4 MB: tasks of 32 images,
# which take half a second, and a sixth of a second more each. 1 MB makes them up to four times as large.
OPEN_COST = "spark.sql.files.openCostInBytes"
# Into how many tasks Spark divides a list of paths to look them up. By default it is 10,000: nearly one for each path.
LISTING_TASKS = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
IGNORED = "Spark ignores files and folders whose names begin with _ or ."
COLON = "Spark does not read files whose names have a colon"
UNREADABLE = "the file system did not deliver the file"
# A pattern of Spark, in which case matters: {*.[jJ][pP][gG],…}
NAMES = ",".join("*." + "".join(f"[{c}{c.upper()}]" for c in suffix[1:]) for suffix in sorted(IMAGE_SUFFIXES))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("face-mask spark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder of images, Parquet file or folder, or text file with paths")
    add("output", metavar="OUTPUT", help="folder for the Parquet files with the faces")
    add("--master", metavar="URL", help="such as spark://HOST:7077; default: local[*], or that of spark-submit")
    add("--model", metavar="NAME|URI", help="cnn, mobilenet or models:/…; default: as `face-mask predict`")
    add("--models", type=Path, metavar="DIR", help="folder of the models; default: as `face-mask predict`")
    add(
        "--faces", choices=("auto", "whole"), default="auto",
        help="auto detects faces and classifies each (default); whole classifies each whole image as one face",
    )  # fmt: skip
    add("--image-column", metavar="NAME", help="of Parquet input: image files; default: its only binary column")
    add("--path-column", metavar="NAME", default="path", help="of Parquet input: names of images; default: path")
    add("--overwrite", action="store_true", help="replace an OUTPUT that this command has written")
    return parser.parse_args(arguments)


def faces_of(images: DataFrame, model: SentModel, faces: str = "auto") -> DataFrame:
    """The faces of the images in a DataFrame with the columns path and content, as arrow.COLUMNS; lazy."""

    def to_faces(batches):
        return arrow.predict_batches(batches, model, faces)

    return images.select("path", "content").mapInArrow(to_faces, arrow.DDL)


def find_model(name: str | None = None, folder: Path | None = None) -> tuple[SentModel, str]:
    """The model to send to the workers, and a line that says which it is. Raises UserError if there is none."""
    if name and ":/" in name:
        return registered(name), name
    if name not in (None, *MODELS):
        raise UserError(f"--model {name}: use {', '.join(MODELS)}, or models:/NAME@ALIAS of MLflow's registry")
    model = models.find(name, folder=folder)
    return SentModel.read(model.path, model.load()), str(model)


def registered(uri: str) -> SentModel:
    """A version of MLflow's registry that the stage `register` added. Raises UserError if there is none."""
    for variable in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(variable, "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("mlflow.db").is_file():
        raise UserError(f"{uri}: there is no MLflow store mlflow.db here: set MLFLOW_TRACKING_URI")
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model
    except ImportError:
        raise UserError(f"{uri} needs MLflow: run `pip install mlflow`") from None
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise UserError(f"{uri} is not available: {next(iter(str(error).splitlines()), '')}") from None
        function = Model.load(str(path)).flavors.get("python_function", {})
        file, config = (function.get("artifacts") or {}).get("litert"), function.get("config")
        if not file or not config:
            raise UserError(f"{uri} has no LiteRT file: use a version that `dvc repro register` added")
        return SentModel.read(path / file["path"], FaceClassifier.load(path / file["path"], **config))


def check_java() -> None:
    """Raise UserError unless there is a Java that Spark runs on."""
    home = os.environ.get("JAVA_HOME")
    command = str(Path(home) / "bin/java") if home else shutil.which("java")
    remedy = "run `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
    try:
        if command is None:
            raise FileNotFoundError
        text = subprocess.run([command, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        raise UserError(f"Spark needs Java {JAVA} or later, which is not installed: {remedy}") from None
    version = re.search(r'version "(\d+)', text)
    if version and int(version[1]) < JAVA:
        raise UserError(f"Spark needs Java {JAVA} or later, and {command} is version {version[1]}: {remedy}")


def check_master(master: str, option: str = "--master ") -> None:
    """Raise UserError unless an address is of a kind that Spark knows, and a standalone master answers there.

    Spark itself would try to connect for a minute. There may be several: spark://HOST:PORT,HOST:PORT. Messages have
    `option` before the address.
    """
    if not master.startswith(MASTERS):
        raise UserError(f"{option}{master} is not a valid address: it begins with {', '.join(MASTERS)}")
    if not master.startswith("spark://"):
        return
    reason: object = "not spark://HOST:PORT"
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except (OSError, ValueError, OverflowError) as error:
            reason = error if isinstance(error, OSError) else reason
    raise UserError(f"{option}{master} does not answer ({reason}): start it, or correct the address")


@contextmanager
def session(
    master: str | None = None, option: str = "--master ", name: str = "face-mask spark"
) -> Iterator[SparkSession]:
    """A Spark session, stopped at the end. Raises UserError if Spark, Java or the master is missing.

    `option` is what messages have before the master's address, `name` what Spark's own pages show.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # by spark-submit, which has started Java and knows the master
    master = master or (None if submitted else "local[*]")
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # of which nothing is used here
    try:
        import pyarrow  # noqa: F401
        from pyspark.sql import SparkSession
    except ImportError as error:
        package = str(error.name).partition(".")[0]
        raise UserError(
            f"{package}, of the extra `spark`, is not installed: run `pip install 'pyspark>=4.3,<5' pyarrow`"
        ) from None
    if not submitted:
        check_java()
    # If Java has ended, py4j prints a traceback before it raises an error, and Spark's end a warning.
    logging.getLogger().addFilter(lambda record: record.msg != "Exception while sending command.")
    warnings.filterwarnings("ignore", "Unable to cleanly shutdown Spark JVM")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    if master:
        check_master(master, option)
        builder = builder.master(master)
    with tempfile.TemporaryDirectory() as folder:
        builder = builder.config("spark.sql.warehouse.dir", folder)  # by default a folder in the working directory
        if master and master.startswith("local"):
            # Local mode needs no network; its web page would be open to it.
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            builder = builder.config("spark.ui.enabled", "false").config("spark.log.level", "FATAL")
        builder = builder.config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        with one_line_errors():
            spark = builder.getOrCreate()
            spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH_IMAGES))
            spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(BATCH_BYTES))
            chosen = spark.sparkContext.getConf()
            for option, value in ((OPEN_COST, 1 << 20), (LISTING_TASKS, 4 * spark.sparkContext.defaultParallelism)):
                if not chosen.contains(option):
                    spark.conf.set(option, str(value))
        try:
            yield spark
        finally:
            with if_java_lives():
                spark.stop()


@contextmanager
def if_java_lives() -> Iterator[None]:
    """Ignore an error that comes from the end of Java, which has ended what it would be asked to end."""
    from py4j.protocol import Py4JError

    try:
        yield
    except (Py4JError, OSError) as error:
        if not java_has_ended(error):
            raise


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what Spark reports about files, columns, masters and workers into a UserError; a bug is none."""
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark.errors import PySparkException, PySparkRuntimeError, PythonException

    try:
        yield
    except PythonException as error:  # raised by Python code on a worker
        if missing := re.search(r"ModuleNotFoundError: (No module named \S+)", str(error)):
            if missing[1].startswith("No module named 'pipeline"):
                raise UserError(
                    "a worker cannot see the repository: mount it at the same path on all workers, its environment too"
                ) from None
            raise UserError(
                f"a worker has {missing[1].lower()}: install face-mask[spark] there, in this version, or set"
                " PYSPARK_PYTHON to the Python that has it"
            ) from None
        if reported := re.search(r"UserError: (.+)|^\w+: (\[Errno \d+\] .+)", str(error), re.MULTILINE):
            raise UserError(f"a worker failed: {reported[1] or reported[2]}") from None
        raise
    except Py4JJavaError as error:
        raise failure(error.java_exception.toString()) from None
    except (Py4JError, ConnectionError) as error:
        if not java_has_ended(error):
            raise
        raise UserError("Java has ended: its messages say why; if it lacked memory, set spark.driver.memory") from None
    except PySparkRuntimeError as error:
        raise UserError(f"Spark did not start: {first_line(str(error))}") from None
    except PySparkException as error:
        raise failure(str(error)) from None


def java_has_ended(error: Exception) -> bool:
    """Whether an error of py4j comes from the end of the Java that it talks to."""
    from py4j.protocol import Py4JJavaError, Py4JNetworkError
    from pyspark import SparkContext

    if isinstance(error, Py4JNetworkError | ConnectionError):
        return True
    if isinstance(error, Py4JJavaError):  # an answer of Java
        return False
    process = getattr(SparkContext._gateway, "proc", None)
    with suppress(subprocess.TimeoutExpired):
        return process is not None and process.wait(timeout=5) is not None
    return False


def failure(text: str) -> UserError:
    """The error for a message of Spark."""
    if "Python worker exited unexpectedly" in text:
        return UserError(
            "a worker's Python was killed, most likely because the memory ran out: give workers more of it"
        )
    return UserError(f"Spark failed: {first_line(text)}")


def first_line(text: str) -> str:
    """The first line of a message, at most 300 characters, without the class of the exception."""
    line = next(iter(text.strip().splitlines()), "unknown error")
    return re.sub(r"^([a-z]\w*[.])+\w+: ", "", line)[:300]


# Files, by the file systems of Hadoop that Spark uses


def locate(spark: Any, text: str) -> tuple[Any, Any]:
    """The file system of a path or an address, and its absolute Path: org.apache.hadoop.fs."""
    jvm, context = spark._jvm, spark.sparkContext
    path = jvm.org.apache.hadoop.fs.Path(text)
    system = path.getFileSystem(context._jsc.hadoopConfiguration())
    return system, system.makeQualified(path)


def files_below(spark: SparkSession, text: str) -> list[tuple[str, int]]:
    """Path and length in bytes of a file, or of every file below a folder. Raises UserError if it is missing."""
    system, path = locate(spark, text)
    if not system.exists(path):
        raise UserError(f"{text}: no such file or folder")
    util = spark._jvm.org.apache.hadoop.util
    found, folders = [], [path]
    while folders:
        # Not listFiles: on a local disk it starts `ls` for each file. And a call of Java for each would take a third of
        # a millisecond, so a folder's come as one text, joined by NUL, which is in no path.
        statuses = util.functional.RemoteIterators.toList(system.listStatusIterator(folders.pop()))
        texts = util.StringUtils.join("\0", statuses).split("\0") if len(statuses) else []
        for name, is_folder, length in map(described, texts):
            if is_folder:
                folders.append(locate(spark, name)[1])
            else:
                found.append((name, length))
    return found


def described(status: str) -> tuple[str, bool, int]:
    """Path, whether it is a folder, and length in bytes, from the text of an org.apache.hadoop.fs.FileStatus.

    A path may have any characters, but nothing after it looks like what is searched for.
    """
    found = re.search(r"\{path=(.*); isDirectory=(true|false);(?: length=(\d+);)?", status, re.DOTALL)
    assert found, status
    return found[1], found[2] == "true", int(found[3] or 0)


def literally(path: str) -> str:
    """A path in which Spark takes no character as a pattern."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", path)


@dataclass(frozen=True)
class Images:
    """Images to predict, and those that Spark may not deliver."""

    rows: DataFrame  # path, content
    expected: dict[str, str]  # the path of every image, with the reason if `rows` turns out to lack it


def find_images(spark: SparkSession, args: argparse.Namespace) -> Images:
    """The images of INPUT. Raises UserError if it is missing or has none."""
    files = files_below(spark, args.input)
    suffixes = {path: Path(path).suffix.lower() for path, _ in files}
    system, root = locate(spark, args.input)
    is_folder = system.getFileStatus(root).isDirectory()
    if not is_folder and suffixes[files[0][0]] in IMAGE_SUFFIXES:
        return from_paths(spark, [args.input])
    if not is_folder and root.getName().startswith(("_", ".")):
        raise UserError(f"{args.input}: {IGNORED}: rename it")
    if not is_folder and suffixes[files[0][0]] != ".parquet":
        lines = (row.value.strip() for row in spark.read.text(literally(args.input)).collect())
        paths = list(dict.fromkeys(line for line in lines if line))
        if not paths:
            raise UserError(f"{args.input} names no images: write a path on each line")
        return from_paths(spark, paths)
    prefix = root.toString().rstrip("/") + "/"
    shown = [(path, length) for path, length in files if "/." not in f"/{path.removeprefix(prefix)}"]
    has_parquet = any(suffixes[path] == ".parquet" for path, _ in shown)
    images = {path: length for path, length in shown if suffixes[path] in IMAGE_SUFFIXES}
    if has_parquet and images:
        raise UserError(f"{args.input} has both images and Parquet files: name a folder that has one of them")
    if has_parquet:
        # By itself, Spark reads a subfolder only if it is a partition, such as day=1.
        folders = [path.removeprefix(prefix).split("/")[:-1] for path, _ in shown if suffixes[path] == ".parquet"]
        recursive = is_folder and any("=" not in part for parts in folders for part in parts)
        return Images(from_parquet(spark, args, recursive), {})
    if not images:
        raise UserError(f"{args.input}: a folder without images")
    expected = {path: reason(path.removeprefix(prefix), length) for path, length in images.items()}
    reader = binary_files(spark).option("recursiveFileLookup", True).option("pathGlobFilter", f"{{{NAMES}}}")
    return Images(readable(reader.load(literally(args.input))), expected)


def from_paths(spark: SparkSession, paths: Iterable[str]) -> Images:
    """The images at these paths."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    to_path, configuration = spark._jvm.org.apache.hadoop.fs.Path, spark.sparkContext._jsc.hadoopConfiguration()
    expected: dict[str, str] = {}
    present = []
    for text in paths:  # with few calls of Java, see files_below
        try:
            path = to_path(text)
            system = path.getFileSystem(configuration)
        except (Py4JJavaError, PySparkException) as error:  # it is no address, or of a file system that Spark lacks
            why = first_line(error.java_exception.toString() if isinstance(error, Py4JJavaError) else str(error))
            expected[text] = COLON if "Relative path in absolute URI" in why else why
            continue
        try:
            name, is_folder, length = described(system.getFileStatus(path).toString())
        except Py4JJavaError as error:
            if error.java_exception.getClass().getSimpleName() != "FileNotFoundException":
                raise
            expected[system.makeQualified(path).toString()] = "no such file"
            continue
        if name in expected:  # as `a.jpg` and `./a.jpg` are: Spark would read it twice
            continue
        expected[name] = "a folder, not an image" if is_folder else reason(name.rpartition("/")[2], length)
        if not is_folder and expected[name] != COLON:
            present.append(literally(name))
    if not present:  # Spark wants at least one
        return Images(spark.createDataFrame([], "path string, content binary"), expected)
    return Images(readable(binary_files(spark).load(present)), expected)


def from_parquet(spark: SparkSession, args: argparse.Namespace, recursive: bool) -> DataFrame:
    """The rows of a Parquet file or folder. Raises UserError if a column is missing."""
    from pyspark.sql import functions as f

    table = spark.read.option("recursiveFileLookup", recursive).parquet(literally(args.input))
    kinds = dict(table.dtypes)
    binary = [name for name, kind in kinds.items() if kind == "binary"]
    column = args.image_column or (binary[0] if len(binary) == 1 else None)
    columns = f"its columns are {', '.join(f'{name} ({kind})' for name, kind in kinds.items())}"
    if column is None:
        raise UserError(f"{args.input} has {len(binary)} binary columns, {columns}: name one with --image-column")
    if column not in binary:
        raise UserError(f"{args.input} has no binary column {column}, {columns}: name another with --image-column")
    if args.path_column not in kinds:
        raise UserError(f"{args.input} has no column {args.path_column}, {columns}: name one with --path-column")
    path = f.col(f"`{args.path_column}`").cast("string").alias("path")
    rows = table.select(path, f.col(f"`{column}`").alias("content"))
    cores = spark.sparkContext.defaultParallelism
    return rows if rows.rdd.getNumPartitions() >= cores else rows.repartition(4 * cores)  # a small file is one


def binary_files(spark: SparkSession) -> Any:
    """Spark's reader of whole files. A file that cannot be read, or is removed meanwhile, is left out."""
    return spark.read.format("binaryFile").option("ignoreMissingFiles", True).option("ignoreCorruptFiles", True)


def readable(rows: DataFrame) -> DataFrame:
    """The files that are not too large to be an image; of the others Spark does not read the content."""
    return rows.where(rows.length <= inputs.MAX_BYTES).select("path", "content")


def reason(name: str, length: int) -> str:
    """Why Spark would not deliver a file; `name` is its path below the folder that is read."""
    if any(part.startswith(("_", ".")) for part in name.split("/")):
        return IGNORED
    if ":" in name:
        return COLON
    return "empty file" if not length else arrow.TOO_LARGE if length > inputs.MAX_BYTES else UNREADABLE


# The result


@contextmanager
def replacing(spark: SparkSession, output: str, overwrite: bool) -> Iterator[str]:
    """Yield the address of a new folder, whose subfolder `result` becomes `output` on success.

    The new folder is beside `output`, and is removed at the end.
    """
    system, path = locate(spark, output)
    parent = path.getParent()
    if parent is None:
        raise UserError(f"{output} is not a valid OUTPUT: name a new folder")
    work = locate(spark, f"{parent.toString()}/.{path.getName()}.{uuid.uuid4().hex[:8]}")[1]
    former = work.suffix("/former")
    check_output(system, path, output, overwrite)
    try:
        yield work.toString()
        check_output(system, path, output, overwrite)
        # A rename onto a folder would move into it.
        moved = not system.exists(path) or system.rename(path, former)
        if not moved or not system.rename(work.suffix("/result"), path):
            raise UserError(f"{output} cannot be written: check the permissions of its folder")
    finally:
        with if_java_lives():
            if system.exists(former) and not system.exists(path):  # after an error or Ctrl-C between the renames
                system.rename(former, path)
            system.delete(work, True)


def check_output(system: Any, path: Any, output: str, overwrite: bool) -> None:
    """Raise UserError if OUTPUT exists and may not be replaced."""
    if not system.exists(path):
        return
    if not overwrite:
        raise UserError(f"{output} exists: name another folder, or replace it with --overwrite")
    if not system.exists(path.suffix("/_SUCCESS")):
        raise UserError(f"{output} is not a result of Spark, which has a file _SUCCESS: remove it, or name another")


def write(spark: SparkSession, images: Images, model: SentModel, faces: str, work: str) -> None:
    """Predict, and write all rows, sorted by path and face, to the subfolder `result` of `work`.

    Each task's rows are committed once, whatever is lost or repeated; then those of the images that Spark did not
    deliver are added.
    """
    from pyspark.sql import functions as f

    faces_of(images.rows, model, faces).write.parquet(f"{work}/parts")
    rows = spark.read.schema(arrow.DDL).parquet(f"{work}/parts")
    if images.expected:
        expected = spark.createDataFrame(list(images.expected.items()), "path string, error string")
        missing = expected.join(rows.select("path").distinct(), "path", "left_anti")
        rows = rows.unionByName(missing, allowMissingColumns=True)
    rows.orderBy(f.col("path"), f.col("face")).write.parquet(f"{work}/result")


def count(spark: SparkSession, work: str) -> tuple[int, int, int]:
    """Number of images, of those that could not be read, and of faces in the result."""
    from pyspark.sql import functions as f

    rows = spark.read.parquet(f"{work}/result")
    first = f.coalesce(rows.face, f.lit(1)) == 1
    counts = rows.select(f.count_if(first), f.count("error"), f.count("face")).first()
    assert counts
    return int(counts[0]), int(counts[1]), int(counts[2])


def predict(args: argparse.Namespace) -> None:
    """Predict all images and write the result; exit with 2 if some could not be read."""
    model, origin = find_model(args.model, args.models)
    with session(args.master) as spark, one_line_errors():
        check_apart(spark, args.input, args.output)
        with replacing(spark, args.output, args.overwrite) as work:
            images = find_images(spark, args)
            print(f"spark: {printable(origin)}", file=sys.stderr, flush=True)
            write(spark, images, model, args.faces, work)
            n, unreadable, faces = count(spark, work)
    where = printable(args.output)
    print(f"spark: {faces} faces in {n} images, {unreadable} of which could not be read: {where}", file=sys.stderr)
    if n and unreadable == n:
        raise UserError(f"none of the images could be read: the column error of {where} says why")
    if unreadable:
        sys.exit(SOME_UNREADABLE)


def check_apart(spark: SparkSession, source: str, output: str) -> None:
    """Raise UserError if OUTPUT is INPUT or contains it: it would be replaced by the result."""
    first, second = (locate(spark, text)[1].toString().rstrip("/") + "/" for text in (source, output))
    if first.startswith(second):
        raise UserError(f"{output} is or contains INPUT: name another folder")


def main() -> None:
    predict(parse())


if __name__ == "__main__":
    errors.run(main)
