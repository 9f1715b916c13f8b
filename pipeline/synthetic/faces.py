"""Synthetic images of faces with and without masks, which need no network and no data set.

An image depends only on (seed, label, index). `write_archive` arranges them like Kaggle's omkargurav/face-mask-dataset.
They are for tests, demos and load tests: metrics on them say nothing about photographs.
"""

from __future__ import annotations

import io
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from face_mask.errors import UserError
from face_mask.files import replacing
from face_mask.schema import LABELS
from pipeline.core.parallel import ordered_map
from pipeline.synthetic.backgrounds import draw_background
from pipeline.synthetic.body import draw_body
from pipeline.synthetic.canvas import (
    CLOTHS,
    DYED,
    HAIRS,
    MASK,
    SCARF,
    SKINS,
    Canvas,
    Person,
    Pose,
    Rng,
    ellipse,
    jittered,
    mixed,
    pick,
)
from pipeline.synthetic.coverings import (
    draw_dangling_mask,
    draw_hand,
    draw_lowered_mask,
    draw_mask,
    draw_scarf,
    mask_colour,
    mask_pattern,
)
from pipeline.synthetic.hair import draw_back_hair, draw_front_hair, draw_hat, draw_headscarf
from pipeline.synthetic.head import draw_beard, draw_brows, draw_eyes, draw_face, draw_glasses, draw_mouth, draw_nose
from pipeline.synthetic.light import photograph, shade

MASKS = ("surgical", "surgical", "cloth", "respirator", "bandana")
# Coverings of faces without a mask that a weak classifier mistakes for a mask.
HARD_NEGATIVES = ("hand", "scarf", "beard", "lowered mask", "dangling mask")
HARD_FRACTION = 1 / 3
CHUNK = 32  # images that a worker draws at a time


def variant(seed: int, label: str, index: int) -> str:
    """What covers the face in the image that `draw_image` draws: one of MASKS or HARD_NEGATIVES, or "uncovered".

    Raises ValueError for an unknown label or a negative seed or index.
    """
    return _variant(_generator(seed, label, index), label)


def _variant(rng: Rng, label: str) -> str:
    if label == "with_mask":
        return pick(rng, MASKS)
    return pick(rng, HARD_NEGATIVES) if rng.random() < HARD_FRACTION else "uncovered"


def _generator(seed: int, label: str, index: int) -> Rng:
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}: use one of {', '.join(LABELS)}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got {seed} and {index}")
    return np.random.default_rng([seed, LABELS.index(label), index])


def draw_image(seed: int, label: str, index: int, size: int = 224) -> Image.Image:
    """Draw one face as a size×size RGB image, which depends only on the arguments.

    Raises ValueError for an unknown label, a negative seed or index, or a size under 16.
    """
    return draw_with_box(seed, label, index, size)[0]


def draw_with_box(seed: int, label: str, index: int, size: int = 224) -> tuple[Image.Image, tuple[float, ...]]:
    """As `draw_image`; also returns left, top, right and bottom of the face, from crown to chin, in pixels."""
    rng = _generator(seed, label, index)
    if size < 16:
        raise ValueError(f"size must be at least 16, got {size}")
    kind = _variant(rng, label)
    side = 2 * size
    canvas = Canvas(draw_background(rng, side), random_pose(rng, side))
    light = rng.uniform(-1, 1)  # from the left (-1) or the right
    draw_person(canvas, rng, kind, light)
    pixels = shade(canvas, rng, light)
    outline = canvas.pose.project(ellipse(0, -0.06, 1, 1.34)) / 2
    box = np.clip([*outline.min(axis=0), *outline.max(axis=0)], 0, size)
    return photograph(rng, pixels), tuple(box.tolist())


def random_pose(rng: Rng, side: int) -> Pose:
    """A random pose: the head takes 40 to 80 % of the image's height, and its mouth is inside the image."""
    scale = side * rng.uniform(0.15, 0.3)
    room_x, room_y = max(0.0, side / 2 - 0.95 * scale), max(0.0, side / 2 - 1.25 * scale)
    x = side / 2 + rng.uniform(-0.8, 0.8) * room_x
    y = side / 2 + rng.uniform(-0.8, 0.6) * room_y
    return Pose(x, y, scale, rng.normal(0, 0.14), rng.uniform(-0.42, 0.42), rng.uniform(-0.12, 0.16))


