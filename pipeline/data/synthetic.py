"""Synthetic pictures of faces with and without masks: no network and no data set needed.

A picture depends on (seed, label, index) alone. `write_archive` lays them out as Kaggle's omkargurav/face-mask-dataset.
They are for tests, demos and load tests: a score on them says nothing about photographs.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from pipeline.atomic import replacing
from pipeline.data import synthetic_face as face
from pipeline.data.synthetic_face import Canvas, Colour, Person, Pose, Rng, jittered, mixed, pick, shaded, smooth
from pipeline.errors import UserError
from pipeline.parallel import ordered_map

LABELS = ("without_mask", "with_mask")  # a label's number is its class
MASKS = ("surgical", "surgical", "cloth", "respirator", "bandana")
# What a bare face may carry that a hasty classifier takes for a mask.
HARD_NEGATIVES = ("hand", "scarf", "beard", "lowered mask", "dangling mask")
HARD_SHARE = 1 / 3
SCENE = 112  # side of a background before it is enlarged; it is out of focus in any case
CHUNK = 32  # pictures a worker draws at a time


def variant(seed: int, label: str, index: int) -> str:
    """What covers the face: a kind of mask, one of HARD_NEGATIVES, or "bare"; the same as `draw_picture` draws.

    Raises ValueError for an unknown label or a negative seed or index.
    """
    return _variant(_generator(seed, label, index), label)


def _variant(rng: Rng, label: str) -> str:
    if label == "with_mask":
        return pick(rng, MASKS)
    return pick(rng, HARD_NEGATIVES) if rng.random() < HARD_SHARE else "bare"


def _generator(seed: int, label: str, index: int) -> Rng:
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}: use one of {', '.join(LABELS)}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got {seed} and {index}")
    return np.random.default_rng([seed, LABELS.index(label), index])


def draw_picture(seed: int, label: str, index: int, size: int = 224) -> Image.Image:
    """One face as a size×size RGB picture, the same for the same arguments whatever was drawn before.

    Raises ValueError for an unknown label, a negative seed or index, or a size under 16.
    """
    rng = _generator(seed, label, index)
    if size < 16:
        raise ValueError(f"size must be at least 16, got {size}")
    kind = _variant(rng, label)
    side = 2 * size
    canvas = Canvas(draw_background(rng, side), random_pose(rng, side))
    light = rng.uniform(-1, 1)  # from the left (-1) or the right
    draw_person(canvas, rng, kind, light)
    pixels = shade(canvas, rng, light)
    return photograph(rng, pixels)


def random_pose(rng: Rng, side: int) -> Pose:
    """A head of 40 to 80 % of the picture's height, its mouth always inside the picture."""
    scale = side * rng.uniform(0.15, 0.3)
    room_x, room_y = max(0.0, side / 2 - 0.95 * scale), max(0.0, side / 2 - 1.25 * scale)
    x = side / 2 + rng.uniform(-0.8, 0.8) * room_x
    y = side / 2 + rng.uniform(-0.8, 0.6) * room_y
    return Pose(x, y, scale, rng.normal(0, 0.14), rng.uniform(-0.42, 0.42), rng.uniform(-0.12, 0.16))


def draw_background(rng: Rng, side: int) -> Image.Image:
    """Plain, gradient, blurred shapes, a room or outdoors, as a side×side RGB picture."""
    draw_scene, blur = pick(rng, SCENES)
    picture = draw_scene(rng)
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur * rng.uniform(0.3, 2)))
    return picture.resize((side, side), Image.Resampling.BILINEAR)


def any_colour(rng: Rng) -> Colour:
    """Mostly muted, as walls and furniture are."""
    r, g, b = rng.integers(20, 236, 3).tolist()
    grey = int(rng.integers(40, 230))
    return mixed((r, g, b), (grey, grey, grey), rng.uniform(0.45, 0.95))


def draw_gradient(rng: Rng) -> Image.Image:
    """A wall or a studio's backdrop, lit unevenly."""
    base = any_colour(rng)
    factors = rng.uniform(0.45, 1.4, (3, 3, 1)) ** rng.uniform(0.2, 1)
    grid = np.clip(np.asarray(base) * factors + rng.normal(0, 5, (3, 3, 3)), 0, 255)
    return Image.fromarray(grid.astype(np.uint8)).resize((SCENE, SCENE), Image.Resampling.BICUBIC)


