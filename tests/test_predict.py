"""The command `predict`: inputs, output formats, annotated copies, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from face_mask import drawing, errors, inputs, outputs, predict, settings, video, web
from face_mask.cropping import intersection_over_union
from face_mask.errors import UserError
from face_mask.schema import IMAGE_SUFFIXES, LABELS, VIDEO_SUFFIXES
from pipeline.synthetic import faces
from tests import litert_models

ROOT = Path(__file__).resolve().parents[1]
MODULE = [sys.executable, "-m", "face_mask.predict"]
GREY = Image.new("RGB", (320, 240), (120, 120, 120))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    litert_models.write(folder, settings.load(ROOT / "params.yaml").image_size)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(models: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process with these arguments: exit code, standard output, standard error."""

    def run(*arguments: str | Path, models: Path = models) -> tuple[int, str, str]:
        code = 0
        try:
            predict.predict(predict.parse([*map(str, arguments), "--models", str(models)]))
        except SystemExit as ended:
            code = int(ended.code or 0)
        except UserError as error:
            code = 1
            print(error, file=sys.stderr)
        return code, *capsys.readouterr()

    return run


def person(index: int, size: int = 200, light: float = 1.0) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """A drawn person whose face the detector detects, and the face's box."""
    drawn, box = faces.draw_with_box(5, ("with_mask", "without_mask")[index % 2], index, size)
    left, top, right, bottom = (round(side) for side in box)
    return drawn.point(lambda value: round(value * light)), (left, top, right, bottom)


def street(*people: tuple[int, float]) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """An image of people (index, light) side by side, and the boxes of their faces."""
    image, boxes = Image.new("RGB", (40 + 240 * len(people), 280), (120, 120, 120)), []
    for i, (index, light) in enumerate(people):
        drawn, (left, top, right, bottom) = person(index, light=light)
        x = 40 + 240 * i
        image.paste(drawn, (x, 40))
        boxes.append((left + x, top + 40, right + x, bottom + 40))
    return image, boxes


def iou(first: list | tuple, second: list | tuple) -> float:
    return float(intersection_over_union(np.array([first]), np.array([second]))[0, 0])


def write_video(path: Path, frames: list[np.ndarray], fps: float = 10) -> Path:
    with video.writer(path) as append:
        for number, frame in enumerate(frames):
            append(frame, number / fps)
    return path


# Predictions in every format


def test_every_face_is_classified_and_all_formats_agree(run, here: Path, models: Path) -> None:
    image, boxes = street((0, 1.0), (1, 0.35))
    image.save("a.png")
    code, out, err = run("a.png", "--format", "json")
    assert (code, err) == (0, "")
    (result,) = json.loads(out)
    assert (result["source"], result["frame"], result["seconds"]) == ("a.png", None, None)
    faces = sorted(result["faces"], key=lambda face: face["box"][0])
    assert len(faces) == 2
    for face, box in zip(faces, boxes, strict=True):
        assert iou(face["box"], box) > 0.4
        assert 0.5 <= face["detector_score"] <= 1
        with_mask = face["with_mask"] >= 0.5
        assert face["class"] == LABELS[with_mask]
        assert face["probability"] == pytest.approx(face["with_mask"] if with_mask else 1 - face["with_mask"], abs=1e-4)
    assert faces[0]["with_mask"] > 0.5 > faces[1]["with_mask"]  # the models measure brightness

    rows = list(csv.DictReader(io.StringIO(run("a.png", "--format", "csv")[1])))
    assert list(rows[0]) == list(outputs.COLUMNS)
    for row, face in zip(rows, result["faces"], strict=True):
        assert [int(row[side]) for side in ("left", "top", "right", "bottom")] == face["box"]
        assert (row["class"], float(row["with_mask"])) == (face["class"], face["with_mask"])
        assert (row["source"], row["frame"], row["seconds"]) == ("a.png", "", "")
    head, *lines = run("a.png")[1].splitlines()
    assert head.split() == ["class", "probability", "detector", "left", "top", "right", "bottom", "source"]
    for line, face in zip(lines, result["faces"], strict=True):
        cells = line.split()
        assert (cells[0], [int(cell) for cell in cells[3:7]], cells[7]) == (face["class"], face["box"], "a.png")
        assert float(cells[1]) == pytest.approx(face["probability"], abs=6e-4)


