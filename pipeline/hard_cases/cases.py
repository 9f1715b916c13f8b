"""The table of hard cases: what is changed in a photo of a face, and what a classifier should answer then.

All drawings are of the family "measuring": training has other fabrics, outlines and styles, and fewer kinds of objects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from face_mask.schema import LABELS, WITH_MASK, WITHOUT_MASK
from pipeline.drawing import compositing, masks, objects
from pipeline.drawing.compositing import Face
from pipeline.hard_cases.conditions import CONDITIONS

FAMILY = "measuring"
MASKS, INCORRECT, OBJECTS, ACCESSORIES, CONDITION = "masks", "incorrectly_worn", "objects", "accessories", "conditions"
GROUPS = (MASKS, INCORRECT, OBJECTS, ACCESSORIES, CONDITION)
WORN_WITH_A_MASK = ("sunglasses", "hat_brim")  # objects on the upper face, which a mask leaves free

# From an RGB image (s, s, 3) uint8, the face in it and random numbers to the changed image; None if it cannot be drawn.
Change = Callable[[np.ndarray, Face, np.random.Generator], np.ndarray | None]


class Case(NamedTuple):
    """A change of photos of one class of faces."""

    name: str
    group: str  # one of GROUPS
    source: str  # label of the faces that are changed
    label: str  # of the result
    change: Change


def drawn(draw: Callable, image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """The face with the layers of `draw(face, rng)`."""
    return compositing.compose(face, draw(face, rng), rng)


def with_layers(draw: Callable, *arguments: str) -> Change:
    """A change from a drawing `draw(face, rng, family, …)`."""
    return partial(drawn, partial(call, draw, arguments))


def call(draw: Callable, arguments: tuple[str, ...], face: Face, rng: np.random.Generator) -> list[compositing.Layer]:
    return draw(face, rng, FAMILY, *arguments)


def recoloured(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray | None:
    return masks.recoloured(face, rng, FAMILY)


def table() -> tuple[Case, ...]:
    """All cases, in the order in which they are reported."""
    bare, masked = WITHOUT_MASK, WITH_MASK
    things = objects.OBJECTS[FAMILY]
    return (
        *(Case(kind, MASKS, bare, masked, with_layers(masks.worn, kind)) for kind in masks.KINDS),
        Case("recoloured", MASKS, masked, masked, recoloured),
        Case("under_nose", INCORRECT, bare, bare, with_layers(masks.under_nose)),
        Case("on_chin", INCORRECT, bare, bare, with_layers(masks.on_chin)),
        *(
            Case(name, OBJECTS, bare, bare, with_layers(draw))
            for name, draw in things.items()
            if name not in WORN_WITH_A_MASK
        ),
        *(
            Case(name, ACCESSORIES, label, label, with_layers(things[name]))
            for name in WORN_WITH_A_MASK
            for label in LABELS
        ),
        *(Case(name, CONDITION, label, label, change) for name, change in CONDITIONS.items() for label in LABELS),
    )


CASES = table()
