"""From flat colours to a photograph: shading, printed patterns, strands of hair, lens, noise."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from pipeline.synthetic.canvas import EMPTY, HAIR, MASK, NEUTRAL, SCARF, SHIRT, SKIN, Canvas, Pattern, Pose, Rng


def shade(canvas: Canvas, rng: Rng, light: float) -> np.ndarray:
    """Shade a canvas of side 2n: (n, n, 3) float32, about 0 to 255."""
    n = canvas.colours.width // 2
    pixels = np.array(canvas.colours.reduce(2), np.float32)
    x, y = head_coordinates(canvas.pose, n)
    for material, pattern in canvas.patterns.items():
        print_pattern(pixels, cover(canvas, material), x, y, pattern)
    comb_hair(rng, pixels, cover(canvas, HAIR), x, y)

    radius = max(1.0, canvas.pose.scale / 4 * 0.07)
    tints = canvas.tints.filter(ImageFilter.GaussianBlur(radius)).resize((n, n), Image.Resampling.BILINEAR)
    folds = canvas.folds.filter(ImageFilter.GaussianBlur(0.7 * radius)).resize((n, n), Image.Resampling.BILINEAR)
    on_skin = np.asarray(tints, np.float32) / NEUTRAL - 1
    on_fabric = np.asarray(folds, np.float32) / NEUTRAL - 1
    pixels *= 1 + cover(canvas, SKIN)[..., None] * on_skin
    lit = illumination(rng, canvas, x, y, light)
    lit *= 1 + cover(canvas, MASK, SCARF) * on_fabric
    pixels *= lit[..., None]
    return pixels


def cover(canvas: Canvas, *materials: int) -> np.ndarray:
    """Fraction of each pixel that one of the materials covers: (n, n) float32 in 0…1; the canvas's side is 2n."""
    is_it = canvas.materials.point([255 * (number in materials) for number in range(256)])
    return np.asarray(is_it.reduce(2), np.float32) * np.float32(1 / 255)


def box_of(area: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns where `area` is not zero; empty slices where it is zero everywhere."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))


def comb_hair(rng: Rng, pixels: np.ndarray, area: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Draw lighter and darker strands from the crown outwards, in place."""
    strands = rng.uniform(0.72, 1.25, 512).astype(np.float32)
    box = box_of(area)
    x, y = x[box], y[box]
    number = (np.arctan2(x, y + 1.9) * 60 + 8 * np.sin(4 * y)).astype(np.int32) % 512
    pixels[box] *= 1 + (area[box] * (strands[number] - 1))[..., None]


def head_coordinates(pose: Pose, n: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y, each (n, n) float32, in head units and along the head's axes, corrected for roll only."""
    px = ((2 * np.arange(n, dtype=np.float32) + 1) - np.float32(pose.x)) / np.float32(pose.scale)
    py = ((2 * np.arange(n, dtype=np.float32) + 1) - np.float32(pose.y))[:, None] / np.float32(pose.scale)
    c, s = np.float32(math.cos(pose.roll)), np.float32(math.sin(pose.roll))
    return c * px + s * py, c * py - s * px


def print_pattern(pixels: np.ndarray, area: np.ndarray, x: np.ndarray, y: np.ndarray, pattern: Pattern) -> None:
    """Mix the pattern's colour into `pixels` in place where `area` is; it follows the roundness of the head."""
    box = box_of(area)
    x, y = x[box] * (1 + 0.2 * x[box] ** 2), y[box]
    turn = 2 * math.pi * pattern.frequency
    c, s = np.float32(math.cos(pattern.angle) * turn), np.float32(math.sin(pattern.angle) * turn)
    waves = np.sin(c * x + s * y)
    if pattern.kind != "stripes":
        across = np.sin(c * y - s * x)
        waves = 1.6 * waves * across - 0.4 if pattern.kind == "dots" else 0.5 * (np.sign(waves) + np.sign(across))
    weight = (area[box] * np.clip(0.5 + 2 * waves, 0, 1))[..., None]
    if pattern.kind == "checks":
        weight = (area[box] * (0.5 + 0.5 * waves))[..., None]
    pixels[box] += weight * (np.asarray(pattern.colour, np.float32) - pixels[box])


def illumination(rng: Rng, canvas: Canvas, x: np.ndarray, y: np.ndarray, light: float) -> np.ndarray:
    """(n, n) float32 factors: Lambert's law on the ellipsoid of the head, a slope on the body, 1 on the background."""
    strength, height, roll = rng.uniform(0.25, 0.65), rng.uniform(-0.8, 0.1), canvas.pose.roll
    lx = light * math.cos(roll) + height * math.sin(roll)
    ly = height * math.cos(roll) - light * math.sin(roll)
    lz = rng.uniform(0.7, 1.3)
    length = math.hypot(lx, ly, lz)
    nx, ny = np.clip(x / 1.1, -1, 1), np.clip(y / 1.9, -0.8, 0.7)
    nz = np.sqrt(np.maximum(1 - 0.9 * (nx * nx + ny * ny), 0.05))
    lambert = np.maximum((nx * (lx / length) + ny * (ly / length) + nz * (lz / length)), 0)
    head = strength * (1.35 * lambert - 1)
    body = np.clip((0.2 * strength * light) * x, -0.5 * strength, 0.3 * strength)
    head *= cover(canvas, *range(EMPTY + 1, SHIRT))
    body *= cover(canvas, SHIRT, SCARF)
    return 1 + head + body


def photograph(rng: Rng, pixels: np.ndarray) -> Image.Image:
    """Convert (n, n, 3) float32 to an RGB image, with random exposure, white balance, contrast, blur and noise."""
    n = len(pixels)
    warmth, green = rng.normal(0, 0.09), rng.normal(0, 0.025)
    exposure = math.exp(rng.normal(0.02, 0.2))
    pixels = pixels * np.asarray([1 + warmth, 1 + green, 1 - warmth], np.float32) * np.float32(exposure)
    contrast = np.float32(rng.uniform(0.7, 1.1))
    pixels = (pixels - 120) * contrast + np.float32(120 + rng.uniform(-12, 12))
    pixels = np.minimum(pixels, 190 + 0.5 * (pixels - 190))  # highlights roll off instead of burning out
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    focus = rng.random()
    if focus < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.2) * n / 224))
    elif focus < 0.4:  # upscaled from a small image
        small = max(8, round(n * rng.uniform(0.25, 0.6)))
        image = image.resize((small, small), Image.Resampling.BILINEAR).resize((n, n), Image.Resampling.BILINEAR)
    noise = rng.exponential(2.2)
    if noise > 1:  # uniform instead of normal noise: a tenth of the time, without a visible difference
        grain = np.frombuffer(rng.bytes(n * n * 3), np.int8).reshape(n, n, 3) * np.float32(noise / 74)
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    return image.convert("L").convert("RGB") if rng.random() < 0.03 else image