def test_an_unsure_face_is_marked_in_every_format_by_the_models_calibration(run, here: Path, models: Path) -> None:
    levels = (20, 90, 110, 200)  # P(with_mask) 0.01, 0.35, 0.65 and 1; the model is sure up to 0.3 and from 0.7 on
    for level in levels:
        Image.new("RGB", (64, 64), (level, level, level)).save(f"{level}.png")
    names, sets = [f"{level}.png" for level in levels], ["without_mask", "none", "none", "with_mask"]
    _, out, err = run(*names, "--faces", "whole", "--format", "json", "--annotate", "seen")
    assert [one["faces"][0]["prediction_set"] for one in json.loads(out)] == sets and err == ""
    rows = csv.DictReader(io.StringIO(run(*names, "--faces", "whole", "--format", "csv")[1]))
    assert [row["prediction_set"] for row in rows] == sets
    lines = run(*names, "--faces", "whole")[1].splitlines()[1:]
    assert [line[:16].split() for line in lines] == [["without_mask"], ["without_mask", "?"], ["with_mask", "?"],
                                                     ["with_mask"]]  # fmt: skip
    drawn = drawing.draw(np.zeros((90, 160, 3), np.uint8), json.loads(out)[1]["faces"])
    sure = drawing.draw(np.zeros((90, 160, 3), np.uint8), [json.loads(out)[1]["faces"][0] | {"prediction_set": None}])
    assert (drawn != sure).any()


def test_a_model_without_a_calibration_is_never_unsure_and_one_line_says_so(run, here: Path, models: Path) -> None:
    content = (models / "mobilenet.float32.tflite").read_bytes()
    Path("mobilenet.float32.tflite").write_bytes(content[: content.rindex(b"PK\x03\x04")])
    GREY.save("a.png")
    code, out, err = run("a.png", "a.png", "--faces", "whole", "--format", "json", models=here)
    assert (code, [one["faces"][0]["prediction_set"] for one in json.loads(out)]) == (0, [None, None])
    assert err == (
        "predict: the file of mobilenet has no calibration, so no face is reported as unsure: run `dvc repro export`\n"
    )
    Path("mobilenet.float32.tflite").write_bytes(content[:-9])
    code, out, err = run("a.png", models=here)
    assert (code, len(err.splitlines())) == (1, 1) and "damaged (its end is missing): run `dvc checkout`" in err


def test_no_face_is_reported_and_the_whole_image_is_classified_only_with_faces_whole(run) -> None:
    GREY.save("grey.png")
    assert run("grey.png")[1].splitlines()[1].split() == ["no", "face", "detected", "grey.png"]
    assert json.loads(run("grey.png", "--format", "json")[1])[0]["faces"] == []
    (row,) = csv.DictReader(io.StringIO(run("grey.png", "--format", "csv")[1]))
    assert row["source"] == "grey.png" and set(row.values()) == {"grey.png", ""}
    code, out, _ = run("grey.png", "--format", "json", "--faces", "whole")
    (face,) = json.loads(out)[0]["faces"]
    assert (code, face["box"], face["detector_score"]) == (0, [0, 0, 320, 240], None)
    assert face["with_mask"] == pytest.approx(litert_models.probability(np.asarray(GREY)), abs=1e-4)
    assert run("grey.png", "--faces", "whole")[1].splitlines()[1].split()[2:] == ["0", "0", "320", "240", "grey.png"]


def test_boxes_are_in_the_upright_image(run) -> None:
    image, (box,) = street((2, 1.0))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise to view
    image.transpose(Image.Transpose.ROTATE_90).save("phone.jpg", exif=exif, quality=95)
    (face,) = json.loads(run("phone.jpg", "--format", "json")[1])[0]["faces"]
    assert iou(face["box"], box) > 0.4


def test_a_suffix_is_an_image_or_a_video() -> None:
    assert not IMAGE_SUFFIXES & VIDEO_SUFFIXES


# Inputs


