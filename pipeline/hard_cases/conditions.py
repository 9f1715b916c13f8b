"""Changes of a whole photo: skin and light, blur, compression, noise, and small faces. They keep the label.

Each is a function `(image, face, rng) -> image`: RGB (s, s, 3) uint8, and the face in it; the strength is drawn by
`rng`. Lengths are relative to the face, so that a large and a small face lose as much detail. All work on the pixels
as they are, without undoing what the photo went through before.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from pipeline.drawing import face_mesh, geometry
from pipeline.drawing.compositing import Face
from pipeline.hard_cases import colours

Condition = Callable[[np.ndarray, Face, np.random.Generator], np.ndarray | None]

SKIN_RANGE = 22.0  # distance in a* and b* from the median skin colour at which a pixel is hardly skin
JPEG_QUALITY = 85  # of a small face: that of a usual camera or web page


def skin_darker(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    return shift_skin(image, face, rng.uniform(-30, -20), rng.uniform(-4, 0))


def skin_lighter(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    return shift_skin(image, face, rng.uniform(10, 18), rng.uniform(-6, -2))


def shift_skin(image: np.ndarray, face: Face, lightness: float, yellow: float) -> np.ndarray:
    """Add `lightness` to L* of the median skin, and `yellow` to b*, on the skin of the face and of the neck.

    A mask, hair, eyes or glasses keep their colour as far as it is not that of the skin. L* is scaled, not shifted, so
    that shadows stay shadows.
    """
    lab = colours.to_lab(image / 255)
    skin = colours.to_lab(face.skin)
    distance = np.hypot(lab[..., 1] - skin[1], lab[..., 2] - skin[2])
    inside = ndimage.gaussian_filter(face.area, 1.0)
    # Around the face only what is much like the skin, which leaves clothes and the background out; hair is darker.
    likeness = inside * np.exp(-((distance / SKIN_RANGE) ** 2))
    likeness += (surroundings(face) - inside).clip(0) * np.exp(-((1.6 * distance / SKIN_RANGE) ** 2))
    likeness *= smoothstep(lab[..., 0] / max(float(skin[0]), 1.0), 0.4, 0.65)
    weight = ndimage.gaussian_filter(likeness, 0.6)
    aim = np.clip(skin[0] + lightness, 15, 92)
    if lightness < 0:
        scaled = lab[..., 0] * (aim / max(float(skin[0]), 1.0))
    else:
        scaled = 100 - (100 - lab[..., 0]) * ((100 - aim) / max(100 - float(skin[0]), 1.0))
    changed = lab.copy()
    changed[..., 0] += weight * (scaled - lab[..., 0])
    changed[..., 2] += weight * yellow
    return to_bytes(colours.to_rgb(changed))


def surroundings(face: Face) -> np.ndarray:
    """(s, s): 1 on the face with forehead, ears and neck, falling to 0 at their distance."""
    side = len(face.pixels)
    at = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) + 0.5
    x, y = geometry.face_coordinates(face.points, at).T.reshape(2, side, side)
    head = np.hypot(x / 1.7, (y - 0.4) / 2.0)
    neck = np.maximum(np.abs(x) / 1.3, np.abs(y - 2.2) / 1.2)
    return 1 - smoothstep(np.minimum(head, neck), 0.85, 1.1)


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between them."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def light_darker(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """Less light: two to three stops, then half of it regained by the camera's tone curve."""
    return expose(image, 2.0 ** -rng.uniform(1.6, 2.4))


def light_lighter(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """Overexposed by about one stop; bright parts are clipped."""
    return expose(image, 2.0 ** rng.uniform(0.8, 1.3))


def expose(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply the light, that is linear RGB, by `factor`."""
    return to_bytes(colours.encode((colours.linear(image / 255) * factor).clip(0, 1)))


def motion_blur(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """The camera or the head moves by about a sixth of the face's width during the exposure, in any direction."""
    length = rng.uniform(0.12, 0.2) * width(face)
    angle = rng.uniform(0, np.pi)
    radius = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return convolve(image, (1 - np.abs(across)).clip(0, 1) * (length / 2 + 0.5 - np.abs(along)).clip(0, 1))


def defocus(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: a disk about a thirteenth of the face's width across."""
    radius = max(1.0, rng.uniform(0.032, 0.048) * width(face))
    reach = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return convolve(image, (radius + 0.5 - np.hypot(x, y)).clip(0, 1))


def jpeg(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    return compressed(image, int(rng.integers(6, 13)))


def noise(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise: it is stronger in bright pixels, and its colour is coarser than its brightness."""
    pixels = image / 255
    side = image.shape[:2]
    strength = rng.uniform(0.07, 0.11)
    coloured = ndimage.gaussian_filter(rng.normal(0, 1, (*side, 3)), (0.7, 0.7, 0)) * 2
    grain = 0.8 * rng.normal(0, 1, (*side, 1)) + 0.5 * coloured
    return to_bytes(pixels + strength * np.sqrt(0.3 + 0.7 * pixels) * grain)


def small_face(image: np.ndarray, face: Face, side: int) -> np.ndarray | None:
    """The photo from further away: the face's longer side has `side` pixels, JPEG, then enlarged again.

    None if the face is not larger than that already.
    """
    scale = side / longer_side(face.points)
    if scale >= 1:
        return None
    small = round(len(image) * scale)
    shrunk = np.asarray(Image.fromarray(image).resize((small, small), Image.Resampling.BOX))
    return enlarged(compressed(shrunk, JPEG_QUALITY), len(image))


def face_24(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray | None:
    return small_face(image, face, 24)


def face_32(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray | None:
    return small_face(image, face, 32)


def face_48(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray | None:
    return small_face(image, face, 48)


CONDITIONS: dict[str, Condition] = {
    one.__name__: one
    for one in (skin_darker, skin_lighter, light_darker, light_lighter, motion_blur, defocus, jpeg, noise,
                face_24, face_32, face_48)
}  # fmt: skip


def longer_side(points: np.ndarray) -> float:
    """Of the face's outline, in pixels, from its landmarks (468, 2)."""
    return float(np.ptp(points[list(face_mesh.OUTLINE)], axis=0).max())


def width(face: Face) -> float:
    return float(np.linalg.norm(face.points[454] - face.points[234]))


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    kernel = (kernel / kernel.sum()).astype(np.float32)
    pixels = image.astype(np.float32)
    channels = [ndimage.convolve(pixels[..., channel], kernel, mode="nearest") for channel in range(3)]
    return np.stack(channels, axis=-1).round().clip(0, 255).astype(np.uint8)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)
