"""Which faces do the pictures of an archive show? As VOC or YOLO files say, or the folder that a picture lies in.

The archive is not unpacked, and nobody has vouched for what it holds.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.data import annotation_files, archives
from pipeline.data.annotation_files import Face
from pipeline.errors import UserError

MAX_BYTES = 1 << 20  # of one annotation; that of a picture full of faces has some 10 kB


@dataclass(frozen=True)
class Annotated:
    """A picture and its faces. `picture` is None where the annotation's picture is not in the archive."""

    name: str  # of the picture's member, or of the annotation's where there is no picture
    picture: str | None
    faces: tuple[Face, ...]
    size: tuple[int, int] | None = None  # width and height that the boxes are meant for, where that is stated


@dataclass(frozen=True)
class Contents:
    kind: str  # voc, yolo or folders
    pictures: list[Annotated]  # sorted by name
    not_annotated: int  # pictures of which no annotation says anything
    others: int  # files that are neither picture nor annotation


def read(path: str | Path, called: str | None = None) -> Contents:
    """What the archive at `path` shows; `called` is its name in messages.

    With .xml files it is VOC; with .txt files named like pictures and a list of class names it is YOLO; otherwise each
    picture is one face and its folder is the label. UserError where the archive is missing, damaged or hostile, shows
    no face, an annotation is damaged, or a class is unknown.
    """
    called = called or str(path)
    names = [n for n in archives.file_names(path, called, "unseen_download", "unseen") if not archives.is_litter(n)]
    pictures = sorted(name for name in names if suffix(name) in archives.SUFFIXES)
    if not pictures:
        raise UserError(f"{called} holds no pictures: name another set in unseen.* of params.yaml")
    stems = {stem(name) for name in pictures}
    xml = sorted(name for name in names if suffix(name) == ".xml")
    txt = sorted(name for name in names if suffix(name) == ".txt" and stem(name) in stems)
    lists = sorted((name for name in names if is_class_list(name)), key=lambda name: (name.count("/"), name))
    if xml:
        kind, used, found = "voc", xml, annotated(path, xml, pictures, None, called)
    elif txt and lists:
        kind, used, found = "yolo", [*txt, lists[0]], annotated(path, txt, pictures, lists[0], called)
    elif txt and not any(annotation_files.label_of(folder(name)) for name in pictures):
        raise UserError(f"{called} has YOLO's .txt files but no class names: add a classes.txt with one a line")
    else:
        kind, used, found = "folders", [], by_folder(pictures, called)
    if not any(one.faces for one in found):
        raise UserError(f"{called} has annotations, but not of any face: name another set in unseen.* of params.yaml")
    seen = {one.picture for one in found}
    return Contents(kind, found, sum(name not in seen for name in pictures), len(names) - len(pictures) - len(used))


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def folder(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).parent.name


def is_class_list(name: str) -> bool:
    """Whether a file is where YOLO's tools keep the names of the classes."""
    last = PurePosixPath(name).name.lower()
    return last in ("classes.txt", "data.yaml", "data.yml") or last.endswith(".names")


def by_folder(pictures: list[str], called: str) -> list[Annotated]:
    """Every picture a face of its folder's class."""
    found = []
    for name in pictures:
        label = annotation_files.label_of(folder(name))
        if label is None:
            where = f"the folder {archives.shown(folder(name))}, which is no class" if folder(name) else "no folder"
            raise UserError(
                f"{called}: {archives.shown(name)} lies in {where}: put it in with_mask/, without_mask/ or incorrect/,"
                " or add VOC or YOLO annotations"
            )
        found.append(Annotated(name, name, (Face(label),)))
    return found


def annotated(
    path: str | Path, annotations: list[str], pictures: list[str], class_list: str | None, called: str
) -> list[Annotated]:
    """The pictures that VOC files or, with a list of class names, YOLO files are about, sorted by name.

    A picture is found by its annotation's stem, or by that of the file name in it: an annotation that says .jpg may
    lie beside a .png. The faces of several annotations of one picture are put together.
    """
    places: dict[str, list[str]] = {}
    for name in pictures:
        places.setdefault(stem(name), []).append(name)
    found: dict[str, Annotated] = {}
    with zipfile.ZipFile(path) as zf:
        if class_list:
            where = f"{called}: {archives.shown(class_list)}"
            is_yaml = suffix(class_list) in (".yaml", ".yml")
            classes = annotation_files.read_class_names(read_small(zf, class_list, where), is_yaml, where)
        for name in annotations:
            where = f"{called}: {archives.shown(name)}"
            content = read_small(zf, name, where)
            size, said = None, ""
            if class_list:
                faces = annotation_files.read_yolo(content, classes, where)
            else:
                faces, size, said = annotation_files.read_voc(content, where)
            picture = picture_of(name, places.get(stem(name)) or places.get(stem(said)) or (), where)
            if earlier := found.get(picture or name):
                faces = earlier.faces + faces
            found[picture or name] = Annotated(picture or name, picture, faces, size)
    return [found[name] for name in sorted(found)]


def picture_of(annotation: str, candidates: Iterable[str], where: str) -> str | None:
    """The picture nearest in the tree, as images/train/1.jpg is to labels/train/1.txt; None where there are none."""
    here = set(PurePosixPath(annotation).parent.parts)

    def shared(picture: str) -> int:
        return len(here.intersection(PurePosixPath(picture).parent.parts))

    nearest = sorted(candidates, key=shared, reverse=True)
    if len(nearest) > 1 and shared(nearest[0]) == shared(nearest[1]):
        two = " and ".join(archives.shown(name) for name in nearest[:2])
        raise UserError(f"{where} may be about {two}: give them different names")
    return nearest[0] if nearest else None


def read_small(zf: zipfile.ZipFile, name: str, where: str) -> bytes:
    """An annotation's bytes; UserError where they are too many or damaged."""
    if zf.getinfo(name).file_size > MAX_BYTES:
        raise UserError(f"{where} has more than {MAX_BYTES} bytes, too many for an annotation: take it out")
    try:
        return archives.read_member(zf, name)
    except zipfile.BadZipFile as error:
        raise UserError(f"{where} cannot be read ({error}): download the archive again") from None
