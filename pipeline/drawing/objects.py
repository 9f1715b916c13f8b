"""Things before a face, or on it, that are no mask: a classifier must still see a face without a mask.

Those of the family "training" are drawn for training; those of "measuring" have other shapes and textures, and most
are other things, so that they measure what a model has learned, not which drawings it has seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.drawing.compositing import Face, Layer
from pipeline.drawing.facial_hair import beard
from pipeline.drawing.hands import hand
from pipeline.drawing.held import cup, food, headset, microphone, paper, phone, tissue
from pipeline.drawing.worn import hat_brim, pacifier, sunglasses
from pipeline.drawing.wraps import collar, scarf, veil

Drawing = Callable[[Face, np.random.Generator, str], list[Layer]]

OBJECTS: dict[str, dict[str, Drawing]] = {
    "training": {
        "hand": hand,
        "cup": cup,
        "scarf": scarf,
        "beard": beard,
        "paper": paper,
        "tissue": tissue,
        "food": food,
        "veil": veil,
    },
    "measuring": {
        "hand": hand,
        "cup": cup,
        "scarf": scarf,
        "beard": beard,
        "phone": phone,
        "microphone": microphone,
        "headset": headset,
        "collar": collar,
        "pacifier": pacifier,
        "sunglasses": sunglasses,
        "hat_brim": hat_brim,
    },
}

# What each object hides in every drawing of it, of "eyes", "mouth" and "chin".
COVERS: dict[str, frozenset[str]] = {
    "hand": frozenset({"mouth"}),
    "cup": frozenset({"mouth"}),
    "scarf": frozenset({"mouth", "chin"}),
    "beard": frozenset({"chin"}),
    "paper": frozenset({"mouth", "chin"}),
    "tissue": frozenset({"mouth"}),
    "food": frozenset({"mouth"}),
    "veil": frozenset(),
    "phone": frozenset({"mouth", "chin"}),
    "microphone": frozenset({"mouth"}),
    "headset": frozenset(),
    "collar": frozenset({"mouth", "chin"}),
    "pacifier": frozenset({"mouth"}),
    "sunglasses": frozenset({"eyes"}),
    "hat_brim": frozenset(),
}
