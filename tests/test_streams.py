"""Live streams: a real RTSP server and an HTTP camera on loopback, cameras by number, time limits, reconnection."""

from __future__ import annotations

import io
import json
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from face_mask import errors, inputs, litert, predict, replay, streams, video
from face_mask.models import FILE, PACKAGED
from face_mask.streams import Source
from pipeline.synthetic import scenes
from tests import rtsp_server

SECRET = "user:s3cret@"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packaged model under the name that --models expects."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(PACKAGED / FILE, litert.path_of("mobilenet", folder=folder))
    return folder


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A drawn scene of several people."""
    return np.asarray(Image.open(io.BytesIO(scenes.draw(1, 0)[0])).convert("RGB"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, scene: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("media")
    with video.writer(folder / "camera.mp4") as append:
        for i in range(24):
            append(scene, i / 12)
    return folder


@pytest.fixture
def rtsp(media: Path) -> Iterator[str]:
    pytest.importorskip("aio_rtsp_toolkit", reason="the RTSP server is missing: run `pip install aio-rtsp-toolkit`")
    with rtsp_server.serving(media, rtsp_server.free_port()) as address:
        yield f"{address}/camera.mp4?play_count=0"


@pytest.fixture
def http_camera(scene: np.ndarray) -> Iterator[str]:
    """A camera that sends JPEGs one after another, 50 a second."""
    buffer = io.BytesIO()
    Image.fromarray(scene).save(buffer, "JPEG")
    jpeg = buffer.getvalue()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            try:
                while True:
                    self.wfile.write(head + jpeg + b"\r\n")
                    time.sleep(0.02)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/video"
    server.shutdown()
    server.server_close()


def test_which_arguments_are_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("7").touch()
    assert streams.parse("0", http=False) == Source(0) and streams.parse("7", http=False) is None
    assert streams.parse("RTSP://host/a", http=False) == Source("RTSP://host/a")
    assert streams.parse("http://host/a", http=False) is None and streams.parse("http://host/a", http=True)
    for other in ("video.mp4", "rtsp", "rtsp:/a", "file:///a", "12345", "-1", "²"):
        assert streams.parse(other, http=True) is None
    (one, camera), problems = inputs.resolve([f"rtsp://{SECRET}host/a?key=1", "3"])
    assert not problems and (one.name, camera.name) == ("rtsp://host/a", "camera 3")
    assert one.is_stream and one.is_video and not one.is_image_file


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (f"rtsp://{SECRET}host:554/h264?token=1", "rtsp://host:554/h264"),
        ("rtsp://host/user=admin&password=s3cret&channel=1", "rtsp://host/…"),  # some cameras have it in the path
        ("rtsp://host/\x1b[31m", "rtsp://host/\\x1b[31m"),
        ("rtsp://user:s3/cret@host/h264", "rtsp://…@host/h264"),
        ("rtsp://user:s3?cret@host/h264", "rtsp://…/"),
        ("rtsp://[::1/", "an invalid address"),
    ],
)
def test_a_name_has_no_secret_and_is_safe_to_print(address: str, name: str) -> None:
    assert Source(address).name == name


def test_a_camera_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert streams.camera(1) == ("v4l2", "/dev/video1") or sys.platform != "linux"
    with pytest.raises(streams.BadStream, match=r"No such file or directory|not permitted|Input/output"):
        next(streams.read_frames(Source(99), 0, print))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert streams.camera(1) == ("avfoundation", "1:none")


def test_the_newest_frame_is_taken_until_the_limit_and_a_lost_stream_is_opened_again(
    media: Path, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aio_rtsp_toolkit", reason="the RTSP server is missing: run `pip install aio-rtsp-toolkit`")
    monkeypatch.setattr(streams, "FIRST_WAIT", 0.1)
    port = rtsp_server.free_port()
    lines: list[str] = []
    with rtsp_server.serving(media, port) as address:
        frames = streams.read_frames(Source(f"{address}/camera.mp4?play_count=0"), 0, lines.append, limit=60)
        first = next(frames)
        assert first.number is not None and first.seconds == 0  # a busy machine may have dropped some before it
        assert np.abs(first.image.astype(int) - scene[: first.image.shape[0], : first.image.shape[1]]).mean() < 8
        time.sleep(0.5)
        late = next(frames)
        assert late.number is not None and late.number >= first.number + 4  # those in between are dropped
        assert late.seconds is not None and late.seconds > 0.3
    while not lines:
        time.sleep(0.02)
    with rtsp_server.serving(media, port):
        while len(lines) < 2:
            back = next(frames)
        assert back.number is not None and back.number > late.number
        frames.close()  # type: ignore[attr-defined]
    assert [line.partition(": ")[2].split(";")[-1].strip() for line in lines] == [
        "reconnecting until it is back",
        "connected again",
    ]


def test_a_replay_of_a_stream_prints_the_summary_and_never_the_password(
    rtsp: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address = rtsp.replace("://", f"://{SECRET}")
    hook = f"{sys.executable} -c \"import sys; open('{tmp_path}/event', 'w').write(sys.stdin.read())\""
    events = ["--on-unmasked", hook, "--after", "0.1"]
    command = ["replay", address, "--seconds", "1.5", "--model", "mobilenet", "--models", str(models), *events]
    monkeypatch.setattr(sys, "argv", command)
    replay.main()
    out, err = capfd.readouterr()
    summary = json.loads(out)
    event = json.loads((tmp_path / "event").read_text())
    assert event["source"] == rtsp.partition("?")[0] and event["seconds"] >= 0.1 and event["probability"] > 0.5
    assert summary["frames"] >= 2 and summary["faces"] >= summary["frames"] and summary["distinct_faces"] < 20
    monkeypatch.setattr(sys, "argv", [*command[:1], address.replace("camera.mp4", "missing.mp4"), *command[2:]])
    with pytest.raises(
        errors.UserError, match=r"missing\.mp4 cannot be read \(Server returned 404 Not Found\)"
    ) as error:
        replay.main()
    out, more = capfd.readouterr()
    assert "s3cret" not in err + more + out + str(error.value)


def test_predict_takes_frames_of_an_http_camera_though_it_is_private(
    http_camera: str, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> None:
        predict.predict(
            predict.parse([*arguments, "--model", "mobilenet", "--models", str(models), "--format", "json"])
        )

    address = http_camera.replace("://", f"://{SECRET}")
    run(f"{address}?k=1", "--stream", "--frames", "3", "--every", "0.2", "--annotate", str(tmp_path / "seen"))
    out, err = capfd.readouterr()
    results = json.loads(out)
    assert [one["source"] for one in results] == [http_camera] * 3 and all(one["faces"] for one in results)
    seconds = [one["seconds"] for one in results]
    assert seconds[0] == 0 and seconds[1] >= 0.15 and seconds[2] >= 0.35 and results[2]["frame"] >= 3
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["stream.faces.mp4"]
    with pytest.raises(errors.UserError, match="add --frames N"):
        run(address, "--stream", "--annotate", str(tmp_path / "seen"))
    with pytest.raises(errors.UserError, match="none of the inputs"):
        run(address)  # an image is only fetched from the public Internet
    out, more = capfd.readouterr()
    assert "not on the public Internet" in more and "s3cret" not in err + more + out


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers_and_one_that_is_not_there(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(streams.BadStream, match=r"no answer within 0\.3 s"):
            next(streams.read_frames(Source(f"{scheme}://127.0.0.1:{port}/a"), 0, print))
        assert time.monotonic() - started < 5
    with pytest.raises(streams.BadStream, match="Connection refused"):
        next(streams.read_frames(Source(f"{scheme}://127.0.0.1:{port}/a"), 0, print))


def test_a_stream_that_falls_silent_is_lost_and_given_up(http_camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame after the second: the connection is reported as lost, then the stream ends."""
    opened: list[Callable] = []

    def two_frames(source: Source, stopped: threading.Event) -> Iterator[object]:
        opened.append(two_frames)
        if len(opened) == 1:
            yield from [object(), object()]
        raise streams.BadStream("no frame for 10 s")

    monkeypatch.setattr(streams, "packets_to_frames", two_frames)
    monkeypatch.setattr(streams, "to_array", lambda frame: np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(streams, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(streams, "GIVE_UP_SECONDS", 0.1)
    lines: list[str] = []
    frames = streams.read_frames(Source("rtsp://host/a"), 0, lines.append)
    with pytest.raises(streams.BadStream, match="no frame for 10 s, and no frame for 0 minutes"):
        while True:
            next(frames)
    assert lines == ["rtsp://host/a: no frame for 10 s; reconnecting until it is back"] and 2 < len(opened) < 7


def test_packets_that_are_no_pictures_end_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    class Junk(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(
                        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 400\r\n\r\n" + b"x" * 400 + b"\r\n"
                    )
                    time.sleep(0.01)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(streams, "UNDECODED_SECONDS", 0.5)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Junk)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(streams.BadStream, match=r"no picture in what arrived for 0\.5 s"):
        next(streams.read_frames(Source(f"http://127.0.0.1:{server.server_port}/video"), 0, print))
    assert time.monotonic() - started < 5
    server.shutdown()
    server.server_close()


def test_a_codec_that_is_not_known(media: Path, tmp_path: Path) -> None:
    with av.open(media / "camera.mp4") as source, av.open(tmp_path / "a.mkv", "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    content = (tmp_path / "a.mkv").read_bytes()
    assert b"V_MPEG4/ISO/AVC" in content
    unknown = content.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC")
    with pytest.raises(video.BadVideo, match="its codec is not known"):
        next(video.read_frames(io.BytesIO(unknown)))
    (tmp_path / "b.mkv").write_bytes(unknown)
    handler = partial(QuietFiles, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(streams.BadStream, match="its codec is not known"):
        next(streams.read_frames(Source(f"http://127.0.0.1:{server.server_port}/b.mkv"), 0, print))
    server.shutdown()
    server.server_close()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_playlist_of_an_http_server_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Playlist(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.end_headers()
            self.wfile.write(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/other.ts\n#EXT-X-ENDLIST\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Playlist)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(streams.BadStream, match="playlists are not opened"):
        next(streams.read_frames(Source(f"http://127.0.0.1:{server.server_port}/list.m3u8"), 0, print))
    assert set(asked) == {"/list.m3u8"}
    server.shutdown()
    server.server_close()
