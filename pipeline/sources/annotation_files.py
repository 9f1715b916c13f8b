"""Parsing of one annotation file, PASCAL VOC (XML) or YOLO (text). The files are untrusted."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

import yaml

from face_mask.errors import UserError
from face_mask.schema import INCORRECT
from pipeline.sources import archives

# Class names in data sets, in lower case and with single underscores. "face" alone is ambiguous.
SYNONYMS = {
    "with_mask": ("with_mask", "mask", "masked", "face_mask", "wearing_mask"),
    "without_mask": ("without_mask", "no_mask", "nomask", "unmasked", "no_face_mask"),
    INCORRECT: (
        "incorrect", "incorrect_mask", "mask_incorrect", "mask_weared_incorrect", "mask_weared_incorrectly",
        "mask_worn_incorrect", "mask_worn_incorrectly", "with_incorrect_mask",
    ),
}  # fmt: skip
LABEL_OF = {name: label for label, names in SYNONYMS.items() for name in names}

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Face:
    """An annotated face."""

    label: str  # with_mask, without_mask or incorrect
    box: Box | None = None  # in pixels of the upright image, or relative to its sides; None: the whole image is a face
    relative: bool = False  # whether the box is relative, 0…1


def label_of(name: str) -> str | None:
    """The label that a data set's class name stands for; None if it is unknown or ambiguous."""
    return LABEL_OF.get(re.sub(r"[\s_-]+", "_", name.strip().lower()).strip("_"))


def parse_label(name: str, where: str) -> str:
    """The label that a class name stands for. Raises UserError, which says `where`, if it is unknown."""
    label = label_of(name)
    if label is None:
        valid = ", ".join(names[0] for names in SYNONYMS.values())
        raise UserError(
            f"{where} has a face of the unknown class {archives.quoted(name)}: use {valid}, or a common synonym"
        )
    return label


def read_voc(content: bytes, where: str) -> tuple[tuple[Face, ...], tuple[int, int] | None, str]:
    """Parse a VOC file: its faces, the image's width and height if stated, and the image's file name.

    A box's corners are taken as edges, so its width is xmax - xmin. Raises UserError if the XML is invalid or hostile,
    a corner is not a number, or a class is unknown.
    """
    root = parse_xml(content, where)
    faces = []
    for item in root.iter("object"):
        box = item.find("bndbox")
        left, top, right, bottom = (number(box, side, where) for side in ("xmin", "ymin", "xmax", "ymax"))
        faces.append(Face(parse_label(item.findtext("name") or "", where), (left, top, right, bottom)))
    width, height = (int(number(root.find("size"), side, where, missing=0)) for side in ("width", "height"))
    stated = (width, height) if width > 0 and height > 0 else None  # some tools write 0 for unknown
    return tuple(faces), stated, root.findtext("filename") or ""


def parse_xml(content: bytes, where: str) -> Element:
    """The root element. Raises UserError if it is not valid XML, or declares a document type (and thus entities)."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise UserError(f"{where} declares a document type, as attacks do: {archives.REMEDY}") from None
    except (ParseError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        raise UserError(f"{where} is not valid XML ({error}): fix or remove it") from None


def number(parent: Element | None, key: str, where: str, missing: float | None = None) -> float:
    """The finite number in a child element, or `missing` if given and there is no such child. Else raises UserError."""
    text = parent.findtext(key) if parent is not None else None
    if text is None and missing is not None:
        return missing
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} has no number in <{key}>: fix or remove it")
    return value


def read_yolo(content: bytes, classes: dict[int, str], where: str) -> tuple[Face, ...]:
    """Parse a YOLO file: lines of class number, centre x, centre y, width and height, relative to the image (0…1).

    Raises UserError if a line is anything else, or a class is unknown.
    """
    faces = []
    for line_number, line in enumerate(text_of(content, where).splitlines(), 1):
        if not line.strip():
            continue
        at = f"{where} line {line_number}"
        try:
            kind, x, y, w, h = (float(part) for part in line.split())
            if not all(map(math.isfinite, (kind, x, y, w, h))):
                raise ValueError
        except ValueError:
            raise UserError(f"{at} is not class, x, y, width, height: fix or remove it") from None
        if kind not in classes:
            raise UserError(f"{at} has class {kind:g}, which is not in the list of class names: fix it")
        label = parse_label(classes[int(kind)], at)
        faces.append(Face(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), relative=True))
    return tuple(faces)


class AliasFound(Exception):
    """A YAML file has an alias or a merge key."""


class PlainLoader(yaml.BaseLoader):
    """Reads every scalar as text and raises AliasFound at an alias or a merge key."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise AliasFound
        node = super().compose_node(parent, index)
        if index is None and isinstance(parent, yaml.MappingNode) and node.value == "<<":  # index: None for a key
            raise AliasFound
        return node


def read_class_names(content: bytes, is_yaml: bool, where: str) -> dict[int, str]:
    """Parse class number → name, from one name per line or `names` of a data.yaml. Raises UserError if it has none."""
    text = text_of(content, where)
    if not is_yaml:
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    try:
        names = yaml.load(text, PlainLoader)["names"]
        if not isinstance(names, dict | list):
            raise TypeError
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(key): value for key, value in pairs if isinstance(value, str)}
    except AliasFound:
        raise UserError(
            f"{where} has an alias (*) or a merge key (<<), by which a small file can unfold to gigabytes: write the"
            " class names out"
        ) from None
    except (yaml.YAMLError, RecursionError, KeyError, TypeError, ValueError):
        raise UserError(f"{where} has no list `names` of class names: add one") from None


def text_of(content: bytes, where: str) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises UserError if it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where} is not UTF-8 text: save it as UTF-8") from None