def test_a_folder_is_read_recursively_in_order(run, here: Path) -> None:
    for name in ("b.png", "a/z.png", "a/deeper/c.PNG", ".hidden/d.png", ".e.png"):
        (here / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        GREY.save(here / "in" / name)
    (here / "in/notes.txt").write_text("not an image")
    (here / "in/loop").symlink_to(here / "in")
    code, out, err = run("in", "in/b.png", "--format", "json")
    assert [one["source"] for one in json.loads(out)] == ["in/a/deeper/c.PNG", "in/a/z.png", "in/b.png", "in/b.png"]
    assert (code, err) == (0, "")


def test_unreadable_inputs_are_named_and_change_the_exit_code(run, here: Path) -> None:
    GREY.save("good.png")
    whole = Path("good.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("hello")
    Path("video.mp4").write_text("hello")
    Path("folder").mkdir()
    bad = ["cut.png", "empty.jpg", "text.jpg", "video.mp4", "folder", "gone.png"]
    code, out, err = run(*bad[:3], "good.png", *bad[3:], "--format", "json")
    assert [one["source"] for one in json.loads(out)] == ["good.png"]
    assert code == 2
    assert sorted(line.split(":")[1].strip() for line in err.splitlines()) == sorted(bad)
    code, out, err = run(*bad, "--format", "json")
    assert (code, json.loads(out)) == (1, [])
    assert len(err.splitlines()) == len(bad) + 1 and "none of the inputs could be read (6 failed)" in err


def test_names_are_safe_to_print(run, here: Path) -> None:
    GREY.save("red\x1b[31m.png")
    GREY.save(os.fsencode("odd").decode() + "\udcff.png")
    out = run(here, "--format", "csv")[1]
    assert "\x1b" not in out and "\\x1b[31m.png" in out and "\\udcff.png" in out
    out.encode("utf-8")


def test_messages_are_safe_to_print(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UserError("red\x1b[31m\u202e.png is\na folder\udcff: name a file")

    with pytest.raises(SystemExit):
        errors.run(fail, "predict")
    assert capsys.readouterr().err == "predict: red\\x1b[31m\\u202e.png is a folder\\udcff: name a file\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: FILE"),
        (["a.png", "--model", "vgg"], "--model"),
        (["a.png", "--every", "-1"], "--every"),
        (["a.png", "--every", "nan"], "--every"),
        (["a.png", "--format", "xml"], "--format"),
        (["a.png", "--annotate", "a.png"], "is a file"),
        (["in", "--annotate", "in"], "is also an input"),
    ],
)
def test_an_invalid_command_is_one_line_and_exit_code_1(run, here: Path, arguments: list[str], message: str) -> None:
    GREY.save("a.png")
    (here / "in").mkdir()
    code, out, err = run(*arguments)
    assert (code, out) == (1, "") and message in err and len(err.splitlines()) == 1


def test_a_model_that_is_missing_damaged_or_of_another_size_is_one_line(run, here: Path, models: Path) -> None:
    GREY.save("a.png")
    assert run("a.png", models=here / "nowhere")[::2] == (
        1,
        f"{here}/nowhere/mobilenet.float32.tflite is missing: run `dvc repro export`, or name a folder that has this"
        " file\n",
    )
    Path("mobilenet.float32.tflite").write_bytes(b"not a model")
    code, _, err = run("a.png", models=here)
    assert code == 1 and "damaged" in err
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(values | {"image_size": 64}))
    Path("dvc.yaml").touch()
    code, _, err = run("a.png")
    assert code == 1 and "image_size = 64" in err


