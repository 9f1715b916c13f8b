"""Put a drawn layer on a photo of a face, with the photo's light, sharpness, colours and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from pipeline.drawing import geometry

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
WHITE = 0.8  # luminance of a well exposed face's brightest parts; a photo with less is a darker scene


class Face(NamedTuple):
    """A photo of a face and what a drawing may need to know of it."""

    pixels: np.ndarray  # (s, s, 3) float32 0…1
    points: np.ndarray  # (468, 2) landmarks in pixels
    area: np.ndarray  # (s, s) float32: fraction of each pixel inside the face's outline
    skin: np.ndarray  # (3,) float32: median colour of forehead and cheeks, 0…1
    light: np.ndarray  # (s, s) float32: smooth brightness relative to the face's mean
    exposure: float  # brightness of the scene: 1 for a well exposed photo
    blur: float  # standard deviation in pixels of the Gaussian that a sharp drawing needs to look like the photo
    noise: float  # standard deviation of the photo's noise


class Layer(NamedTuple):
    """A drawing in face coordinates."""

    canvas: np.ndarray  # (*geometry.CANVAS, 4) float32 RGBA 0…1, alpha not premultiplied
    on_face: bool = True  # cut off at the face's outline, as a mask or a beard is
    shadow: float = 0.25  # how much it darkens the skin around it
    lit: bool = True  # whether it takes the light of the face beneath


# Landmarks of bare skin even under a mask or a beard: forehead and upper cheeks.
SKIN = (10, 151, 9, 108, 337, 69, 299, 104, 333, 116, 345, 117, 346, 118, 347)


def describe(image: np.ndarray, points: np.ndarray) -> Face:
    """Measure an RGB image (s, s, 3) uint8 with the landmarks (468, 2) of its face."""
    pixels = image.astype(np.float32) / 255
    side = len(pixels)
    area = geometry.face_area(points, side)
    at = np.floor(points[list(SKIN)]).astype(int).clip(0, side - 1)
    patches = pixels[at[:, 1], at[:, 0]]
    brighter = np.argsort(patches @ LUMA, kind="stable")[len(patches) // 3 :]  # not hair on the forehead
    skin = np.median(patches[brighter], axis=0)
    luminance = pixels @ LUMA
    width = np.linalg.norm(points[454] - points[234])
    weight = area + 1e-3
    sigma = max(1.0, 0.09 * width)
    smooth = ndimage.gaussian_filter(luminance * weight, sigma) / ndimage.gaussian_filter(weight, sigma)
    inside = area > 0.5
    mean = float(smooth[inside].mean()) if inside.any() else float(smooth.mean())
    bright = float(np.quantile(luminance[inside], 0.95)) if inside.any() else WHITE
    fine = luminance - ndimage.gaussian_filter(luminance, 0.8)
    coarse = ndimage.gaussian_filter(luminance, 0.8) - ndimage.gaussian_filter(luminance, 1.6)
    sharpness = float(fine[inside].std() / (coarse[inside].std() + 1e-4)) if inside.any() else 1.0
    return Face(
        pixels,
        points,
        area,
        skin,
        (smooth / max(mean, 0.02)).clip(0.4, 1.7).astype(np.float32),
        float(np.clip(bright / WHITE, 0.3, 1.1)),
        float(np.clip(0.5 / max(sharpness, 0.05) - 0.35, 0.35, 1.6)),
        float(np.clip(1.48 * np.median(np.abs(fine[inside])), 0, 0.03)) if inside.any() else 0.0,
    )


def compose(face: Face, layers: list[Layer], rng: np.random.Generator) -> np.ndarray:
    """Draw the layers on the face, first the lowest: (s, s, 3) uint8."""
    result = face.pixels
    side = len(result)
    red, green, blue = np.moveaxis(face.pixels, -1, 0)  # np.ptp over so short an axis is slow
    range_of_colours = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    grey = float(range_of_colours.mean()) < 0.02
    for layer in layers:
        warped = geometry.warp(layer.canvas, face.points, side)
        if layer.on_face:
            warped = warped * grown(face.area)[..., None]
        warped = ndimage.gaussian_filter(warped, (face.blur, face.blur, 0))
        alpha = warped[..., 3:]
        colour = warped[..., :3] * face.exposure
        if layer.lit:
            colour = colour * face.light[..., None]
        if grey:
            colour = np.repeat((colour @ LUMA)[..., None], 3, axis=-1)
        noise = rng.normal(0, 1, (side, side, 1)).astype(np.float32) * face.noise
        width = np.linalg.norm(face.points[454] - face.points[234])
        fall = ndimage.shift(ndimage.gaussian_filter(alpha[..., 0], 0.035 * width), (0.02 * width, 0), order=1)
        shade = 1 - layer.shadow * (fall[..., None] * (1 - alpha))
        result = result * shade * (1 - alpha) + (colour + noise * alpha)
    return (result.clip(0, 1) * 255).round().astype(np.uint8)


def grown(area: np.ndarray) -> np.ndarray:
    """The face's area and about a pixel around it, since what is worn lies on top of the skin."""
    return (ndimage.gaussian_filter(area, 0.8) * 2).clip(0, 1)
