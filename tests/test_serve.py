"""Versions and the champion in MLflow's registry, and the answers of MLflow's real server."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from face_mask import conformal, decoding, detector, litert
from face_mask.classifier import FaceClassifier
from face_mask.errors import UserError
from pipeline import register
from pipeline.registry import packaging
from pipeline.synthetic.faces import draw_image
from pipeline.tracking import stage_runs, values
from tests import conftest
from tests.litert_models import CALIBRATION
from tools import graph, scratch, serve

REPOSITORY = Path(__file__).parent.parent
SIZE = 32
ACCURACY = {"cnn": 0.975, "mobilenet": 0.99}
OUTSIDE = """
import sys, json
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
example = model.input_example
answer = model.predict(example, params={"faces": "auto"})
(package,) = [name for name in sys.modules if name.startswith("face_mask") and "." not in name]
loaded = [name for name in ("pipeline", "tensorflow") if name in sys.modules]
print(json.dumps([answer.to_dict("records"), package, sys.modules[package].__file__, loaded]))
"""


migrated = conftest.migrated  # the fault tests take these fixtures from here


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """LiteRT files of two real, tiny models: P(with_mask) grows with red and falls with blue."""
    folder = tmp_path_factory.mktemp("exported")
    for name, slope in (("cnn", 3.0), ("mobilenet", 9.0)):
        litert.path_of(name, folder=folder).write_bytes(conformal.append(redness(slope), CALIBRATION))
    return folder


def redness(slope: float) -> bytes:
    """A LiteRT file: softmax of the logits 0 and `slope` times the mean of red minus that of blue, each 0…1."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2 as freeze

    @tf.function
    def predict(images):
        weights = tf.constant([[0, slope / 255], [0, 0], [0, -slope / 255]], tf.float32)
        return tf.nn.softmax(tf.reduce_mean(images, (1, 2)) @ weights)

    frozen = freeze(predict.get_concrete_function(tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32)))
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()


def workspace(folder: Path, exported: Path) -> Path:
    """A workspace before the stage `register`."""
    for name in ("models/exported", "metrics", "data/split"):
        (folder / name).mkdir(parents=True)
    shutil.copy("params.yaml", folder)
    scratch.set_params(folder, {"image_size": SIZE})
    (folder / "dvc.yaml").write_text("stages: {}\n")
    for name in ACCURACY:
        shutil.copy(litert.path_of(name, folder=exported), folder / "models/exported")
        train(folder, name)
    rows = "".join(
        f"{i}.jpg,with_mask,{split},{i},hash{i}\n" for i, split in enumerate(("train", "val", "val", "test"))
    )
    (folder / "data/split/manifest.csv").write_text(f"path,label,split,row,content_hash\n{rows}")
    return folder


def train(folder: Path, name: str, accuracy: float | None = None, weights: str = "weights of") -> None:
    """Write what a training and its evaluation write, except for the exported file."""
    (folder / f"models/{name}.weights.h5").write_text(f"{weights} {name}")
    (folder / f"metrics/{name}.json").write_text(json.dumps({"val": {"accuracy": accuracy or ACCURACY[name]}}))