def draw_shapes(rng: Rng) -> Image.Image:
    picture = draw_gradient(rng)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(6, 22))):
        (x, y), (w, h) = rng.uniform(-20, SCENE, 2), rng.uniform(6, 50, 2)
        shape = pick(rng, (draw.ellipse, draw.rectangle))
        shape((x, y, x + w, y + h), fill=any_colour(rng))
    return picture


def draw_room(rng: Rng) -> Image.Image:
    """A wall with windows, pictures, shelves or a door, and the floor or a table."""
    picture = draw_gradient(rng)
    draw = ImageDraw.Draw(picture)
    floor = rng.uniform(60, 120)
    draw.polygon([0, floor, SCENE, floor + rng.uniform(-15, 15), SCENE, SCENE, 0, SCENE], fill=any_colour(rng))
    for _ in range(int(rng.integers(2, 5))):
        x, y, w, h = rng.uniform(-20, 95), rng.uniform(-20, 60), rng.uniform(16, 50), rng.uniform(20, 60)
        thing = pick(rng, ("window", "frame", "shelf", "shelf", "door"))
        trim = any_colour(rng)
        if thing == "shelf":
            for board in np.arange(y, y + h, 14).tolist():
                for left in np.arange(x, x + w, 4).tolist():
                    draw.rectangle((left, board + rng.uniform(0, 5), left + 4, board + 12), fill=any_colour(rng))
                draw.rectangle((x, board + 12, x + w, board + 14), fill=trim)
            continue
        bottom = SCENE if thing == "door" else y + h
        draw.rectangle((x, y, x + w, bottom), fill=trim)
        inside = jittered(rng, (226, 232, 238)) if thing == "window" else any_colour(rng)
        draw.rectangle((x + 2, y + 2, x + w - 2, bottom - 2), fill=inside)
        if thing == "window":
            draw.line((x + w / 2, y, x + w / 2, bottom), fill=trim, width=2)
            draw.line((x, y + h / 2, x + w, y + h / 2), fill=trim, width=2)
    return picture


def draw_outdoors(rng: Rng) -> Image.Image:
    """Sky and ground with hills, trees or houses between them."""
    sky = jittered(rng, pick(rng, ((150, 190, 230), (200, 210, 220), (240, 190, 140), (90, 110, 150))), 20)
    picture = Image.new("RGB", (SCENE, SCENE), sky)
    draw = ImageDraw.Draw(picture)
    horizon = rng.uniform(35, 100)
    ridge = horizon - rng.uniform(0, 40, 6)
    green = jittered(rng, pick(rng, ((70, 110, 60), (110, 130, 70), (120, 110, 90), (60, 84, 70))), 18)
    hills = np.stack([np.linspace(0, SCENE, 6), ridge], axis=1).ravel().tolist()
    draw.polygon([*hills, SCENE, SCENE, 0, SCENE], fill=mixed(green, sky, rng.uniform(0.2, 0.6)))
    draw.rectangle(
        (0, horizon, SCENE, SCENE), fill=jittered(rng, pick(rng, (green, (130, 126, 120), (190, 176, 140))), 14)
    )
    town = rng.random() < 0.5
    for _ in range(int(rng.integers(3, 7))):
        x = rng.uniform(-15, SCENE)
        if town:
            wall, top, w = any_colour(rng), rng.uniform(0, horizon), rng.uniform(16, 40)
            draw.rectangle((x, top, x + w, horizon + 6), fill=wall)
            for left in np.arange(x + 3, x + w - 4, 8).tolist():
                for row in np.arange(top + 4, horizon - 4, 11).tolist():
                    draw.rectangle((left, row, left + 3, row + 5), fill=shaded(wall, pick(rng, (0.5, 0.6, 1.6))))
        else:
            crown = horizon - rng.uniform(15, 50)
            draw.rectangle((x - 2, crown, x + 2, horizon + 8), fill=(80, 60, 44))
            for dx, dy, r in rng.uniform((-14, -14, 5), (14, 14, 15), (9, 3)):
                leaf = shaded(green, rng.uniform(0.55, 1.35))
                draw.ellipse((x + dx - r, crown + dy - r, x + dx + r, crown + dy + r), fill=leaf)
    return picture


SCENES = ((draw_gradient, 0.0), (draw_shapes, 2.0), (draw_shapes, 2.0), (draw_room, 0.8), (draw_room, 1.2),
          (draw_outdoors, 1.0), (draw_outdoors, 1.5))  # fmt: skip


