"""From a face's landmarks to pixels: a coordinate system that lies on every face, however it is turned.

Face coordinates: the middle between the outer corners of the eyes is (0, 0), and these are at (-1, 0), the person's
right eye, and (1, 0), as seen in the image; y points down. The nose's tip is at (0, 0.75), the corners of the mouth at
(±0.57, 1.16), the chin at (0, 2.05), the widest part of the face at (±1.46, 0.3), the hairline near (0, -1).
canonical_face.npy has all landmarks in these coordinates: the symmetrized median of frontal training faces without a
mask (tools/face_mesh.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.drawing import face_mesh

CANONICAL_FILE = Path(__file__).with_name("canonical_face.npy")
SHA256 = "4c427b8ab5384a89e5e3732e97e43c7d61fb6d9a34d2363cab2ae022b6248e03"  # of this file; so a stage depends on it
CANONICAL = np.load(CANONICAL_FILE).astype(np.float64)  # (468, 2)
X, Y = (-3.0, 3.0), (-3.0, 5.0)  # the part of the plane that a canvas shows, in face coordinates
SCALE = 64  # pixels of a canvas per unit: twice those of a face that fills an image of 128 pixels
CANVAS = (round((Y[1] - Y[0]) * SCALE), round((X[1] - X[0]) * SCALE))  # height, width
SUPERSAMPLING = 2  # of an image's pixels in each direction, when a canvas is sampled
CELL = 16  # side in supersampled pixels of the squares within which coordinates are interpolated
MAX_TURN = 0.55  # how far the nose's tip lies beside the middle of the face's outline, relative to half its width


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Face coordinates x and y of every pixel of a canvas, each (h, w) float64, to draw with."""
    x = X[0] + (np.arange(CANVAS[1]) + 0.5) / SCALE
    y = Y[0] + (np.arange(CANVAS[0]) + 0.5) / SCALE
    return np.meshgrid(x, y)


def to_canvas(points: np.ndarray) -> np.ndarray:
    """Pixels (…, 2) of a canvas, for drawing with Pillow, from face coordinates (…, 2)."""
    return (np.asarray(points, float) - [X[0], Y[0]]) * SCALE


def turn(points: np.ndarray) -> float:
    """How far a face is turned to a side: 0 from the front, about 1 in profile, negative to the image's left.

    From landmarks (468, 2): the horizontal offset of the nose's tip from the middle of the face, relative to half its
    width. It is a measure of yaw, not an angle.
    """
    left, right, nose = points[234], points[454], points[1]
    across = right - left
    return float(2 * np.dot(nose - (left + right) / 2, across) / np.dot(across, across))


def usable(image: np.ndarray) -> np.ndarray | None:
    """Landmarks (468, 2) of an RGB image (h, w, 3) uint8 with one face that can be drawn on, else None.

    Its landmarks must be certain, and it must not be turned so far that half of the face is hidden.
    """
    found = face_mesh.landmarks(image)
    return found.points if found is not None and can_be_drawn_on(found) else None


def can_be_drawn_on(found: face_mesh.Landmarks) -> bool:
    """Whether landmarks are certain, and those of a face that is not turned too far."""
    return found.score >= face_mesh.MIN_SCORE and abs(turn(found.points)) <= MAX_TURN


def face_coordinates(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Face coordinates (n, 2) of the places `at` (n, 2) in an image, from its landmarks (468, 2), all in pixels.

    A polynomial of degree 2, fitted to all landmarks. Outside the face its quadratic part stays what it is at the
    border, so that the coordinates go on linearly and never fold.
    """
    centre = points.mean(axis=0)
    radius = np.abs(points - centre).max()
    design = basis((points - centre) / radius)
    coefficients = np.linalg.lstsq(design, CANONICAL, rcond=None)[0]
    inside = (at - centre) / radius
    distance = np.linalg.norm(inside, axis=1, keepdims=True)
    values = basis(inside)
    values[:, 3:] = basis(inside / np.maximum(distance, 1))[:, 3:]
    return values @ coefficients


def basis(p: np.ndarray) -> np.ndarray:
    x, y = p.T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def warp(canvas: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """Lay a canvas (*CANVAS, 4) float32 RGBA 0…1 on the face with these landmarks: (side, side, 4), premultiplied."""
    n = side * SUPERSAMPLING
    edges = np.append(np.arange(0, n, CELL), n)
    corners = np.stack(np.meshgrid(edges, edges), axis=-1)
    at = to_canvas(face_coordinates(points, corners.reshape(-1, 2) / SUPERSAMPLING)).reshape(corners.shape)
    # Only cells that see something of the canvas; a cell's quadrilateral goes round from its upper left to the lower
    # left, lower right and upper right corner.
    quads = np.concatenate([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], axis=-1)
    drawn = canvas[..., 3] != 0
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows):
        return np.zeros((side, side, 4), np.float32)
    x, y = quads[..., ::2], quads[..., 1::2]
    seen = (x.max(-1) >= columns[0]) & (x.min(-1) <= columns[-1] + 1)
    seen &= (y.max(-1) >= rows[0]) & (y.min(-1) <= rows[-1] + 1)
    mesh = [
        ((int(edges[c]), int(edges[r]), int(edges[c + 1]), int(edges[r + 1])), tuple(quads[r, c].tolist()))
        for r, c in zip(*np.nonzero(seen), strict=True)
    ]
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    premultiplied = canvas[part] * canvas[part][..., 3:]
    premultiplied[..., 3] = canvas[part][..., 3]
    pixels = np.zeros((*CANVAS, 4), np.uint8)
    pixels[part] = premultiplied.clip(0, 1) * 255 + 0.5
    # RGBX: Pillow would multiply RGBA by its alpha once more.
    image = Image.frombuffer("RGBX", (CANVAS[1], CANVAS[0]), pixels, "raw", "RGBX", 0, 1)
    warped = image.transform((n, n), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR).reduce(SUPERSAMPLING)
    return np.asarray(warped, np.float32).reshape(side, side, 4) / 255


def polygon(points: np.ndarray, side: int, supersampling: int = 4) -> np.ndarray:
    """(side, side) float32: fraction of each pixel inside the polygon `points` (n, 2) in pixels."""
    image = Image.new("L", (side * supersampling,) * 2)
    ImageDraw.Draw(image).polygon([tuple(p) for p in (points * supersampling).tolist()], fill=1)
    array, steps = np.asarray(image), range(supersampling)
    parts = [array[i::supersampling, j::supersampling] for i in steps for j in steps]
    return np.stack(parts).sum(axis=0, dtype=np.float32) / np.float32(supersampling**2)


def face_area(points: np.ndarray, side: int) -> np.ndarray:
    """(side, side) float32: fraction of each pixel inside the face's outline."""
    return polygon(points[list(face_mesh.OUTLINE)], side)