def draw_person(canvas: Canvas, rng: Rng, kind: str, light: float) -> None:
    """Draw the whole person from back to front; `kind` as in `variant`."""
    skin = jittered(rng, mixed(pick(rng, SKINS), pick(rng, SKINS), rng.uniform(0, 0.3)), 8)
    hair = jittered(rng, DYED if rng.random() < 0.03 else pick(rng, HAIRS), 10)
    style = pick(rng, ("bald", "buzz", "short", "short", "parted", "parted", "afro", "bob", "long", "long", "bun"))
    headscarf = kind not in ("beard", "scarf", "dangling mask") and rng.random() < 0.1
    if headscarf:
        style = "bald"
    person = Person(skin, hair, style, rng.uniform(0.9, 1.08), -1 if light > 0 else 1)
    beard = "full" if kind == "beard" else "none"
    if kind != "beard" and style not in ("bob", "long", "bun") and not headscarf:
        beard = pick(rng, ("none", "none", "none", "stubble", "moustache", "full" if kind in MASKS else "stubble"))

    draw_back_hair(canvas, rng, person)
    draw_body(canvas, rng, person)
    draw_face(canvas, person, ears_visible=not headscarf)
    draw_eyes(canvas, rng, person)
    draw_brows(canvas, rng, person)
    draw_nose(canvas, rng, person)
    if beard != "none":
        draw_beard(canvas, rng, person, beard)
    draw_mouth(canvas, rng, person)

    masks = kind if kind in MASKS else pick(rng, MASKS[:3])
    colour = mask_colour(rng, masks, skin)
    pattern = mask_pattern(rng, masks)
    if pattern:
        canvas.patterns[MASK] = pattern
    scarf_top = rng.uniform(0.95, 1.2) if kind == "scarf" else rng.uniform(1.3, 1.5)
    if kind == "scarf" or (not headscarf and rng.random() < 0.08):
        cloth = mask_colour(rng, "scarf", skin)
        worn = mask_pattern(rng, "bandana")
        if worn:
            canvas.patterns[SCARF] = worn
        draw_scarf(canvas, rng, cloth, scarf_top)
    if kind in MASKS:
        draw_mask(canvas, rng, kind, colour)
    elif kind == "lowered mask":
        draw_lowered_mask(canvas, rng, masks, colour)
    if rng.random() < 0.3:
        draw_glasses(canvas, rng)
    draw_front_hair(canvas, rng, person)
    if headscarf:
        draw_headscarf(canvas, rng, jittered(rng, pick(rng, CLOTHS)))
    elif style not in ("afro", "bun") and rng.random() < 0.25:
        draw_hat(canvas, rng, pick(rng, ("beanie", "cap", "brim")))
    side = 1 if rng.random() < 0.5 else -1
    if kind == "dangling mask":
        draw_dangling_mask(canvas, rng, colour, side)
    if kind == "hand":
        draw_hand(canvas, rng, skin, (rng.normal(0, 0.08), rng.uniform(0.68, 0.85)), side)
    elif rng.random() < 0.06:  # a hand at the cheek or the brow, in both classes
        draw_hand(canvas, rng, skin, (side * rng.uniform(1.2, 1.5), rng.uniform(-0.3, 0.9)), side)


def encode(seed: int, label: str, index: int) -> bytes:
    """Draw an image and encode it as JPEG, with a quality of 45 to 95 that depends on the same arguments."""
    quality = int(np.random.default_rng([seed, LABELS.index(label), index, 1]).integers(45, 96))
    buffer = io.BytesIO()
    draw_image(seed, label, index).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


Task = tuple[int, str, int]  # seed, label, index


def encode_all(tasks: list[Task]) -> list[bytes]:
    """Encode the images of one chunk."""
    return [encode(*task) for task in tasks]


def write_archive(path: Path, per_class: int, seed: int) -> None:
    """Write a zip of `per_class` images of each class, atomically; the same arguments give the same bytes.

    Members: data/with_mask/with_mask_1.jpg … and data/without_mask/without_mask_1.jpg …, stored, 224×224 RGB JPEG.
    Large archives are drawn by a pool of processes: call this below `if __name__ == "__main__":`.
    Raises UserError if per_class is under 1 or seed is negative.
    """
    if per_class < 1:
        raise UserError(f"per_class must be at least 1, got {per_class}")
    if seed < 0:
        raise UserError(f"seed must not be negative, got {seed}")
    tasks = [(seed, label, number) for label in reversed(LABELS) for number in range(1, per_class + 1)]
    with replacing(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
        images = chain.from_iterable(ordered_map(encode_all, chunks))
        progress = tqdm(images, total=len(tasks), unit="image", desc="draw", delay=1)
        for (_, label, number), encoded in zip(tasks, progress, strict=True):
            member = zipfile.ZipInfo(f"data/{label}/{label}_{number}.jpg", (1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, on every platform
            member.external_attr = 0o644 << 16
            archive.writestr(member, encoded)