def draw_body(canvas: Canvas, rng: Rng, person: Person) -> None:
    """Neck, shoulders and clothes. They follow the turns of the head only in part."""
    body = replace(canvas.pose, roll=0.25 * canvas.pose.roll, yaw=0.2 * canvas.pose.yaw, pitch=0.0)
    shirt = jittered(rng, pick(rng, face.CLOTHS))
    if rng.random() < 0.4:
        colour, angle = jittered(rng, pick(rng, face.CLOTHS)), pick(rng, (0.0, math.pi / 2, 0.6))
        canvas.patterns[face.SHIRT] = face.Pattern(pick(rng, face.PATTERNS), colour, rng.uniform(1.5, 5), angle)
    wide = rng.uniform(1.9, 2.5)
    torso = [(0, 1.5), (0.55, 1.6), (1.0, 1.86), (wide * 0.74, 2.1), (wide * 0.95, 2.45), (wide * 1.06, 3.2),
             (wide * 1.15, 5), (wide * 1.15, 9), (0, 9)]  # fmt: skip
    canvas.fill(smooth(face.both_sides(torso)), shirt, face.SHIRT, depth=0.0, pose=body)
    for side in (-1, 1):  # sleeves
        armpit = face.mirrored([(wide * 0.72, 2.5), (wide * 0.68, 3.2), (wide * 0.7, 4)], side)
        canvas.line(armpit, shaded(shirt, 0.7), 0.04, depth=0.0, pose=body)
    skin, low = shaded(person.skin, 0.93), rng.uniform(1.85, 2.4)
    vee = rng.random() < 0.4
    opening = [(-0.66, 1.66), (-0.5, 1.9), (0, low)] if vee else [(-0.68, 1.66), (-0.4, 1.85), (0, 1.92)]
    neckline = np.concatenate([opening, np.asarray(opening)[-2::-1] * (-1, 1)])
    neckline = neckline if vee else smooth(neckline, closed=False)
    jaw = canvas.pose.project([(0.6, 0.7), (-0.6, 0.7)], depth=-0.1)
    below = body.project(neckline, depth=0.1)
    identity = Pose(0, 0, 1, 0, 0, 0)
    canvas.fill(np.concatenate([below, jaw]), skin, face.SKIN, depth=0.0, pose=identity)
    canvas.tint(face.ellipse(0, 1.32, 0.75, 0.3), (100, 91, 88))  # the chin's shadow
    if vee and rng.random() < 0.6:  # lapels
        for side in (-1, 1):
            lapel = face.mirrored([(0.6, 1.5), (0.72, 1.68), (0.0, low), (0.42, low + 0.1), (0.95, 1.8)], side)
            canvas.fill(lapel, shaded(shirt, 1.12), face.SHIRT, depth=0.1, pose=body)
            canvas.line(lapel[2:], shaded(shirt, 0.65), 0.03, depth=0.1, pose=body)
    else:
        canvas.line(neckline, shaded(shirt, 0.72), 0.09, face.SHIRT, depth=0.1, pose=body)


def draw_person(canvas: Canvas, rng: Rng, kind: str, light: float) -> None:
    """The whole figure from back to front; `kind` as in `variant`."""
    skin = jittered(rng, mixed(pick(rng, face.SKINS), pick(rng, face.SKINS), rng.uniform(0, 0.3)), 8)
    hair = jittered(rng, face.DYED if rng.random() < 0.03 else pick(rng, face.HAIRS), 10)
    style = pick(rng, ("bald", "buzz", "short", "short", "parted", "parted", "afro", "bob", "long", "long", "bun"))
    headscarf = kind not in ("beard", "scarf", "dangling mask") and rng.random() < 0.1
    if headscarf:
        style = "bald"
    person = Person(skin, hair, style, rng.uniform(0.9, 1.08), -1 if light > 0 else 1)
    beard = "full" if kind == "beard" else "none"
    if kind != "beard" and style not in ("bob", "long", "bun") and not headscarf:
        beard = pick(rng, ("none", "none", "none", "stubble", "moustache", "full" if kind in MASKS else "stubble"))

    face.draw_back_hair(canvas, rng, person)
    draw_body(canvas, rng, person)
    face.draw_face(canvas, person, bare_ears=not headscarf)
    face.draw_eyes(canvas, rng, person)
    face.draw_brows(canvas, rng, person)
    face.draw_nose(canvas, rng, person)
    if beard != "none":
        face.draw_beard(canvas, rng, person, beard)
    face.draw_mouth(canvas, rng, person)

    masks = kind if kind in MASKS else pick(rng, MASKS[:3])
    colour = face.mask_colour(rng, masks, skin)
    pattern = face.mask_pattern(rng, masks)
    if pattern:
        canvas.patterns[face.MASK] = pattern
    scarf_top = rng.uniform(0.95, 1.2) if kind == "scarf" else rng.uniform(1.3, 1.5)
    if kind == "scarf" or (not headscarf and rng.random() < 0.08):
        cloth = face.mask_colour(rng, "scarf", skin)
        worn = face.mask_pattern(rng, "bandana")
        if worn:
            canvas.patterns[face.SCARF] = worn
        face.draw_scarf(canvas, rng, cloth, scarf_top)
    if kind in MASKS:
        face.draw_mask(canvas, rng, kind, colour)
    elif kind == "lowered mask":
        face.draw_lowered_mask(canvas, rng, masks, colour)
    if rng.random() < 0.3:
        face.draw_glasses(canvas, rng)
    face.draw_front_hair(canvas, rng, person)
    if headscarf:
        face.draw_headscarf(canvas, rng, jittered(rng, pick(rng, face.CLOTHS)))
    elif style not in ("afro", "bun") and rng.random() < 0.25:
        face.draw_hat(canvas, rng, pick(rng, ("beanie", "cap", "brim")))
    side = 1 if rng.random() < 0.5 else -1
    if kind == "dangling mask":
        face.draw_dangling_mask(canvas, rng, colour, side)
    if kind == "hand":
        face.draw_hand(canvas, rng, skin, (rng.normal(0, 0.08), rng.uniform(0.68, 0.85)), side)
    elif rng.random() < 0.06:  # a hand at the cheek or the brow, in both classes
        face.draw_hand(canvas, rng, skin, (side * rng.uniform(1.2, 1.5), rng.uniform(-0.3, 0.9)), side)


