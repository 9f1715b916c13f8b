"""The annotated faces of an archive of images: from VOC or YOLO files, or from the folder that contains an image.

The archive is untrusted and never unpacked to disk.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from face_mask.errors import UserError
from face_mask.schema import IMAGE_SUFFIXES
from pipeline.sources import annotation_files, archives
from pipeline.sources.annotation_files import Face

MAX_BYTES = 1 << 20  # of one annotation; one with many faces has some 10 kB
MAX_CLASS_LIST_BYTES = 1 << 16  # of a list of class names
MAX_FACES = 2000  # of one image, all of which are cropped at once, with 0.4 MB each at 128 pixels


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its faces. `image` is None if the annotation's image is not in the archive."""

    name: str  # the archive member of the image, or of the annotation if there is no image
    image: str | None
    faces: tuple[Face, ...]
    size: tuple[int, int] | None = None  # width and height of the image according to the annotation, if stated


@dataclass(frozen=True)
class Contents:
    """The annotated images of an archive."""

    kind: str  # voc, yolo or folders
    images: list[AnnotatedImage]  # sorted by name
    not_annotated: int  # number of images without an annotation
    other_files: int  # number of files that are neither an image nor an annotation


def read(path: str | Path, display_name: str | None = None) -> Contents:
    """Read the annotations of the archive at `path`; `display_name` is for messages.

    The format is VOC if there are .xml files, YOLO if there are .txt files named like images and a list of class
    names; otherwise each image is one face whose label is the folder's name. Raises UserError if the archive is
    missing, damaged or hostile, has no annotated face, an invalid annotation or an unknown class.
    """
    display_name = display_name or str(path)
    names = [
        n
        for n in archives.file_names(path, display_name, "unseen_download", "unseen")
        if not archives.is_system_file(n)
    ]
    members = sorted(name for name in names if suffix(name) in IMAGE_SUFFIXES)
    if not members:
        raise UserError(f"{display_name} has no images: choose another data set in the section unseen of params.yaml")
    stems = {stem(name) for name in members}
    xml = sorted(name for name in names if suffix(name) == ".xml")
    txt = sorted(name for name in names if suffix(name) == ".txt" and stem(name) in stems)
    lists = sorted((name for name in names if is_class_list(name)), key=lambda name: (name.count("/"), name))
    if xml:
        kind, used, images = "voc", xml, read_annotations(path, xml, members, None, display_name)
    elif txt and lists:
        kind, used, images = "yolo", [*txt, lists[0]], read_annotations(path, txt, members, lists[0], display_name)
    elif txt and not any(annotation_files.label_of(folder(name)) for name in members):
        raise UserError(
            f"{display_name} has YOLO annotations but no class names: add a classes.txt with one class per line"
        )
    else:
        kind, used, images = "folders", [], label_by_folder(members, display_name)
    if not any(annotated.faces for annotated in images):
        raise UserError(
            f"{display_name} has annotations, but not of any face: choose another data set in the section unseen of"
            " params.yaml"
        )
    with_annotation = {annotated.image for annotated in images}
    not_annotated = sum(name not in with_annotation for name in members)
    return Contents(kind, images, not_annotated, len(names) - len(members) - len(used))


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def folder(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).parent.name


def is_class_list(name: str) -> bool:
    """Whether a file is one in which YOLO tools keep the class names."""
    last = PurePosixPath(name).name.lower()
    return last in ("classes.txt", "data.yaml", "data.yml") or last.endswith(".names")


def label_by_folder(members: list[str], display_name: str) -> list[AnnotatedImage]:
    """Label each image as one face of its folder's class."""
    found = []
    for name in members:
        label = annotation_files.label_of(folder(name))
        if label is None:
            parent = (
                f"the folder {archives.quoted(folder(name))}, which is not a class" if folder(name) else "no folder"
            )
            raise UserError(
                f"{display_name}: {archives.quoted(name)} is in {parent}: move it to with_mask/, without_mask/"
                " or incorrect/, or add VOC or YOLO annotations"
            )
        found.append(AnnotatedImage(name, name, (Face(label),)))
    return found


def read_annotations(
    path: str | Path, annotations: list[str], members: list[str], class_list: str | None, display_name: str
) -> list[AnnotatedImage]:
    """Read VOC files or, with a list of class names, YOLO files, and match them to images; sorted by name.

    An image is matched by the stem of its annotation's name, or of the file name in the annotation: the suffixes may
    differ. The faces of several annotations of one image are merged.
    """
    by_stem: dict[str, list[str]] = {}
    for name in members:
        by_stem.setdefault(stem(name), []).append(name)
    found: dict[str, AnnotatedImage] = {}
    with zipfile.ZipFile(path) as zf:
        if class_list:
            where = f"{display_name}: {archives.quoted(class_list)}"
            is_yaml = suffix(class_list) in (".yaml", ".yml")
            content = read_small(zf, class_list, where, MAX_CLASS_LIST_BYTES)
            classes = annotation_files.read_class_names(content, is_yaml, where)
        for name in annotations:
            where = f"{display_name}: {archives.quoted(name)}"
            content = read_small(zf, name, where)
            size, file_name = None, ""
            if class_list:
                faces = annotation_files.read_yolo(content, classes, where)
            else:
                faces, size, file_name = annotation_files.read_voc(content, where)
            image = nearest_image(name, by_stem.get(stem(name)) or by_stem.get(stem(file_name)) or (), where)
            if earlier := found.get(image or name):
                faces = earlier.faces + faces
            if len(faces) > MAX_FACES:
                raise UserError(
                    f"{where} brings its image to more than {MAX_FACES} faces, too many to be cropped at once: fix or"
                    " remove it"
                )
            found[image or name] = AnnotatedImage(image or name, image, faces, size)
    return [found[name] for name in sorted(found)]


def nearest_image(annotation: str, candidates: Iterable[str], where: str) -> str | None:
    """Choose the image nearest in the tree, as images/train/1.jpg is to labels/train/1.txt; None without candidates.

    Raises UserError if two are equally near.
    """
    here = set(PurePosixPath(annotation).parent.parts)

    def shared(image: str) -> int:
        return len(here.intersection(PurePosixPath(image).parent.parts))

    nearest = sorted(candidates, key=shared, reverse=True)
    if len(nearest) > 1 and shared(nearest[0]) == shared(nearest[1]):
        two = " and ".join(archives.quoted(name) for name in nearest[:2])
        raise UserError(f"{where} may belong to {two}: rename one of them")
    return nearest[0] if nearest else None


def read_small(zf: zipfile.ZipFile, name: str, where: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Read an annotation or a list of class names. Raises UserError if it is too large or damaged."""
    if zf.getinfo(name).file_size > max_bytes:
        raise UserError(f"{where} has more than {max_bytes} bytes, too many for an annotation: remove it")
    try:
        return archives.read_member(zf, name)
    except zipfile.BadZipFile as error:
        raise UserError(f"{where} cannot be read ({error}): download the archive again") from None
