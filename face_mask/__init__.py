"""Detect faces, classify each as with or without a face mask, track them in video. Needs no TensorFlow.

from face_mask import FaceMaskDetector

for face in FaceMaskDetector().predict("street.jpg"):
    print(face.label, face.probability, face.box)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from face_mask.api import Face, FaceMaskDetector
    from face_mask.decoding import BadImage
    from face_mask.errors import UserError
    from face_mask.prevalence import Proportion

__all__ = ["BadImage", "Face", "FaceMaskDetector", "Proportion", "UserError"]


def __getattr__(name: str) -> Any:
    """Import the Python API at its first use: the modules of this package, which import it first, do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("face_mask.api"), name)
