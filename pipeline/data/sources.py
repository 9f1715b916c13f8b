"""Where the pictures come from: Kaggle, a zip, a folder, or drawn. Whichever it is, one zip and what is known of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import NoReturn

from tqdm import tqdm

from pipeline import atomic
from pipeline.data import archives, kaggle_client
from pipeline.data.packing import LABELS
from pipeline.errors import UserError

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold; the true ones would change its bytes on each machine


def make_archive(archive: Path, source: str, kaggle: str, path: str | None, per_class: int, seed: int) -> dict:
    """Write `archive` from the source and return its provenance; the former `archive` stays until all is well.

    `source` is kaggle (the data set `kaggle`), archive or folder (at `path`), or synthetic (`per_class` and `seed`).
    The provenance has no times and no folders: {source, name, with_mask, without_mask, bytes, sha256}. UserError
    where the source cannot be had or is not to be trusted, and where the disk is full.
    """
    name = name_of(source, kaggle, path, per_class, seed)
    with replacing(archive) as aside:
        if source == "kaggle":
            kaggle_client.download(kaggle, aside)
        elif source == "archive":
            copy_archive(located(path), aside)
        elif source == "folder":
            pack_folder(located(path), aside)
        else:
            from pipeline.data import synthetic

            synthetic.write_archive(aside, per_class, seed)
        pictures, ignored = archives.inspect(aside, called=f"{source} {name}")
        report_ignored(ignored, name)
        counts = {label: len(pictures[label]) for label in LABELS[::-1]}
        return {"source": source, "name": name, **counts, "bytes": aside.stat().st_size, "sha256": sha256(aside)}


@contextmanager
def replacing(archive: Path) -> Iterator[Path]:
    """As `atomic.replacing`; UserError where the disk is full."""
    try:
        with atomic.replacing(archive) as aside:
            yield aside
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        free = shutil.disk_usage(archive.parent).free / 1e6
        raise UserError(
            f"the disk is too full for {archive} ({free:.0f} MB are free): free some room and run again"
        ) from None


def name_of(source: str, kaggle: str, path: str | None, per_class: int, seed: int) -> str:
    """What tells this source from others of its kind, without the folders above a file."""
    if source == "kaggle":
        return kaggle
    if source == "synthetic":
        return f"{per_class} a class, seed {seed}"
    return located(path).resolve().name


def located(path: str | None, section: str = "data") -> Path:
    """`section`.path as a path, from the repository root or absolute; UserError where it is not set."""
    if not path:
        raise UserError(f"{section}.path is not set: this {section}.source needs it in params.yaml")
    here = Path(path).expanduser()
    # `dvc exp run --temp` and `--queue` work in a copy of the repository, without what Git and DVC do not know.
    there = Path(os.environ.get("DVC_ROOT", ""), here)
    return there if there.exists() and not here.exists() else here


def already_there(archive: Path, provenance_path: Path, source: str, name: str) -> dict | None:
    """The recorded provenance, where it is of this source and name and `archive` still is, byte for byte, that one.

    Only of a zip from Kaggle: the other sources are cheap, or may have changed under the same name.
    """
    if source != "kaggle":
        return None
    try:
        recorded = json.loads(provenance_path.read_text(encoding="utf-8"))
        same = (recorded["source"], recorded["name"]) == (source, name)
        return recorded if same and recorded["sha256"] == sha256(archive) else None
    except (OSError, ValueError, KeyError, TypeError):  # missing, or no provenance: make it anew
        return None


def report_ignored(count: int, name: str, stage: str = "download") -> None:
    """Say so where files beside the pictures are left alone."""
    if count:
        print(f"{stage}: {count} files of {name} are no pictures and are left alone")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def copy_archive(path: Path, aside: Path, section: str = "data") -> None:
    """Copy a zip that is already on disk."""
    if not path.is_file():
        raise UserError(f"{section}.path = {path} is no file: name a zip, or set {section}.source to what it is")
    try:
        shutil.copyfile(path, aside)
    except PermissionError as error:
        raise UserError(f"{error.filename} cannot be read or written: mend its permissions") from None


def pack_folder(folder: Path, aside: Path) -> None:
    """Zip the pictures of with_mask/ and without_mask/ in `folder`; the same pictures give the same bytes.

    UserError where a class is missing, empty or unknown, a link leads out of the folder, or a file cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"data.path = {folder} is no folder: name one that holds {LABELS[1]}/ and {LABELS[0]}/")
    called = f"folder {folder.resolve().name}"
    labelled = [(PurePath(name).parent.as_posix().removeprefix("."), name) for name in files_below(folder)]
    pictures, ignored = archives.by_label(labelled, called)
    report_ignored(ignored, called)
    names = sorted(name for label in LABELS for name in pictures[label])
    files = ((name, read_picture(folder, name)) for name in tqdm(names, desc=called, unit="picture", delay=1))
    write_zip(aside, files, called)


def write_zip(aside: Path, files: Iterable[tuple[str, bytes]], called: str) -> None:
    """Zip (name, content) pairs in their order; nothing but these decides its bytes."""
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as zf:
        for name, content in files:
            entry = zipfile.ZipInfo(name, FIRST_DATE)
            entry.create_system = 3  # Unix, so that the mode below is one
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            try:
                zf.writestr(entry, content)
            except UnicodeEncodeError:
                raise UserError(f"{called}: {archives.shown(name)} is not Unicode: rename it") from None


def files_below(folder: Path) -> list[str]:
    """Names of all files below `folder`, relative to it, with slashes. Links to folders are refused, not followed."""

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): mend its permissions")

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        inside = Path(parent).relative_to(folder)
        folders[:] = [name for name in folders if not archives.is_litter(name)]
        for name in folders:
            if (Path(parent) / name).is_symlink():
                raise UserError(f"{folder / inside / name} is a link: put the folder itself there")
        found += [(inside / name).as_posix() for name in files]
    return found


def read_picture(folder: Path, name: str) -> bytes:
    """One picture's bytes; UserError where it is a link that leaves the folder, no regular file, or unreadable."""
    path = folder / name
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(folder.resolve()):
            raise UserError(f"{path} is a link that leaves the folder: put the picture itself there")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a named pipe would be read for ever
            raise UserError(f"{path} is no regular file: take it out of the folder")
        if status.st_size > archives.MAX_MEMBER_BYTES:
            raise UserError(f"{path} has {status.st_size} bytes, more than a picture has: take it out of the folder")
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}): mend it or take it out of the folder") from None
