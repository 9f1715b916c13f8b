"""Untrusted zip archives: their contents are checked before anything in them is used, and never unpacked to disk."""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from face_mask.errors import UserError
from face_mask.schema import IMAGE_SUFFIXES, LABELS

MAX_MEMBERS = 1_000_000
MAX_DIRECTORY_BYTES = 256 << 20  # of the central directory, with 46 bytes and its name for each member
ENTRY_MARK = b"PK\x01\x02"  # begins each entry of the central directory
MAX_MEMBER_BYTES = 64 << 20  # twice the size of a 50-megapixel JPEG, the largest image that is decoded
MAX_TOTAL_BYTES = 64 << 30
MAX_RATIO = 100  # images hardly compress; deflate reaches 1032, which zip bombs exploit
RATIO_MATTERS_FROM = 256 << 20  # bytes unpacked: a few flat drawings saved as BMP compress well and are harmless
LOCAL_HEADER_BYTES = 30  # that precede the name and the content of each member
REMEDY = "take the archive from a source you trust"
# What zipfile raises on damaged or hostile bytes.
DAMAGE_ERRORS = (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, zlib.error, EOFError, OverflowError)


def list_images(path: str | Path, display_name: str | None = None) -> dict[str, list[str]]:
    """List the images of the archive at `path`: label → sorted member names. `display_name` is for messages.

    An image's label is the name of the folder that contains it, at any depth. Raises UserError if the archive is
    missing, damaged or hostile (see `check_members`), or if a class is missing, empty or unknown.
    """
    return inspect(path, display_name)[0]


def inspect(path: str | Path, display_name: str | None = None) -> tuple[dict[str, list[str]], int]:
    """As `list_images`; also returns the number of other files, which are ignored."""
    display_name = display_name or str(path)
    names = file_names(path, display_name)
    return group_by_label(((PurePosixPath(name.replace("\\", "/")).parent.name, name) for name in names), display_name)


