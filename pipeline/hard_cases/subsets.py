"""What can be measured about a face without labels, to compare accuracy between groups of images as they are.

- `skin`: the individual typology angle, ITA = arctan((L* - 50) / b*) in degrees, of the median colour of forehead and
  cheeks (Chardon, Cretois and Hourseau 1991). Large is light. It describes pixels, not people: exposure, white balance
  and make-up change it by tens of degrees, so it says how light a face appears in this photo. It is no measure of
  ethnicity, and none of a person's skin. Unknown for grey photos.
- `size`: pixels of the face's longer side in the photo before it was resized; of an unseen face, of the shorter side of
  its annotated box.
- `sharpness`: standard deviation of the Laplacian relative to that of the brightness, inside the face. Small is
  blurred; texture, wrinkles and noise raise it.
- `turn`: absolute value of geometry.turn; 0 is frontal.
- `bent`: how far down the nose's tip lies between eyes and chin (0…1). Large: the head is bent down, or the camera is
  above it.
- `covered`: fraction of forehead and upper cheeks that has not the colour of the skin: hair, hat, glasses, a hand, or a
  hard shadow.
- `lower_covered`: the same of nose, mouth and chin. Only for faces without a mask: beards, hands, scarves.

Bins are terciles of the training faces, except of the size; faces whose landmarks are not certain (several faces,
profiles, faces mostly hidden) form a bin of their own, `unknown`.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.dataset.hard_cases import BINS
from pipeline.drawing import face_mesh, geometry
from pipeline.drawing.compositing import LUMA, SKIN
from pipeline.hard_cases import colours, conditions

NEAR = 17.0  # distance in CIELAB from the skin's colour up to which a pixel is skin; the lightness counts a third
GREY = 4.0  # chroma of the skin below which the photo has no colours
# Landmarks of regions, as closed polygons: forehead, eyes and upper cheeks; nose, mouth and chin.
UPPER = (127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356, 346, 6, 117)
LOWER = (93, 50, 195, 280, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132)
EYE_LINE, NOSE, CHIN = (33, 263), 1, 152


def measure(image: np.ndarray, found: face_mesh.Landmarks | None, scale: float) -> dict[str, float]:
    """All of BINS for an RGB image (s, s, 3) uint8, NaN where unknown. `scale`: pixels of the photo per pixel of it."""
    if found is None or found.score < face_mesh.MIN_SCORE:
        return dict.fromkeys(BINS, np.nan)
    points, side = found.points, len(image)
    area = geometry.face_area(points, side) > 0.5
    if not area.any():
        return dict.fromkeys(BINS, np.nan)
    pixels = image.astype(np.float32) / 255
    at = np.floor(points[list(SKIN)]).astype(int).clip(0, side - 1)
    colour = colours.to_lab(np.median(pixels[at[:, 1], at[:, 0]], axis=0))
    lab = colours.to_lab(pixels)
    distance = np.sqrt(((lab - colour) ** 2 / [9, 1, 1]).sum(axis=-1))
    eyes = points[list(EYE_LINE)].mean(axis=0)
    down = points[CHIN] - eyes
    return {
        "skin": skin_angle(colour),
        "size": conditions.longer_side(points) * scale,
        "sharpness": sharpness(pixels @ LUMA, area),
        "turn": abs(geometry.turn(points)),
        "bent": float(np.dot(points[NOSE] - eyes, down) / max(np.dot(down, down), 1e-9)),
        "covered": fraction_off(distance, geometry.polygon(points[list(UPPER)], side)),
        "lower_covered": fraction_off(distance, geometry.polygon(points[list(LOWER)], side)),
    }


def skin_angle(lab: np.ndarray) -> float:
    """The individual typology angle in degrees of a colour (3,) in CIELAB, -90…90; NaN for a grey one."""
    lightness, a, b = (float(one) for one in lab)
    if np.hypot(a, b) < GREY:
        return np.nan
    return float(np.degrees(np.arctan2(lightness - 50, max(b, 1e-6))))


def sharpness(luminance: np.ndarray, area: np.ndarray) -> float:
    """Standard deviation of the Laplacian inside `area`, relative to that of the luminance (s, s) 0…1."""
    return float(ndimage.laplace(luminance)[area].std() / max(float(luminance[area].std()), 1e-3))


def fraction_off(distance: np.ndarray, weight: np.ndarray) -> float:
    """Fraction of a region with the weights (s, s) whose distance from the skin's colour is more than NEAR."""
    total = float(weight.sum())
    return float((weight * (distance > NEAR)).sum() / total) if total else np.nan