def shade(canvas: Canvas, rng: Rng, light: float) -> np.ndarray:
    """Canvas of side 2n to the lit figure: (n, n, 3) float32, about 0 to 255."""
    n = canvas.colours.width // 2
    pixels = np.array(canvas.colours.reduce(2), np.float32)
    x, y = head_coordinates(canvas.pose, n)
    for material, pattern in canvas.patterns.items():
        print_pattern(pixels, cover(canvas, material), x, y, pattern)
    comb_hair(rng, pixels, cover(canvas, face.HAIR), x, y)

    radius = max(1.0, canvas.pose.scale / 4 * 0.07)
    tints = canvas.tints.filter(ImageFilter.GaussianBlur(radius)).resize((n, n), Image.Resampling.BILINEAR)
    folds = canvas.folds.filter(ImageFilter.GaussianBlur(0.7 * radius)).resize((n, n), Image.Resampling.BILINEAR)
    on_skin = np.asarray(tints, np.float32) / face.NEUTRAL - 1
    on_fabric = np.asarray(folds, np.float32) / face.NEUTRAL - 1
    pixels *= 1 + cover(canvas, face.SKIN)[..., None] * on_skin
    lit = illumination(rng, canvas, x, y, light)
    lit *= 1 + cover(canvas, face.MASK, face.SCARF) * on_fabric
    pixels *= lit[..., None]
    return pixels


def cover(canvas: Canvas, *materials: int) -> np.ndarray:
    """(n, n) float32: the share of each pixel, 0 to 1, that is of one of the materials; the canvas's side is 2n."""
    is_it = canvas.materials.point([255 * (number in materials) for number in range(256)])
    return np.asarray(is_it.reduce(2), np.float32) * np.float32(1 / 255)


