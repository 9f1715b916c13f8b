"""Take the README's screenshots of the live page, with the trained models and videos made of street images.

    python -m tools.screenshots [--archive data/raw/unseen.zip] [--out docs]

Needs models/exported/*.float32.tflite, the unseen images, and Chromium. The names of the images are fixed, so that
the screenshots always show the same faces; frame rates and latencies are those of the machine.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from face_mask import decoding, errors
from face_mask.errors import UserError
from pipeline.sources import archives
from tools.live_server import serving

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
SIZE = 640, 480
SECONDS, FPS = 12, 15
# Output file: image in the archive, and options of the browser context.
SCREENSHOTS: dict[str, tuple[str, dict[str, Any]]] = {
    "live_light.jpg": (
        "images/maksssksksss244.jpg",
        {"viewport": {"width": 1180, "height": 790}, "color_scheme": "light"},
    ),
    "live_dark_phone.jpg": (
        "images/maksssksksss759.jpg",
        {
            "viewport": {"width": 390, "height": 844},
            "color_scheme": "dark",
            "device_scale_factor": 1.5,
            "has_touch": True,
            "is_mobile": True,
        },
    ),
}


def find_chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise UserError("Chromium is missing: run `apt-get install chromium`")


def write_video(path: Path, image: Image.Image) -> None:
    """Write a WebM video of the centre of an image, with small movements as of a hand-held camera."""
    scale = 0.97 * min(image.width / SIZE[0], image.height / SIZE[1])
    width, height = SIZE[0] * scale, SIZE[1] * scale
    with av.open(str(path), "w") as container:
        stream = container.add_stream("vp8", rate=FPS, options={"deadline": "realtime", "crf": "8", "b": "4M"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = SIZE
        for number in range(SECONDS * FPS):
            x = (image.width - width) / 2 + 0.01 * width * np.sin(number / 9)
            y = (image.height - height) / 2 + 0.01 * height * np.cos(number / 13)
            frame = image.resize(SIZE, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))


def take_screenshot(browser: Browser, address: str, video: Path, options: dict[str, Any], path: Path) -> None:
    page = browser.new_context(**options).new_page()
    page.goto(address)
    page.set_input_files("#file", video)
    page.wait_for_selector("#faces li")
    page.wait_for_timeout(6000)
    page.screenshot(path=path, type="jpeg", quality=88)
    page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("data/raw/unseen.zip"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    args = parser.parse_args()
    if not args.archive.exists():
        raise UserError(
            f"{args.archive} is missing: run `dvc repro unseen_download`, or give another one with --archive"
        )
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(args.archive) as archive,
        serving() as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        for file, (name, options) in SCREENSHOTS.items():
            video = Path(folder) / "video.webm"
            write_video(video, decoding.open_rgb(archives.read_member(archive, name))[0])
            take_screenshot(browser, address, video, options, args.out / file)
            print(args.out / file, (args.out / file).stat().st_size // 1000, "kB")
        browser.close()


if __name__ == "__main__":
    errors.run(main)
