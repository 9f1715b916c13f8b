"""The sources of the training set (Kaggle, a zip, a folder, synthetic), each as one zip file with its provenance."""

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

from face_mask import files
from face_mask.errors import UserError
from face_mask.schema import LABELS
from pipeline.sources import archives, kaggle_client

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FIRST_DATE = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the earliest that a zip can hold; real dates would make its bytes differ between machines


def make_archive(archive: Path, source: str, kaggle: str, path: str | None, per_class: int, seed: int) -> dict:
    """Write `archive` from the source and return its provenance; a previous `archive` is replaced only on success.

    `source` is kaggle (the data set `kaggle`), archive or folder (at `path`), or synthetic (`per_class` and `seed`).
    The provenance has no times and no folders: {source, name, with_mask, without_mask, bytes, sha256}. Raises
    UserError if the source is unavailable, invalid or harmful, or the disk is full.
    """
    name = name_of(source, kaggle, path, per_class, seed)
    with replacing(archive) as aside:
        if source == "kaggle":
            kaggle_client.download(kaggle, aside)
        elif source == "archive":
            copy_archive(resolve_path(path), aside)
        elif source == "folder":
            pack_folder(resolve_path(path), aside)
        else:
            from pipeline.synthetic import faces

            faces.write_archive(aside, per_class, seed)
        images, ignored = archives.inspect(aside, display_name=f"{source} {name}")
        report_ignored(ignored, name)
        counts = {label: len(images[label]) for label in LABELS[::-1]}
        return {"source": source, "name": name, **counts, "bytes": aside.stat().st_size, "sha256": sha256(aside)}


@contextmanager
def replacing(archive: Path) -> Iterator[Path]:
    """As `files.replacing`, but raises UserError if the disk is full."""
    try:
        with files.replacing(archive) as aside:
            yield aside
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        free = shutil.disk_usage(archive.parent).free / 1e6
        raise UserError(
            f"the disk is too full for {archive} ({free:.0f} MB are free): free some space and run again"
        ) from None


def name_of(source: str, kaggle: str, path: str | None, per_class: int, seed: int) -> str:
    """Name the source: what distinguishes it from others of its kind, without the folders above a file."""
    if source == "kaggle":
        return kaggle
    if source == "synthetic":
        return f"{per_class} a class, seed {seed}"
    return resolve_path(path).resolve().name


def resolve_path(path: str | None, section: str = "data") -> Path:
    """Resolve `section`.path, absolute or relative to the repository root. Raises UserError if it is not set."""
    if not path:
        raise UserError(f"{section}.path is not set in params.yaml: this {section}.source needs it")
    given = Path(path).expanduser()
    # `dvc exp run --temp` and `--queue` work in a copy of the repository that lacks untracked files.
    in_root = Path(os.environ.get("DVC_ROOT", ""), given)
    return in_root if in_root.exists() and not given.exists() else given


def reusable_provenance(archive: Path, provenance_path: Path, source: str, name: str) -> dict | None:
    """Return the recorded provenance if it has this source and name and the digest of `archive`, else None.

    Only zips from Kaggle are reused: the other sources are cheap, or may have changed under the same name.
    """
    if source != "kaggle":
        return None
    try:
        recorded = json.loads(provenance_path.read_text(encoding="utf-8"))
        same = (recorded["source"], recorded["name"]) == (source, name)
        return recorded if same and recorded["sha256"] == sha256(archive) else None
    except (OSError, ValueError, KeyError, TypeError):  # missing or invalid
        return None


def report_ignored(count: int, name: str, stage: str = "download") -> None:
    """Print how many files are not images and are ignored, if any."""
    if count:
        print(f"{stage}: {count} files of {name} are not images and are ignored")


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def copy_archive(path: Path, aside: Path, section: str = "data") -> None:
    """Copy a zip file. Raises UserError if `path` is not a file or cannot be read."""
    if not path.is_file():
        raise UserError(f"{section}.path = {path} is not a file: set it to a zip file, or change {section}.source")
    try:
        shutil.copyfile(path, aside)
    except PermissionError as error:
        raise UserError(f"{error.filename} cannot be read or written: fix its permissions") from None


def pack_folder(folder: Path, aside: Path) -> None:
    """Zip the images of with_mask/ and without_mask/ in `folder`; the same images give the same bytes.

    Raises UserError if a class is missing, empty or unknown, a link leads out of the folder, or a file is unreadable.
    """
    if not folder.is_dir():
        raise UserError(
            f"data.path = {folder} is not a folder: set it to one that contains {LABELS[1]}/ and {LABELS[0]}/"
        )
    display_name = f"folder {folder.resolve().name}"
    labelled = [(PurePath(name).parent.as_posix().removeprefix("."), name) for name in files_below(folder)]
    images, ignored = archives.group_by_label(labelled, display_name)
    report_ignored(ignored, display_name)
    names = sorted(name for label in LABELS for name in images[label])
    files = ((name, read_image_file(folder, name)) for name in tqdm(names, desc=display_name, unit="image", delay=1))
    write_zip(aside, files, display_name)


def write_zip(aside: Path, files: Iterable[tuple[str, bytes]], display_name: str) -> None:
    """Zip (name, content) pairs in their order; the bytes of the zip depend on nothing else."""
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as zf:
        for name, content in files:
            entry = zipfile.ZipInfo(name, FIRST_DATE)
            entry.create_system = 3  # Unix, so that the mode below counts
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            try:
                zf.writestr(entry, content)
            except UnicodeEncodeError:
                raise UserError(
                    f"{display_name}: the file name {archives.quoted(name)} is not Unicode: rename it"
                ) from None


def files_below(folder: Path) -> list[str]:
    """List all files below `folder`, relative to it, with slashes. Raises UserError at a link to a folder."""

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): fix its permissions")

    found = []
    for parent, folders, file_names in os.walk(folder, onerror=refuse):
        inside = Path(parent).relative_to(folder)
        folders[:] = [name for name in folders if not archives.is_system_file(name)]
        for name in folders:
            if (Path(parent) / name).is_symlink():
                raise UserError(f"{folder / inside / name} is a link: replace it with the folder itself")
        found += [(inside / name).as_posix() for name in file_names]
    return found


def read_image_file(folder: Path, name: str) -> bytes:
    """Read an encoded image. Raises UserError if it is a link out of the folder, not a regular file, or unreadable."""
    path = folder / name
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            raise UserError(f"{path} is a link that leaves the folder: replace it with the image itself")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a named pipe would never end
            raise UserError(f"{path} is not a regular file: remove it from the folder")
        if status.st_size > archives.MAX_MEMBER_BYTES:
            raise UserError(f"{path} has {status.st_size} bytes, too many for an image: remove it from the folder")
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}): fix it or remove it from the folder") from None
