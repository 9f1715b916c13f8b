"""Files are written completely or not at all, and a command ends with one line on an error that a user can fix."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from face_mask import errors, files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.replacing(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert names(path.parent) == ["metrics.json"]


@pytest.mark.parametrize("collected", [True, False], ids=["collected", "zombie"])
def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path, collected: bool) -> None:
    path = tmp_path / "metrics [1].json"
    code = f"""
import time
from face_mask import files
with files.replacing({str(path)!r}) as aside:
    aside.write_text("half")
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(files.__file__).parents[1])
    while not names(tmp_path):
        time.sleep(0.05)
    with files.replacing(path) as aside:  # the other is still alive: what it writes is left alone
        aside.write_text("whole")
    assert names(tmp_path) == sorted([f".{process.pid}.{path.name}", path.name])
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if collected else os.WNOWAIT))
    files.write_text(path, "again")
    assert names(tmp_path) == [path.name]
    process.wait()


def test_a_leftover_of_a_process_that_cannot_be_asked_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(pid: int) -> psutil.Process:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", denied)
    leftover = tmp_path / ".1.a.csv"
    leftover.write_text("half")
    files.clear_leftovers(tmp_path / "a.csv")
    assert leftover.is_file()


def test_leftovers_of_nested_writes_and_of_recycled_process_ids_are_cleared(tmp_path: Path) -> None:
    path, dead = tmp_path / "images.zip", 2**22 + 1  # more than any process id of Linux
    alive = tmp_path / f".{os.getpid()}..{os.getppid()}.images.zip"
    kept = [alive, tmp_path / ".notes.images.zip", tmp_path / ".1x.images.zip"]
    nested = tmp_path / f".{dead}..{dead}.images.zip"
    recycled = tmp_path / f".{os.getpid()}.images.zip"  # written before this process existed
    half_dead = tmp_path / f".{os.getpid()}..{dead}.images.zip"
    for leftover in (*kept, nested, recycled, half_dead):
        leftover.write_text("half")
    os.utime(recycled, (0, 0))
    files.clear_leftovers(path)
    assert names(tmp_path) == sorted(one.name for one in (*kept, half_dead))


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "metrics.json", []
    monkeypatch.setattr(files, "flush", lambda one: flushed.append((one, path.exists())))
    files.write_text(path, "new")
    assert flushed == [(tmp_path / f".{os.getpid()}.metrics.json", False), (tmp_path, True)]


def test_a_refused_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise errors.UserError(f"{path.name} was not replaced")

    files.write_text(tmp_path / "metrics.json", "old")
    monkeypatch.setattr(files, "before_replacing", refuse)
    with pytest.raises(errors.UserError, match=r"metrics\.json was not replaced"):
        files.write_text(tmp_path / "metrics.json", "new")
    assert (tmp_path / "metrics.json").read_text() == "old" and names(tmp_path) == ["metrics.json"]
    with pytest.raises(errors.UserError), files.replacing(tmp_path / "figures" / "roc.svg") as aside:
        aside.parent.rmdir()  # as DVC does before it runs the stage again
        aside.write_text("new")


def test_a_folder_whose_successor_cannot_be_renamed_gets_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "images.npy", Path.replace
    path.mkdir()
    (path / "00000.npy").write_text("old")
    with pytest.raises(PermissionError), files.replacing(path) as aside:
        aside.mkdir()

        def refuse(self: Path, target: Path) -> Path:
            if self == aside:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
            return rename(self, target)

        monkeypatch.setattr(Path, "replace", refuse)
    assert names(tmp_path) == ["images.npy"] and (path / "00000.npy").read_text() == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_disk_is_one_line(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError(code, os.strerror(code), "metrics/cnn.json")

    with pytest.raises(SystemExit) as ended:
        errors.run(main)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert f"metrics/cnn.json: {os.strerror(code)}" in line


def test_a_bug_keeps_its_traceback() -> None:
    def main() -> None:
        raise OSError(errno.EBADF, "a bug")

    with pytest.raises(OSError, match="a bug"):
        errors.run(main)