def box_of(area: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns where `area` is not zero; empty slices where it is zero everywhere."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))


def comb_hair(rng: Rng, pixels: np.ndarray, area: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Lighter and darker strands from the crown outwards, in place."""
    strands = rng.uniform(0.72, 1.25, 512).astype(np.float32)
    box = box_of(area)
    x, y = x[box], y[box]
    number = (np.arctan2(x, y + 1.9) * 60 + 8 * np.sin(4 * y)).astype(np.int32) % 512
    pixels[box] *= 1 + (area[box] * (strands[number] - 1))[..., None]


def head_coordinates(pose: Pose, n: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y, each (n, n) float32, in units of the head and along its axes; not unturned."""
    px = ((2 * np.arange(n, dtype=np.float32) + 1) - np.float32(pose.x)) / np.float32(pose.scale)
    py = ((2 * np.arange(n, dtype=np.float32) + 1) - np.float32(pose.y))[:, None] / np.float32(pose.scale)
    c, s = np.float32(math.cos(pose.roll)), np.float32(math.sin(pose.roll))
    return c * px + s * py, c * py - s * px


def print_pattern(pixels: np.ndarray, area: np.ndarray, x: np.ndarray, y: np.ndarray, pattern: face.Pattern) -> None:
    """Mix the pattern's colour into `pixels` in place where `area` is; it follows the roundness of the head."""
    box = box_of(area)
    x, y = x[box] * (1 + 0.2 * x[box] ** 2), y[box]
    turn = 2 * math.pi * pattern.frequency
    c, s = np.float32(math.cos(pattern.angle) * turn), np.float32(math.sin(pattern.angle) * turn)
    waves = np.sin(c * x + s * y)
    if pattern.kind != "stripes":
        across = np.sin(c * y - s * x)
        waves = 1.6 * waves * across - 0.4 if pattern.kind == "dots" else 0.5 * (np.sign(waves) + np.sign(across))
    share = (area[box] * np.clip(0.5 + 2 * waves, 0, 1))[..., None]
    if pattern.kind == "checks":
        share = (area[box] * (0.5 + 0.5 * waves))[..., None]
    pixels[box] += share * (np.asarray(pattern.colour, np.float32) - pixels[box])


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
    head *= cover(canvas, *range(face.EMPTY + 1, face.SHIRT))
    body *= cover(canvas, face.SHIRT, face.SCARF)
    return 1 + head + body


def photograph(rng: Rng, pixels: np.ndarray) -> Image.Image:
    """Exposure, colour of the light, contrast, blur and noise: (n, n, 3) float32 to an RGB picture."""
    n = len(pixels)
    warmth, green = rng.normal(0, 0.09), rng.normal(0, 0.025)
    exposure = math.exp(rng.normal(0.02, 0.2))
    pixels = pixels * np.asarray([1 + warmth, 1 + green, 1 - warmth], np.float32) * np.float32(exposure)
    contrast = np.float32(rng.uniform(0.7, 1.1))
    pixels = (pixels - 120) * contrast + np.float32(120 + rng.uniform(-12, 12))
    pixels = np.minimum(pixels, 190 + 0.5 * (pixels - 190))  # highlights roll off instead of burning out
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    focus = rng.random()
    if focus < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.2) * n / 224))
    elif focus < 0.4:  # enlarged from a small picture
        small = max(8, round(n * rng.uniform(0.25, 0.6)))
        picture = picture.resize((small, small), Image.Resampling.BILINEAR).resize((n, n), Image.Resampling.BILINEAR)
    noise = rng.exponential(2.2)
    if noise > 1:  # uniform instead of normal: a tenth of the time, and nobody sees the difference
        grain = np.frombuffer(rng.bytes(n * n * 3), np.int8).reshape(n, n, 3) * np.float32(noise / 74)
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    return picture.convert("L").convert("RGB") if rng.random() < 0.03 else picture


def encode(seed: int, label: str, index: int) -> bytes:
    """The picture as a JPEG of a quality of its own, 45 to 95."""
    quality = int(np.random.default_rng([seed, LABELS.index(label), index, 1]).integers(45, 96))
    buffer = io.BytesIO()
    draw_picture(seed, label, index).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


Task = tuple[int, str, int]  # seed, label, index


def encode_all(tasks: list[Task]) -> list[bytes]:
    """What a worker does with its chunk."""
    return [encode(*task) for task in tasks]


def write_archive(path: Path, per_class: int, seed: int) -> None:
    """Write a zip of `per_class` pictures of each class, the same bytes for the same arguments; whole or not at all.

    Members: data/with_mask/with_mask_1.jpg … and data/without_mask/without_mask_1.jpg …, stored, 224×224 RGB JPEG.
    Large archives are drawn by a pool of processes: call it below `if __name__ == "__main__":`.
    Raises UserError where per_class is under 1 or seed is negative.
    """
    if per_class < 1:
        raise UserError(f"per_class must be at least 1, got {per_class}")
    if seed < 0:
        raise UserError(f"seed must not be negative, got {seed}")
    tasks = [(seed, label, number) for label in reversed(LABELS) for number in range(1, per_class + 1)]
    with replacing(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
        pictures = chain.from_iterable(ordered_map(encode_all, chunks))
        progress = tqdm(pictures, total=len(tasks), unit="picture", desc="drawing", delay=1)
        for (_, label, number), encoded in zip(tasks, progress, strict=True):
            member = zipfile.ZipInfo(f"data/{label}/{label}_{number}.jpg", (1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, whatever this machine is
            member.external_attr = 0o644 << 16
            archive.writestr(member, encoded)
