"""Build the package and use it as a new user does: in an environment of its own, away from the repository.

    python -m tools.check_package            create an environment from requirements-run.lock, in a temporary folder
    python -m tools.check_package .venv      use an environment that `make install-run` has created

Builds the wheel, installs it, and runs `face-mask predict`, `face-mask live` and `face-mask serve` once each. Needs
nothing but Python's standard library, on Linux, macOS and Windows.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGE = REPOSITORY / "docs/live_light.jpg"  # a photograph of the webcam page, with faces


def run(*command: str | Path, folder: Path = REPOSITORY) -> str:
    """Run a command and return its standard output. Raises CalledProcessError if it fails."""
    return subprocess.run([*map(str, command)], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def server(*command: str | Path, folder: Path) -> Iterator[str]:
    """Run a server; yields the address that its first line names."""
    process = subprocess.Popen([*map(str, command)], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()  # empty if it ends
        if "http://" not in line:
            raise SystemExit(f"check_package: {command} did not start: see its error above")
        yield line.split()[1]
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def scripts(environment: Path) -> Path:
    """The folder of an environment's commands."""
    return environment / ("Scripts" if sys.platform == "win32" else "bin")


def build(folder: Path) -> Path:
    """Build the wheel in `folder`."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, environment: Path | None, folder: Path) -> Path:
    """Install the wheel in an environment, a new one below `folder` if None; returns its folder of commands.

    By the pip of the Python that runs this: an environment by uv has none.
    """
    packages = ["--no-deps", "--force-reinstall", str(wheel)]
    if environment is None:
        environment = folder / "environment"
        venv.create(environment, symlinks=sys.platform != "win32")  # as `python -m venv` does
        packages = ["--requirement", "requirements-run.lock", str(wheel)]
    # By its absolute path, but not resolved: an environment's Python is a link.
    commands = scripts(environment.absolute())
    run(sys.executable, "-m", "pip", "--python", commands / "python", "install", "--quiet", *packages)
    return commands


def use(command: Path, folder: Path) -> None:
    """Run each subcommand of `face-mask` once. Raises an error if one fails."""
    (image,) = json.loads(run(command, "predict", IMAGE, "--format", "json", folder=folder))
    print(f"check_package: predict: {len(image['faces'])} faces")
    with server(command, "live", "--port", "0", "--no-open", folder=folder) as address:
        assert b"<title>" in urllib.request.urlopen(address, timeout=20).read()
    with server(command, "serve", "--port", "0", folder=folder) as address:
        rows = {"dataframe_records": [{"image": base64.b64encode(IMAGE.read_bytes()).decode()}]}
        body = json.dumps({**rows, "params": {"faces": "auto"}}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        (row,) = json.loads(urllib.request.urlopen(request, timeout=20).read())["predictions"]
    assert row["error"] is None, row
    print(f"check_package: live and serve answered; {row['class']}, {row['probability']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.check_package", description="Build and use the package.")
    parser.add_argument("environment", type=Path, nargs="?", help="an environment with the packages of the lock")
    environment = parser.parse_args().environment
    started = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        wheel = build(folder)
        print(f"check_package: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB")
        commands = install(wheel, environment, folder)
        use(commands / "face-mask", folder)
    print(f"check_package: all good in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
