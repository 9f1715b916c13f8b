"""Videos of huge frames, and disks that are full when a video or an annotated copy is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults import made_images, processes

Seen = Callable[[str], None]
NO_SPACE = "free space or fix the permissions, then run again"
READ = """
import sys
from face_mask import video
frames = 0
try:
    for frames, _ in enumerate(video.read_frames(open(sys.argv[1], "rb")), 1):
        pass
except video.BadVideo as error:
    print(f"{frames} frames: {error}")
"""
# The second argument is the largest size of a file in bytes; the kernel refuses what is written beyond.
WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
from face_mask import annotate, errors

def main():
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    frames = np.random.default_rng(0).integers(0, 256, (20, 240, 320, 3), np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with annotate.writer(path, is_video=path.suffix == ".mp4") as save:
        for number, frame in enumerate(frames if path.suffix == ".mp4" else frames[:1]):
            save(frame, number / 10, [])

errors.run(main)
"""


def jpeg(side: int) -> bytes:
    """A JPEG that states `side` pixels a side and has data for 64."""
    found, scan = made_images.segments(made_images.encoded(Image.new("RGB", (64, 64)), "JPEG"))
    size = side.to_bytes(2, "big") * 2
    found = [one[:5] + size + one[9:] if one[1] == 0xC0 else one for one in found]
    return b"".join(found) + scan + bytes(100) + b"\xff\xd9"


def write_motion_jpeg(path: Path, frames: list[bytes], side: int) -> None:
    """A video of JPEG frames as they are; the file states frames of `side` pixels a side."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = side
        stream.pix_fmt = "yuvj420p"
        for number, frame in enumerate(frames):
            packet = av.Packet(frame)
            packet.stream, packet.pts, packet.dts = stream, number, number
            container.mux(packet)


@pytest.mark.fault(18, "a video of frames of 16,200x16,200 pixels", "refused before a frame is decoded")
@pytest.mark.parametrize("stated", [16_200, 64], ids=["as the file states", "unlike the file states"])
def test_a_video_of_huge_frames_is_refused(tmp_path: Path, stated: int, seen: Seen) -> None:
    small = made_images.encoded(Image.new("RGB", (64, 64)), "JPEG")
    write_motion_jpeg(tmp_path / "a.avi", [*[small] * (5 if stated == 64 else 0), *[jpeg(16_200)] * 3], stated)
    outcome = processes.run(["-c", READ, str(tmp_path / "a.avi")], cwd=processes.REPOSITORY, seconds=120)
    assert outcome.code == 0, outcome.stderr
    expected = "0 frames: not a video, damaged, or of more than 50 megapixels" if stated > 64 else "5 frames: damaged"
    assert outcome.stdout.startswith(expected)
    assert outcome.peak_mb < 400
    seen(f"“{outcome.stdout.strip()}”, {outcome.peak_mb:.0f} MB")


@pytest.mark.full
@pytest.mark.fault(18, "a video of frames of 49 megapixels", "decoded within 1.2 GB")
def test_a_video_of_large_frames_is_decoded(tmp_path: Path, seen: Seen) -> None:
    large = made_images.encoded(made_images.noise(8192, 6000), "JPEG", quality=50)
    write_motion_jpeg(tmp_path / "a.avi", [large] * 8, 8192)
    outcome = processes.run(
        ["-c", READ + "print(frames)", str(tmp_path / "a.avi")], cwd=processes.REPOSITORY, seconds=300
    )
    assert outcome.stdout.strip() == "8", outcome.stderr
    assert outcome.peak_mb < 1200
    seen(f"8 frames, {outcome.peak_mb:.0f} MB")


@pytest.mark.full
@pytest.mark.fault(
    6, "no space for an annotated copy, from its first, middle or last byte on", "one line, old copy kept"
)
@pytest.mark.parametrize("name", ["copy.mp4", "copy.png", "copy.jpg"])
def test_a_full_disk_leaves_the_old_copy(tmp_path: Path, name: str, seen: Seen) -> None:
    path = tmp_path / name
    whole = processes.run(["-c", WRITE, str(path), str(1 << 30)], cwd=processes.REPOSITORY)
    assert whole.code == 0 and path.stat().st_size > 20_000, whole.stderr
    size = path.stat().st_size
    path.write_bytes(b"old")
    for limit in (0, size // 2, size - 1):
        outcome = processes.run(["-c", WRITE, str(path), str(limit)], cwd=processes.REPOSITORY)
        assert outcome.code == 1 and outcome.error().endswith(f"{path}: File too large: {NO_SPACE}")
        assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    seen(f"{name}: exit code 1, “File too large: {NO_SPACE}”")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.fault(6, "no space left on the device for a video", "the writer raises the error of the device")
def test_a_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    from face_mask import files, video

    @files.contextmanager
    def full(path: Path):
        yield Path("/dev/full")

    monkeypatch.setattr(files, "replacing", full)
    with pytest.raises(OSError, match="No space left") as caught, video.writer(tmp_path / "a.mp4") as append:
        for number in range(3):
            append(np.zeros((64, 64, 3), np.uint8), number / 10)
    seen(f"OSError: {caught.value.strerror}")