def file_names(path: str | Path, display_name: str, stage: str = "download", section: str = "data") -> list[str]:
    """List all files in the archive at `path`. Raises UserError if it is missing, damaged or hostile.

    Messages name the `stage` that writes the archive and the `section` of params.yaml with its source.
    """
    try:
        with DirectoryReader(io.FileIO(path)) as file, zipfile.ZipFile(file) as zf:
            members = zf.infolist()
            check_members(members, zf.start_dir, display_name)
    except TooManyMembers as error:
        raise UserError(f"{display_name} has {error}: {REMEDY}") from None
    except FileNotFoundError:
        raise UserError(
            f"{display_name} is missing: run `dvc repro {stage}`, or correct {section}.path in params.yaml"
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(
            f"{display_name} cannot be read ({error.strerror}): choose a zip file that you have permission to read"
        ) from None
    except DAMAGE_ERRORS as error:
        remedy = f"run `dvc repro --force {stage}`" if display_name == str(path) else "download it again"
        raise UserError(f"{display_name} is not a zip archive or is damaged ({error}): {remedy}") from None
    return [member.filename for member in members if not member.is_dir()]


class TooManyMembers(Exception):
    """An archive has more members than MAX_MEMBERS, or a central directory of more than MAX_DIRECTORY_BYTES."""


class DirectoryReader(io.BufferedReader):
    """A zip file that refuses a huge central directory before zipfile builds an object of a kilobyte for each entry.

    zipfile reads the whole directory at once. Its entries are counted there, since the number that the archive states
    may be wrong. Raises TooManyMembers.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise TooManyMembers(f"a central directory of {size} bytes, more than {MAX_DIRECTORY_BYTES}")
        content = super().read(size)
        count = content.count(ENTRY_MARK)
        if count > MAX_MEMBERS:
            raise TooManyMembers(f"{count} members, more than {MAX_MEMBERS}")
        return content


def check_members(members: list[zipfile.ZipInfo], contents_end: int, display_name: str) -> None:
    """Raise UserError if the central directory shows that the archive may be harmful.

    Rejected are names that are absolute or lead out of the archive, control characters in names, links and devices,
    encryption, overlapping or duplicate members, unusual compression, and the sizes of a zip bomb. `contents_end` is
    the offset at which the central directory starts. Declared sizes may be wrong: `read_member` reads no more.
    """
    seen = set()
    for member in members:
        fault = find_fault(member)
        if not fault and member.filename in seen:
            fault = "occurs twice"
        if fault:
            raise UserError(f"{display_name}: member {quoted(member.orig_filename)} {fault}: {REMEDY}")
        seen.add(member.filename)

    total = sum(member.file_size for member in members)
    packed = max(contents_end, 1)
    if total > MAX_TOTAL_BYTES or (total > RATIO_MATTERS_FROM and total > MAX_RATIO * packed):
        raise UserError(f"{display_name} is a zip bomb ({packed} bytes would unpack to {total}): {REMEDY}")
    in_order = sorted(members, key=lambda member: member.header_offset)
    next_start = contents_end
    for member in reversed(in_order):
        if member.header_offset + LOCAL_HEADER_BYTES + member.compress_size > next_start:
            raise UserError(f"{display_name}: member {quoted(member.filename)} overlaps the next one: {REMEDY}")
        next_start = member.header_offset
    if next_start < 0:  # zipfile would seek there
        raise UserError(f"{display_name}: it lacks its first bytes, so it was cut or joined: download it again")


def find_fault(member: zipfile.ZipInfo) -> str | None:
    """Describe what is wrong with one member, as the rest of a sentence; None if nothing is."""
    # orig_filename, since zipfile cuts `filename` at a NUL; old Windows tools write backslashes.
    name = member.orig_filename.replace("\\", "/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in name.split("/"):
        return "leads out of the archive"
    if not name or re.search(r"[\x00-\x1f\x7f]", name):
        return "has no printable name"
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is not a regular file"
    if member.flag_bits & 0x41:  # bit 0: encrypted, bit 6: strongly so
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {member.compress_type}, not stored or deflated"
    if member.file_size > MAX_MEMBER_BYTES:
        return f"unpacks to {member.file_size} bytes, too many for an image"
    return None


def group_by_label(labelled: Iterable[tuple[str, str]], display_name: str) -> tuple[dict[str, list[str]], int]:
    """Group (label, name) pairs of files: label → sorted names of images, and the number of other files.

    Hidden and system files do not count. Raises UserError if a class is missing, empty or unknown.
    """
    found: dict[str, list[str]] = {}
    others: dict[str, int] = {}
    for label, name in labelled:
        if is_system_file(name):
            continue
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(label, []).append(name)
        else:
            others[label] = others.get(label, 0) + 1
    for label in sorted(found.keys() - set(LABELS)):
        where = f"the folder {quoted(label)}, which is not a class" if label else "no class folder"
        raise UserError(
            f"{display_name}: {len(found[label])} images are in {where}, the first is {quoted(min(found[label]))}:"
            f" move them to {LABELS[1]}/ or {LABELS[0]}/, or remove them"
        )
    for label in LABELS:
        if label not in found:
            has = f"only files that are not images ({others[label]})" if others.get(label) else "no images"
            raise UserError(
                f"{display_name} has {has} in a folder {label}/: it needs both {LABELS[1]}/ and {LABELS[0]}/"
            )
    return {label: sorted(found[label]) for label in LABELS}, sum(others.values())


def is_system_file(name: str) -> bool:
    """Whether a file is hidden, or one that macOS or Windows creates by itself."""
    parts = name.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") and part != "." for part in parts)
    return hidden or "__MACOSX" in parts or parts[-1].lower() in ("thumbs.db", "desktop.ini")


def quoted(name: str) -> str:
    """Quote a name from an archive so that it is safe to print: with escapes, and shortened."""
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")


def read_member(zf: zipfile.ZipFile, name: str) -> bytes:
    """Read one member. Raises zipfile.BadZipFile if it is damaged, too large, or longer than its declared size."""
    info = zf.getinfo(name)
    if info.file_size > MAX_MEMBER_BYTES:
        raise zipfile.BadZipFile(f"{info.file_size} bytes are too many")
    try:
        with zf.open(info) as file:
            # zipfile stops at the declared size and checks the CRC there, so longer content fails the CRC check.
            content = file.read(info.file_size + 1)
    except zipfile.BadZipFile:
        raise
    except (*DAMAGE_ERRORS, RuntimeError) as error:
        raise zipfile.BadZipFile(f"damaged: {error}") from None
    if len(content) != info.file_size:
        raise zipfile.BadZipFile(f"{len(content)} bytes instead of {info.file_size}")
    return content
