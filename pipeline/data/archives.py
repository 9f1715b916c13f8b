"""Zip archives that nobody has vouched for: looked through before anything in them is used, and never unpacked."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.data.packing import LABELS
from pipeline.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 64 << 20  # a 50-megapixel JPEG, the largest picture that is decoded, is half of it
MAX_TOTAL_BYTES = 64 << 30
MAX_RATIO = 100  # pictures hardly compress; deflate reaches 1032, and that is what a bomb is made of
RATIO_MATTERS_FROM = 256 << 20  # bytes unpacked: a few flat drawings saved as BMP compress well and harm nobody
LOCAL_HEADER_BYTES = 30  # of every member, before its name and its content
TRUSTED = "take the archive from a source you trust"
# What zipfile raises on damaged or hostile bytes, besides its own BadZipFile.
DAMAGE = (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, zlib.error, EOFError, OverflowError)


def list_pictures(path: str | Path, called: str | None = None) -> dict[str, list[str]]:
    """Label → sorted member names of its pictures, in the archive at `path`; `called` is its name in messages.

    A picture's label is the folder it lies in, wherever that is in the tree. UserError where the archive is missing,
    damaged or hostile (see `refuse_hostile`), or where a class is missing, empty or unknown.
    """
    return inspect(path, called)[0]


def inspect(path: str | Path, called: str | None = None) -> tuple[dict[str, list[str]], int]:
    """The same, and the number of files that are no pictures and are left alone."""
    called = called or str(path)
    names = file_names(path, called)
    return by_label(((PurePosixPath(name.replace("\\", "/")).parent.name, name) for name in names), called)


def file_names(path: str | Path, called: str, stage: str = "download", section: str = "data") -> list[str]:
    """Names of all files in the archive at `path`; UserError where it is missing, damaged or hostile.

    `stage` writes the archive and `section` of params.yaml says from what: messages name them.
    """
    try:
        with zipfile.ZipFile(path) as zf:
            members = zf.infolist()
            refuse_hostile(members, zf.start_dir, called)
    except FileNotFoundError:
        raise UserError(
            f"{called} is missing: run `dvc repro {stage}`, or correct {section}.path in params.yaml"
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{called} cannot be read ({error.strerror}): name a zip that you may read") from None
    except DAMAGE as error:
        raise UserError(f"{called} is no zip archive, or a damaged one ({error}): download it again") from None
    return [member.filename for member in members if not member.is_dir()]


def refuse_hostile(members: list[zipfile.ZipInfo], contents_end: int, called: str) -> None:
    """UserError where a member could do harm, or where all together would, by what the central directory says.

    Refused: names that climb out or are absolute, control characters in names, links and devices, encryption, members
    that overlap or come twice, unusual compression, and sizes that only a bomb has. `contents_end` is where the
    members' bytes end and the central directory starts. A declared size may be a lie: `read_member` holds to it.
    """
    if len(members) > MAX_MEMBERS:
        raise UserError(f"{called} has {len(members)} members, more than {MAX_MEMBERS}: {TRUSTED}")
    seen = set()
    for member in members:
        fault = harm(member)
        if not fault and member.filename in seen:
            fault = "is there twice"
        if fault:
            raise UserError(f"{called}: member {shown(member.orig_filename)} {fault}: {TRUSTED}")
        seen.add(member.filename)

    total = sum(member.file_size for member in members)
    packed = max(contents_end, 1)
    if total > MAX_TOTAL_BYTES or (total > RATIO_MATTERS_FROM and total > MAX_RATIO * packed):
        raise UserError(f"{called} is a bomb: {packed} bytes would unpack to {total}: {TRUSTED}")
    in_order = sorted(members, key=lambda member: member.header_offset)
    next_start = contents_end
    for member in reversed(in_order):
        if member.header_offset + LOCAL_HEADER_BYTES + member.compress_size > next_start:
            raise UserError(f"{called}: member {shown(member.filename)} overlaps what follows it: {TRUSTED}")
        next_start = member.header_offset
    if next_start < 0:  # zipfile would seek there
        raise UserError(f"{called}: its members start before it does, so it was cut or spliced: download it again")


def harm(member: zipfile.ZipInfo) -> str | None:
    """What is wrong with one member, as the rest of a sentence; None where nothing is."""
    # orig_filename, since zipfile cuts `filename` at a NUL; old Windows tools write backslashes.
    name = member.orig_filename.replace("\\", "/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in name.split("/"):
        return "climbs out of the archive"
    if not name or re.search(r"[\x00-\x1f\x7f]", name):
        return "has no printable name"
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is no regular file"
    if member.flag_bits & 0x41:  # bit 0: encrypted, bit 6: strongly so
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {member.compress_type}, not stored or deflated"
    if member.file_size > MAX_MEMBER_BYTES:
        return f"unpacks to {member.file_size} bytes, more than a picture has"
    return None


def by_label(labelled: Iterable[tuple[str, str]], called: str) -> tuple[dict[str, list[str]], int]:
    """(label, name) pairs of files as label → sorted names of pictures, and the number of files left alone.

    What operating systems leave behind is passed over. UserError where a class is missing, empty or unknown.
    """
    found: dict[str, list[str]] = {}
    others: dict[str, int] = {}
    for label, name in labelled:
        if is_litter(name):
            continue
        if PurePosixPath(name).suffix.lower() in SUFFIXES:
            found.setdefault(label, []).append(name)
        else:
            others[label] = others.get(label, 0) + 1
    for label in sorted(found.keys() - set(LABELS)):
        where = f"the folder {shown(label)}, which is no class" if label else "no class folder"
        raise UserError(
            f"{called}: {len(found[label])} pictures lie in {where}, the first is {shown(min(found[label]))}:"
            f" put them in {LABELS[1]}/ or {LABELS[0]}/, or take them out"
        )
    for label in LABELS:
        if label not in found:
            has = f"only files that are no pictures ({others[label]})" if others.get(label) else "no pictures"
            raise UserError(f"{called} has {has} in a folder {label}/: it needs both {LABELS[1]}/ and {LABELS[0]}/")
    return {label: sorted(found[label]) for label in LABELS}, sum(others.values())


def is_litter(name: str) -> bool:
    """Whether a file is what macOS and Windows scatter about, or hidden."""
    parts = name.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") and part != "." for part in parts)
    return hidden or "__MACOSX" in parts or parts[-1].lower() in ("thumbs.db", "desktop.ini")


def shown(name: str) -> str:
    """A name out of an archive, safe to print: quoted, with escapes, and cut short."""
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")


def read_member(zf: zipfile.ZipFile, name: str) -> bytes:
    """One member's bytes, no more than it declares; zipfile.BadZipFile where it is damaged or longer than that."""
    info = zf.getinfo(name)
    if info.file_size > MAX_MEMBER_BYTES:
        raise zipfile.BadZipFile(f"{info.file_size} bytes are too many")
    try:
        with zf.open(info) as file:
            # zipfile stops at the declared size and checks the CRC there, so a longer content fails the CRC.
            content = file.read(info.file_size + 1)
    except zipfile.BadZipFile:
        raise
    except (*DAMAGE, RuntimeError) as error:
        raise zipfile.BadZipFile(f"damaged: {error}") from None
    if len(content) != info.file_size:
        raise zipfile.BadZipFile(f"{len(content)} bytes instead of {info.file_size}")
    return content
