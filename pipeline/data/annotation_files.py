"""The faces that one annotation file names: PASCAL VOC's XML, or YOLO's lines. Neither is trusted."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

import yaml

from pipeline.data import archives
from pipeline.errors import UserError

INCORRECT = "incorrect"  # a mask that leaves nose or mouth free: neither class, so no part of an accuracy
# Names that data sets give the three, in lower case and with single underscores. "face" alone could be any of them.
CALLED = {
    "with_mask": ("with_mask", "mask", "masked", "face_mask", "wearing_mask"),
    "without_mask": ("without_mask", "no_mask", "nomask", "unmasked", "no_face_mask"),
    INCORRECT: (
        "incorrect", "incorrect_mask", "mask_incorrect", "mask_weared_incorrect", "mask_weared_incorrectly",
        "mask_worn_incorrect", "mask_worn_incorrectly", "with_incorrect_mask",
    ),
}  # fmt: skip
LABEL_OF = {name: label for label, names in CALLED.items() for name in names}

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Face:
    label: str  # with_mask, without_mask or incorrect
    box: Box | None = None  # in pixels of the upright picture, or in shares of its sides; None: the picture is the face
    relative: bool = False  # whether in shares


def label_of(name: str) -> str | None:
    """The label that a data set's name for a class means, None where that is not clear."""
    return LABEL_OF.get(re.sub(r"[\s_-]+", "_", name.strip().lower()).strip("_"))


def known(name: str, where: str) -> str:
    """The label of a face's class name; UserError, which says `where`, if it is none."""
    label = label_of(name)
    if label is None:
        takes = ", ".join(names[0] for names in CALLED.values())
        raise UserError(f"{where} has a face of class {archives.shown(name)}: it takes {takes}, or a clear synonym")
    return label


def read_voc(content: bytes, where: str) -> tuple[tuple[Face, ...], tuple[int, int] | None, str]:
    """The faces of a VOC file, the width and height its boxes are meant for, if stated, and the picture's file name.

    A box's corners are taken as edges, so its width is xmax - xmin. UserError where the XML is damaged or hostile, a
    corner is no number, or a class is unknown.
    """
    root = parse_xml(content, where)
    faces = []
    for thing in root.iter("object"):
        box = thing.find("bndbox")
        left, top, right, bottom = (number(box, side, where) for side in ("xmin", "ymin", "xmax", "ymax"))
        faces.append(Face(known(thing.findtext("name") or "", where), (left, top, right, bottom)))
    width, height = (int(number(root.find("size"), side, where, missing=0)) for side in ("width", "height"))
    stated = (width, height) if width > 0 and height > 0 else None  # some tools write 0 where they do not know
    return tuple(faces), stated, root.findtext("filename") or ""


def parse_xml(content: bytes, where: str) -> Element:
    """The root element; UserError where it is no XML, or XML that declares a document type and with it entities."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise UserError(f"{where} declares a document type, as attacks do: {archives.TRUSTED}") from None
    except (ParseError, ValueError, LookupError) as error:  # the last two: an encoding that there is not
        raise UserError(f"{where} is no valid XML ({error}): mend it or take it out") from None


def number(parent: Element | None, key: str, where: str, missing: float | None = None) -> float:
    """The finite number in a child element, `missing` where there is no such child and that is given; or UserError."""
    text = parent.findtext(key) if parent is not None else None
    if text is None and missing is not None:
        return missing
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} has no number in <{key}>: mend it or take it out")
    return value


def read_yolo(content: bytes, classes: dict[int, str], where: str) -> tuple[Face, ...]:
    """The faces of a YOLO file: lines of class number, centre x, centre y, width and height, the four in shares.

    UserError where a line is anything else, or a class unknown.
    """
    faces = []
    for place, line in enumerate(text_of(content, where).splitlines(), 1):
        if not line.strip():
            continue
        at = f"{where} line {place}"
        try:
            kind, x, y, w, h = (float(part) for part in line.split())
            if not all(map(math.isfinite, (kind, x, y, w, h))):
                raise ValueError
        except ValueError:
            raise UserError(f"{at} is not class, x, y, width, height: mend it or take it out") from None
        if kind not in classes:
            raise UserError(f"{at} is of class {kind:g}, which the list of class names does not have: mend it")
        label = known(classes[int(kind)], at)
        faces.append(Face(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), relative=True))
    return tuple(faces)


def read_class_names(content: bytes, is_yaml: bool, where: str) -> dict[int, str]:
    """Class number → name, from a name a line, or from `names` of a data.yaml; UserError where it has none."""
    text = text_of(content, where)
    if not is_yaml:
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    try:
        names = yaml.safe_load(text)["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(key): value for key, value in pairs if isinstance(value, str)}
    except (yaml.YAMLError, RecursionError, KeyError, TypeError, ValueError):
        raise UserError(f"{where} has no list `names` of class names: add it") from None


def text_of(content: bytes, where: str) -> str:
    """UTF-8 text, with or without a byte order mark; UserError where it is not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where} is no UTF-8 text: save it as such") from None
