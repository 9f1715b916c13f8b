"""Drawn scenes of several faces with VOC annotations, as a foreign detection data set has them. For demos and tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import numpy as np

from pipeline.data import synthetic
from pipeline.parallel import ordered_map

CELL, COLUMNS, ROWS = 168, 3, 2  # a scene has room for COLUMNS × ROWS people
FACES = (2, 6)  # at least and at most
WORN_WRONG = 0.15  # share of the faces
# A training picture's seed is below 2**31, so none of these pictures can be one of them.
FIRST_SEED = 2**31


def files(scenes: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Archive members, picture and annotation in turn: images/scene_1.jpg, annotations/scene_1.xml, …"""
    for number, (picture, annotation) in enumerate(ordered_map(partial(draw, seed=seed), range(scenes)), 1):
        yield f"images/scene_{number}.jpg", picture
        yield f"annotations/scene_{number}.xml", annotation


def draw(index: int, seed: int) -> tuple[bytes, bytes]:
    """One scene as JPEG and its VOC annotation; some faces are small, and a lowered mask is a mask worn wrong."""
    rng = np.random.default_rng([seed, index])
    side = COLUMNS * CELL
    scene = synthetic.draw_background(rng, side).crop((0, 0, side, ROWS * CELL))
    objects = []
    for cell in sorted(rng.permutation(COLUMNS * ROWS)[: rng.integers(FACES[0], FACES[1] + 1)].tolist()):
        worn_wrong = rng.random() < WORN_WRONG
        label = "without_mask" if worn_wrong else synthetic.pick(rng, synthetic.LABELS)
        number = first_number(COLUMNS * ROWS * index + cell, seed, label, worn_wrong)
        size = int(rng.integers(CELL // 3, CELL + 1))
        person, box = synthetic.draw_with_box(FIRST_SEED + seed, label, number, size)
        x, y = (int(rng.integers(0, CELL - size + 1)) + CELL * place for place in (cell % COLUMNS, cell // COLUMNS))
        scene.paste(person, (x, y))
        corners = [round(edge + shift) for edge, shift in zip(box, (x, y, x, y), strict=True)]
        objects.append(voc_object("mask_weared_incorrect" if worn_wrong else label, corners))
    buffer = io.BytesIO()
    scene.save(buffer, "JPEG", quality=92)
    size_tag = f"<size><width>{scene.width}</width><height>{scene.height}</height><depth>3</depth></size>"
    lines = [f"<filename>scene_{index + 1}.jpg</filename>", size_tag, *objects]
    return buffer.getvalue(), "\n".join(["<annotation>", *lines, "</annotation>", ""]).encode()


def first_number(place: int, seed: int, label: str, worn_wrong: bool) -> int:
    """The number of the drawn picture for a place of its own: the first whose mask is under the chin, or is not."""
    numbers = range(1000 * place, 1000 * (place + 1))
    lowered = (synthetic.variant(FIRST_SEED + seed, label, number) == "lowered mask" for number in numbers)
    return next(number for number, it_is in zip(numbers, lowered, strict=True) if it_is == worn_wrong)


def voc_object(name: str, corners: list[int]) -> str:
    """One face as VOC writes it."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{at}</{side}>" for side, at in sides)
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