class Images(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        exists = self.path.startswith("/good.png")
        buffer = io.BytesIO()
        GREY.save(buffer, "PNG")
        self.send_response(200 if exists else 404)
        self.end_headers()
        self.wfile.write(buffer.getvalue() if exists else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Images)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_addresses_are_fetched_and_private_ones_refused(run, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(f"{address}/good.png")
    assert code == 1 and "not on the public Internet" in err and "good.png" not in out
    monkeypatch.setattr(web, "fetch", partial(web.fetch, allowed=lambda _: True))
    code, out, err = run(f"{address}/good.png?token=secret", f"{address}/gone.png", "--format", "json")
    assert [one["source"] for one in json.loads(out)] == [f"{address}/good.png"]
    assert code == 2 and "gone.png: HTTP 404" in err and "secret" not in err + out
    assert run(f"{address}/good.png", "--annotate", "seen")[0] == 0
    assert [path.name for path in Path("seen").iterdir()] == ["good.faces.png"]


# Videos


def test_a_video_is_classified_frame_by_frame_or_at_an_interval(run) -> None:
    image, (box,) = street((0, 1.0))
    frames = [np.asarray(image)] * 6 + [np.asarray(Image.new("RGB", image.size))] * 5
    write_video(Path("a.mp4"), frames)
    code, out, _ = run("a.mp4", "--format", "json")
    results = json.loads(out)
    assert (code, [one["frame"] for one in results]) == (0, [*range(11)])
    assert [one["seconds"] for one in results] == pytest.approx([n / 10 for n in range(11)], abs=0.002)
    assert [len(one["faces"]) for one in results] == [1] * 6 + [0] * 5
    assert iou(results[3]["faces"][0]["box"], box) > 0.4
    assert [one["frame"] for one in json.loads(run("a.mp4", "--format", "json", "--every", "0.5")[1])] == [0, 5, 10]
    head, first, *_, last = run("a.mp4", "--every", "0.5")[1].splitlines()
    assert head.split()[-2:] == ["seconds", "source"] and first.split()[-2:] == ["0.00", "a.mp4"]
    assert last.split() == ["no", "face", "detected", "1.00", "a.mp4"]


def test_a_video_that_is_damaged_midway_is_classified_up_to_there(run) -> None:
    generator = np.random.default_rng(0)
    write_video(Path("a.mkv.mp4"), [generator.integers(0, 256, (120, 160, 3)).astype(np.uint8) for _ in range(30)])
    # A transport stream, unlike MP4, needs no index at its end.
    import av

    with av.open("a.mkv.mp4") as source, av.open("a.ts", "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    whole = Path("a.mkv.mp4").read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) // 2])
    code, out, err = run("a.ts", "cut.mp4", "--format", "json", "--annotate", "seen")
    assert code == 2 and "cut.mp4" in err and len(json.loads(out)) == 30
    assert json.loads(out)[0]["seconds"] == 0  # a transport stream's clock starts elsewhere
    assert [path.name for path in Path("seen").iterdir()] == ["a.faces.mp4"]


def test_a_playlist_opens_no_other_file(run, here: Path) -> None:
    write_video(Path("other.mp4"), [np.asarray(GREY)] * 3)
    Path("list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")
    Path("concat.mkv").write_text("ffconcat version 1.0\nfile other.mp4\n")
    code, out, err = run("list.mp4", "concat.mkv", "--format", "json")
    assert (code, json.loads(out)) == (1, []) and err.count("not a video") == 2


@pytest.mark.parametrize(("turn", "matrix"), [(-1, (0, 1, -1, 0)), (1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1))])
def test_a_video_with_a_rotation_is_upright(here: Path, turn: int, matrix: tuple[int, int, int, int]) -> None:
    stored = np.zeros((96, 160, 3), np.uint8)
    stored[:40, :60] = (255, 0, 0)
    content = bytearray(write_video(Path("a.mp4"), [stored] * 3).read_bytes())
    at = content.index(b"tkhd") + 44  # ISO/IEC 14496-12: the track header's matrix, as 16.16 fixed-point numbers
    assert content[at : at + 4] == (65536).to_bytes(4, "big")
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        content[at + place : at + place + 4] = (65536 * value).to_bytes(4, "big", signed=True)
    first = next(video.read_frames(io.BytesIO(content)))
    wanted = np.rot90(stored, turn)
    assert first.image.shape == wanted.shape and np.abs(first.image.astype(int) - wanted).mean() < 12


# Annotated copies


def test_copies_show_the_boxes_and_have_different_names(run, here: Path) -> None:
    image, (box,) = street((0, 1.0))
    for name in ("in/a.png", "in/a.bmp", "in/sub/a.png", "in/b.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        image.save(name)
    GREY.save("in/A.png")
    Path("in/broken.png").write_text("not an image")
    before = {path: path.read_bytes() for path in here.rglob("in/**/*.*")}
    assert run("in", "in/a.png", "--annotate", "in/seen")[0] == 2
    written = sorted(path.relative_to("in/seen").as_posix() for path in Path("in/seen").rglob("*.*"))
    assert sorted({name.casefold() for name in written}) == sorted(name.casefold() for name in written)
    assert written == sorted(
        ["A.faces.png", "a.faces_2.png", "a.faces_3.png", "a.faces_4.png", "b.faces.jpg", "sub/a.faces.png"]
    )
    assert {path: path.read_bytes() for path in before} == before
    assert run("in", "--annotate", "in/seen", "--format", "json")[1].count("source") == 5  # copies are not inputs

    copy = np.asarray(Image.open("in/seen/sub/a.faces.png")).astype(int)
    changed = np.argwhere(np.abs(copy - np.asarray(image)).sum(axis=2) > 60)
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert top < box[1] + 30 and iou((left, top, right, bottom), box) > 0.3
    assert not np.array_equal(
        np.asarray(Image.open("in/seen/A.faces.png")), np.asarray(GREY)
    )  # it says: no face detected


def test_copies_never_overwrite_an_input(run, here: Path) -> None:
    GREY.save("a.png")
    GREY.save("a.faces.png")
    before = Path("a.faces.png").read_bytes()
    code, out, err = run("a.png", "a.faces.png", "--annotate", ".")
    assert (code, out) == (1, "") and "would overwrite a.faces.png," in err
    assert Path("a.faces.png").read_bytes() == before and len(list(here.iterdir())) == 2


def test_an_annotated_video_shows_the_classified_frames_at_their_times(run) -> None:
    image, (box,) = street((0, 1.0))
    odd = np.asarray(image)[:-1, :-1]
    write_video(Path("a.mp4"), [odd] * 11)
    assert run("a.mp4", "--annotate", "seen", "--every", "0.2")[0] == 0
    with Path("seen/a.faces.mp4").open("rb") as file:
        frames = list(video.read_frames(file))
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0], abs=0.01)
    (face,) = json.loads(run("a.mp4", "--format", "json", "--every", "9")[1])[0]["faces"]
    left, top, _, bottom = face["box"]
    shown, plain = frames[0].image.astype(int), odd.astype(int)[: len(frames[0].image), : frames[0].image.shape[1]]
    assert shown.shape == (278, 278, 3)
    changed = np.abs(shown - plain).sum(axis=2)
    assert changed[top + 20 : bottom, left : left + 2].mean() > 60 > 20 > changed[bottom + 9 :].mean()
    assert iou(face["box"], box) > 0.4


def test_a_label_at_the_border_stays_in_the_image() -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    face = {"box": [50, 0, 60, 12], "class": "with_mask", "probability": 1.0, "prediction_set": None}
    drawn = drawing.draw(image, [face])
    assert drawn.shape == image.shape and (drawn > 200).all(axis=2).sum() > 10 and not image.any()


# The process


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_it_loads_no_heavy_package_and_is_quick_from_any_folder(here: Path, models: Path) -> None:
    street((0, 1.0))[0].save("a.png")
    code = (
        "import sys; from face_mask import predict; predict.main(); heavy = {'tensorflow', 'keras', 'pandas', "
        "'scipy', 'sklearn', 'av', 'mlflow', 'ssl', 'pipeline'} & "
        "set(sys.modules); print(sorted(heavy), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "a.png", "--models", str(models)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n" and done.stdout.count("a.png") == 1

    def seconds(command: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run(command, env=environment(), capture_output=True, check=True)
        return time.perf_counter() - started

    # 0.5 s on an idle machine; compared with starting Python with NumPy, since test machines are noisy.
    took = min(seconds([*MODULE, "a.png", "--models", str(models)]) for _ in range(3))
    assert took < max(2, 8 * seconds([sys.executable, "-c", "import numpy"]))


def test_a_closed_pipe_is_not_an_error(here: Path, models: Path) -> None:
    for index in range(30):
        GREY.save(f"{index}.png")
    command = [*MODULE, str(here), "--models", str(models)]
    for kind in outputs.FORMATS:
        process = subprocess.Popen(
            [*command, "--format", kind], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_progress_is_shown_and_an_interrupt_leaves_no_half_written_file(here: Path, models: Path) -> None:
    frame = np.asarray(street((0, 1.0), (1, 1.0))[0])
    write_video(Path("long.mp4"), [frame] * 600)
    command = [*MODULE, "long.mp4", "--models", str(models), "--annotate", "seen", "--format", "json"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout and process.stderr
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    output = b""
    while b"%|" not in output:
        output += process.stderr.read(1) or pytest.fail(f"exited without a bar: {output.decode()}")
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    reader.join()
    assert process.wait() == 130 and rest.endswith(b"interrupted\n") and b"Traceback" not in rest
    assert 0 < len(json.loads(b"".join(lines))) < 600
    assert list(Path("seen").iterdir()) == []


@pytest.mark.parametrize("more", [-inputs.FIRST_BYTES, -1, 0, 1, 9, 10])
def test_a_file_is_read_as_a_whole_up_to_a_limit(more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_BYTES", inputs.FIRST_BYTES + 9)
    path = tmp_path / "image"
    path.write_bytes(bytes(i % 251 for i in range(inputs.FIRST_BYTES + more)))
    with path.open("rb") as file:
        if more < 10:
            assert inputs.read_limited(file) == path.read_bytes()
        else:
            with pytest.raises(inputs.UnreadableInput, match="too many for an image"):
                inputs.read_limited(file)