@pytest.fixture
def repo(tmp_path: Path, exported: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an empty store, the working directory in it."""
    folder = workspace(tmp_path / "a repo", exported)
    shutil.copy(migrated, folder / "mlflow.db")
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    # Set, so that it is restored afterwards: MLflow writes its address there for its child processes.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setattr(sys, "argv", ["register"])
    monkeypatch.chdir(folder)
    return folder


def verdict(capsys: pytest.CaptureFixture) -> str:
    """Run the stage: the reason that it prints."""
    register.main()
    return capsys.readouterr().out.splitlines()[-1].removeprefix("register: ").rpartition(";")[0]


def client(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def versions(folder: Path) -> dict[int, Any]:
    return {int(one.version): one for one in client(folder).search_model_versions("name = 'face-mask'")}


def champion(folder: Path) -> int | None:
    found = client(folder).get_registered_model("face-mask").aliases.get("champion")
    return found and int(found)


def test_both_models_are_registered_once_and_the_better_is_champion(repo, capsys):
    digest = values.weights_digest("models/mobilenet.weights.h5")
    stage_runs.log_training("mobilenet", params={}, history=[], metrics={}, digest=digest, started=time.time())
    assert "version 2 (mobilenet, validation accuracy 99.00%) becomes champion" in verdict(capsys)
    cnn, mobilenet = versions(repo)[1], versions(repo)[2]
    assert champion(repo) == 2
    assert (cnn.tags["model"], cnn.tags["val.accuracy"]) == ("cnn", "0.975")
    assert (mobilenet.tags["model"], mobilenet.tags["model.digest"]) == ("mobilenet", digest)
    assert mobilenet.tags["dvc.experiment"].startswith("workspace-")
    assert "becomes champion, not version 1 (cnn" in cnn.tags["champion.rule"] == mobilenet.tags["champion.rule"]
    assert client(repo).get_run(mobilenet.run_id).data.tags["model.digest"] == digest
    assert mobilenet.description == "mobilenet, validation accuracy 99.00%"
    logged = client(repo).get_logged_model(mobilenet.source.removeprefix("models:/")).tags
    assert json.loads(logged["mlflow.modelVersions"]) == [{"name": "face-mask", "version": 2}]
    assert logged["mlflow.note.content"] == mobilenet.description

    before = {number: one.tags for number, one in versions(repo).items()}
    assert (
        verdict(capsys)
        == "version 2 (mobilenet, validation accuracy 99.00%) stays champion: no better model was trained"
    )
    assert {number: one.tags for number, one in versions(repo).items()} == before


def test_a_worse_training_is_registered_and_not_promoted_and_a_better_one_is(repo, capsys):
    register.main()
    train(repo, "mobilenet", 0.985, "worse weights of")
    assert "version 3 (mobilenet, validation accuracy 98.50%) is not better" in verdict(capsys)
    assert champion(repo) == 2
    assert "not better" in versions(repo)[3].tags["champion.rule"]
    train(repo, "cnn", 0.995, "better weights of")
    assert "version 4 (cnn, validation accuracy 99.50%) becomes champion" in verdict(capsys)
    assert champion(repo) == 4
    assert "version 4" in versions(repo)[2].tags["champion.rule"]  # the previous champion is tagged with its successor
    train(repo, "mobilenet")  # back to the first, which is registered already
    assert "stays champion" in verdict(capsys)
    assert sorted(versions(repo)) == [1, 2, 3, 4]


def test_no_model_below_the_minimum_becomes_champion(repo, capsys):
    scratch.set_params(repo, {"registry.min_val_accuracy": 0.999})
    assert verdict(capsys).startswith("there is no champion: version 2 (mobilenet")
    assert champion(repo) is None
    assert sorted(versions(repo)) == [1, 2]
    with pytest.raises(UserError, match=r"has no champion .*run `python -m pipeline\.register`"):
        serve.main()


def test_serving_in_a_fresh_clone_names_the_command_that_trains_and_registers(repo):
    shutil.rmtree(repo / "models")
    with pytest.raises(UserError, match=r"has no champion .*run `dvc repro register`"):
        serve.main()


def test_a_deleted_champion_is_succeeded_by_the_better_model(repo, capsys):
    register.main()
    client(repo).delete_model_version("face-mask", "2")
    assert champion(repo) is None
    assert "version 3 (mobilenet, validation accuracy 99.00%) becomes champion" in verdict(capsys)
    client(repo).delete_registered_model_alias("face-mask", "champion")
    assert "version 3 (mobilenet, validation accuracy 99.00%) becomes champion" in verdict(capsys)
    assert champion(repo) == 3
    client(repo).delete_registered_model("face-mask")
    assert "becomes champion" in verdict(capsys)
    assert sorted(versions(repo)) == [1, 2]


def test_other_validation_images_promote_no_model_unless_the_champion_is_ignored(repo, capsys, monkeypatch):
    register.main()
    manifest = repo / "data/split/manifest.csv"
    manifest.write_text(manifest.read_text().replace("hash2", "another"))
    train(repo, "cnn", 1.0, "lucky weights of")
    assert "was validated on other images" in verdict(capsys)
    assert champion(repo) == 2
    monkeypatch.setattr(sys, "argv", ["register", "--ignore-champion"])
    assert "chosen without regard to" in verdict(capsys)
    assert champion(repo) == 3


def test_other_settings_create_another_version_of_the_same_weights(repo, capsys):
    register.main()
    scratch.set_params(repo, {"evaluate.threshold": 0.6})
    assert "version 4 (mobilenet, validation accuracy 99.00%) becomes champion: the weights of version 2" in verdict(
        capsys
    )
    assert champion(repo) == 4


def test_a_champion_registered_by_other_means_stays(repo, capsys):
    client(repo).create_registered_model("face-mask")
    client(repo).create_model_version("face-mask", str(repo / "models"))
    client(repo).set_registered_model_alias("face-mask", "champion", "1")
    assert verdict(capsys).startswith("version 1 (unknown model, validation accuracy unknown) stays champion")
    assert sorted(versions(repo)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("models/exported/cnn.float32.tflite", "dvc repro register"),
        ("models/mobilenet.weights.h5", "dvc repro register"),
        ("metrics/cnn.json", "dvc repro register"),
        ("data/split/manifest.csv", "dvc repro split"),
    ],
)
def test_a_missing_file_is_named_and_nothing_is_registered(repo, missing, remedy):
    (repo / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is missing.*{remedy}"):
        register.main()
    assert versions(repo) == {}


def test_a_model_file_for_another_image_size_is_refused(repo):
    scratch.set_params(repo, {"image_size": 64})
    with pytest.raises(UserError, match=r"cnn\.float32\.tflite does not take images of image_size = 64"):
        register.main()
    (repo / "models/exported/cnn.float32.tflite").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"models/exported/cnn\.float32\.tflite is damaged"):
        register.main()
    assert versions(repo) == {}


def test_metrics_of_earlier_weights_are_refused(repo):
    lock = {"deps": [{"path": "models/cnn.weights.h5", "md5": "of before"}], "outs": [{"path": "metrics/cnn.json"}]}
    (repo / "dvc.lock").write_text(json.dumps({"stages": {"evaluate": lock}}))
    with pytest.raises(UserError, match=r"metrics/cnn\.json belongs to an earlier training of cnn: run `dvc repro reg"):
        register.main()


def python(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    """A Python process in a folder, with the project on its path."""
    environment = scratch.environment() | {"PYTHONPATH": str(REPOSITORY)} | variables
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


def test_an_unreachable_store_ends_the_stage_with_one_line(repo):
    stage = python(repo, "-m", "pipeline.register", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    out, err = stage.communicate(timeout=60)
    assert (stage.returncode, out) == (1, "")
    assert err.startswith("register: MLFLOW_TRACKING_URI=http://127.0.0.1:9: no answer") and err.count("\n") == 1


def test_two_processes_at_once_register_each_model_once(repo):
    both = [python(repo, "-m", "pipeline.register") for _ in range(2)]
    outputs = [stage.communicate(timeout=120) for stage in both]
    assert [(stage.returncode, err) for stage, (_, err) in zip(both, outputs, strict=True)] == [(0, "")] * 2
    assert sorted(versions(repo)) == [1, 2]
    assert sum("is new" in line for out, _ in outputs for line in out.splitlines()) == 2


def test_a_version_carries_the_modules_that_it_imports_and_no_others(repo, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    imported = graph.imported_files(Path("pipeline/registry/pyfunc_model.py"))
    assert {f"face_mask/{module}.py" for module in packaging.CODE} == imported - {"pipeline/registry/pyfunc_model.py"}
    names = {name.partition(".")[0] for path in imported for name in graph.imported_names(Path(path))}
    names -= {"face_mask", *sys.stdlib_module_names}
    # packaging.code_copy renames face_mask in `from face_mask import …` only.
    assert not [path for path in imported if re.search(r"(?m)^ *import face_mask", Path(path).read_text())]
    packages = (*packaging.PACKAGES, *packaging.DETECTOR_PACKAGES)
    provides = {one: {path.parts[0].removesuffix(".py") for path in files(one) or ()} for one in packages}
    assert all(names & provided for one, provided in provides.items() if one != "mlflow")
    assert names <= set().union(*provides.values())


@pytest.fixture(scope="module")
def served(tmp_path_factory, exported: Path, migrated: Path) -> Iterator[tuple[Path, str]]:
    """A workspace with its champion registered and served: by the stage and `make serve`'s command, as processes."""
    folder = workspace(tmp_path_factory.mktemp("served") / "a repo", exported)
    shutil.copy(migrated, folder / "mlflow.db")
    stage = python(folder, "-m", "pipeline.register")
    assert stage.wait(120) == 0, stage.communicate()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.serve", "--port", str(port)],
            cwd=folder,
            env=scratch.environment() | {"PYTHONPATH": str(REPOSITORY)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
        yield folder, address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_port_in_use_is_named(served, monkeypatch):
    port = served[1].rpartition(":")[2]
    monkeypatch.setattr(sys, "argv", ["serve", "--port", port])
    with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is not available .*PORT="):
        serve.main()


def ask(address: str, body: object) -> tuple[int, Any]:
    """The server's HTTP status and JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read(), parse_constant=pytest.fail)  # NaN is not valid JSON
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def predictions(address: str, *images: object, faces: str | None = None) -> list[dict]:
    """The rows that the server returns for these images."""
    params = {"params": {"faces": faces}} if faces else {}
    status, answer = ask(address, {"dataframe_records": [{"image": image} for image in images], **params})
    assert status == 200, answer
    return answer["predictions"]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def text(encoded: bytes) -> str:
    return base64.b64encode(encoded).decode()


def plain(red: int, blue: int) -> bytes:
    return png(np.full((50, 40, 3), (red, 0, blue), np.uint8))


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    """A grey image with a drawn face in a corner, where the detector detects it."""
    for index in range(40):
        canvas = np.full((300, 400, 3), 128, np.uint8)
        canvas[20:148, 20:148] = np.asarray(draw_image(0, "without_mask", index, size=128))
        if len(detector.detect(canvas)):
            return canvas
    pytest.fail("no face was detected in any of 40 drawn images")


def test_the_server_returns_the_predictions_of_the_litert_file(served):
    folder, address = served
    classify = litert.load(litert.path_of("mobilenet", folder=folder / litert.MODELS))
    images = [plain(200, 10), plain(10, 200), plain(0, 0), png(np.asarray(draw_image(1, "with_mask", 3, size=90)))]
    rows = predictions(address, *map(text, images))
    pixels = np.stack([decoding.decode(one, SIZE).pixels for one in images])
    assert [row["probability"] for row in rows] == classify(pixels).tolist()
    assert [row["class"] for row in rows][:3] == ["with_mask", "without_mask", "with_mask"]  # 0.5 is the threshold
    assert {row["model"] for row in rows} == {"mobilenet"} and {row["error"] for row in rows} == {None}
    assert list(rows[0]) == ["class", "probability", "prediction_set", "model", "error"]
    assert [row["prediction_set"] for row in rows] == [
        "with_mask" if p >= 0.7 else "without_mask" if p <= 0.3 else "none" for p in classify(pixels).tolist()
    ]


def test_base64_may_have_line_breaks_and_a_data_prefix(served):
    encoded = base64.encodebytes(plain(200, 10)).decode()
    assert "\n" in encoded
    assert [row["class"] for row in predictions(served[1], encoded, f"data:image/png;base64,{encoded}")] == [
        "with_mask"
    ] * 2


def test_a_bad_image_is_an_error_of_its_row_only(served):
    good = text(plain(200, 10))
    cut_off = text(png(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))[:3000])
    rows = predictions(served[1], "!!", good, None, "", text(b"hello"), cut_off, 7, "Größe", good)
    assert [row["class"] for row in rows] == [None, "with_mask", *[None] * 6, "with_mask"]
    errors = [row["error"] for row in rows if row["class"] is None]
    assert errors[0] == errors[5] == errors[6] == "not base64"
    assert errors[1] == errors[2] == "no image: the column image is empty"
    assert errors[3] == "not an image"
    assert errors[4].startswith("damaged")
    assert all(row["probability"] is None for row in rows if row["error"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dataframe_records": [{"picture": "x"}]}, "missing inputs ['image']"),
        ({"dataframe_records": []}, "missing inputs ['image']"),
        ({"images": ["x"]}, "exactly one of the input fields"),
        (b"image=x", "valid JSON"),
        ({"dataframe_records": [{"image": "x"}], "params": {"faces": "some"}}, "params.faces = 'some': use whole or"),
    ],
)
def test_an_invalid_request_is_refused_with_the_reason(served, body, message):
    status, answer = ask(served[1], body)
    assert status == 400
    assert message in answer["message"] and "Traceback" not in json.dumps(answer)


def test_faces_auto_detects_and_classifies_the_face_or_reports_none(served, street):
    folder, address = served
    path = litert.path_of("mobilenet", folder=folder / litert.MODELS)
    classifier = FaceClassifier.load(path, name="mobilenet", size=SIZE, margin=0.25, threshold=0.5)
    boxes = detector.detect(street)[:1, :4]
    whole, auto = (
        predictions(address, text(png(street)), faces=faces)[0]["probability"] for faces in ("whole", "auto")
    )
    assert auto == classifier.classify(classifier.crop(street, boxes))[0] != whole
    (row,) = predictions(address, text(plain(200, 10)), faces="auto")
    assert (row["class"], row["error"]) == (None, "no face detected")


def test_concurrent_requests_get_their_own_predictions(served):
    from concurrent.futures import ThreadPoolExecutor

    images = [text(plain(red, 100)) for red in range(0, 250, 10)]
    alone = predictions(served[1], *images)
    with ThreadPoolExecutor(8) as pool:
        assert [row for (row,) in pool.map(lambda image: predictions(served[1], image), images)] == alone


def test_a_version_loads_in_a_process_without_the_repository(served, tmp_path):
    folder, _ = served
    environment = scratch.environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    command = [sys.executable, "-I", "-c", OUTSIDE, "models:/face-mask@champion"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows, package, module, others = json.loads(done.stdout)
    no_face = {"class": None, "probability": None, "prediction_set": None, "model": "mobilenet"}
    assert rows == [{**no_face, "error": "no face detected"}]
    assert package == f"face_mask_{packaging.code_digest()[:8]}" and not others
    carried = {path.name for path in Path(module).parent.iterdir()} - {"__pycache__"}
    assert str(folder / "mlartifacts") in module
    assert carried == {*(f"{one}.py" for one in packaging.CODE), *packaging.DATA}


BOTH = """
import json, sys
import mlflow
loaded = [mlflow.pyfunc.load_model(uri) for uri in sys.argv[1:]]
answers = [model.predict(model.input_example, params={"faces": "auto"}) for model in loaded]
print(json.dumps([answer["error"][0] for answer in answers]))
"""


def test_champion_and_challenger_in_one_process_run_their_own_code(repo, tmp_path, monkeypatch):
    path = sys.path
    register.main()
    assert sys.path is path and not any(name.startswith("face_mask_") for name in sys.modules)
    newer = tmp_path / "newer"
    shutil.copytree(REPOSITORY / "face_mask", newer, ignore=shutil.ignore_patterns("__pycache__"))
    encoded = (newer / "encoded.py").read_text()
    (newer / "encoded.py").write_text(encoded.replace('"no face detected"', '"newer: no face detected"'))
    monkeypatch.setattr(packaging, "module_path", lambda module: newer / f"{module}.py")
    register.main()
    assert champion(repo) == 4  # the weights of version 2 with the newer code
    environment = scratch.environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{repo / 'mlflow.db'}"}
    command = [sys.executable, "-I", "-c", BOTH, "models:/face-mask@champion", "models:/face-mask/2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["newer: no face detected", "no face detected"]
