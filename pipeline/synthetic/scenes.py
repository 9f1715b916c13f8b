"""Synthetic scenes of several faces with VOC annotations, like a data set for detection. For demos and tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import numpy as np

from face_mask.schema import LABELS
from pipeline.core.parallel import ordered_map
from pipeline.synthetic import faces

CELL, COLUMNS, ROWS = 168, 3, 2  # a scene has room for COLUMNS × ROWS people
FACES = (2, 6)  # at least and at most
INCORRECT_FRACTION = 0.15  # of the faces, whose mask is worn incorrectly
# The seeds of synthetic training images are below 2**31, so no scene contains one of those.
FIRST_SEED = 2**31


def files(scenes: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield archive members (name, content), alternately images/scene_1.jpg, annotations/scene_1.xml, …"""
    for number, (image, annotation) in enumerate(ordered_map(partial(draw, seed=seed), range(scenes)), 1):
        yield f"images/scene_{number}.jpg", image
        yield f"annotations/scene_{number}.xml", annotation


def draw(index: int, seed: int) -> tuple[bytes, bytes]:
    """Draw one scene as JPEG, and its VOC annotation. Some faces are small; a lowered mask is worn incorrectly."""
    rng = np.random.default_rng([seed, index])
    side = COLUMNS * CELL
    scene = faces.draw_background(rng, side).crop((0, 0, side, ROWS * CELL))
    objects = []
    for cell in sorted(rng.permutation(COLUMNS * ROWS)[: rng.integers(FACES[0], FACES[1] + 1)].tolist()):
        incorrect = rng.random() < INCORRECT_FRACTION
        label = "without_mask" if incorrect else faces.pick(rng, LABELS)
        number = first_number(COLUMNS * ROWS * index + cell, seed, label, incorrect)
        size = int(rng.integers(CELL // 3, CELL + 1))
        person, box = faces.draw_with_box(FIRST_SEED + seed, label, number, size)
        x, y = (int(rng.integers(0, CELL - size + 1)) + CELL * place for place in (cell % COLUMNS, cell // COLUMNS))
        scene.paste(person, (x, y))
        corners = [round(edge + shift) for edge, shift in zip(box, (x, y, x, y), strict=True)]
        objects.append(voc_object("mask_weared_incorrect" if incorrect else label, corners))
    buffer = io.BytesIO()
    scene.save(buffer, "JPEG", quality=92)
    size_tag = f"<size><width>{scene.width}</width><height>{scene.height}</height><depth>3</depth></size>"
    lines = [f"<filename>scene_{index + 1}.jpg</filename>", size_tag, *objects]
    return buffer.getvalue(), "\n".join(["<annotation>", *lines, "</annotation>", ""]).encode()


def first_number(place: int, seed: int, label: str, incorrect: bool) -> int:
    """The index of the face for a place: the first of 1000 that has a lowered mask if `incorrect`, else none."""
    numbers = range(1000 * place, 1000 * (place + 1))
    lowered = (faces.variant(FIRST_SEED + seed, label, number) == "lowered mask" for number in numbers)
    return next(number for number, is_lowered in zip(numbers, lowered, strict=True) if is_lowered == incorrect)


def voc_object(name: str, corners: list[int]) -> str:
    """Format one face as a VOC object."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{at}</{side}>" for side, at in sides)
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
