"""The README's pictures of the live page: the page as it is, with the trained models, on street pictures as a film.

    python -m tools.screenshots [--archive data/raw/unseen.zip] [--out docs]

Needs models/exported/*.float32.tflite, the foreign pictures and a Chromium on this machine. The pictures are of fixed
names, so that the same faces are shown each time; frame rates and latencies are those of the machine.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import zipfile
from pathlib import Path

import av
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline import errors
from pipeline.data import archives, decoding
from pipeline.errors import UserError
from tools.live_server import serving

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
SIZE = 640, 480
SECONDS, FPS = 12, 15
# The scene, how the page is shown, and the file.
SHOTS = (
    ("images/maksssksksss244.jpg", {"viewport": {"width": 1180, "height": 790}, "color_scheme": "light"}, "live_light"),
    (
        "images/maksssksksss759.jpg",
        {
            "viewport": {"width": 390, "height": 844},
            "color_scheme": "dark",
            "device_scale_factor": 1.5,
            "has_touch": True,
            "is_mobile": True,
        },
        "live_dark_phone",
    ),
)


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise UserError("no Chromium on this machine: apt-get install chromium")


def write_film(path: Path, picture: Image.Image) -> None:
    """A WebM film of the middle of a picture, under a hand that is not quite still."""
    scale = 0.97 * min(picture.width / SIZE[0], picture.height / SIZE[1])
    width, height = SIZE[0] * scale, SIZE[1] * scale
    with av.open(str(path), "w") as container:
        stream = container.add_stream("vp8", rate=FPS, options={"deadline": "realtime", "crf": "8", "b": "4M"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = SIZE
        for frame in range(SECONDS * FPS):
            x = (picture.width - width) / 2 + 0.01 * width * np.sin(frame / 9)
            y = (picture.height - height) / 2 + 0.01 * height * np.cos(frame / 13)
            still = picture.resize(SIZE, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))
            container.mux(stream.encode(av.VideoFrame.from_image(still)))
        container.mux(stream.encode(None))


def shoot(browser: Browser, address: str, film: Path, looks: dict, path: Path) -> None:
    page: Page = browser.new_context(**looks).new_page()
    page.goto(address)
    page.set_input_files("#file", film)
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
        raise UserError(f"{args.archive} is missing: run `dvc repro unseen_download`, or name it with --archive")
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(args.archive) as archive,
        serving() as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for name, looks, out in SHOTS:
            picture = decoding.open_rgb(archives.read_member(archive, name))[0]
            film = Path(folder) / "film.webm"
            write_film(film, picture)
            shoot(browser, address, film, looks, args.out / f"{out}.jpg")
            print(args.out / f"{out}.jpg", (args.out / f"{out}.jpg").stat().st_size // 1000, "kB")
        browser.close()


if __name__ == "__main__":
    errors.run(main)
