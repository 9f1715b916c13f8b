"""Backgrounds: a gradient, shapes, a room, outdoors."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.synthetic.canvas import Colour, Rng, jittered, mixed, pick, shaded

SCENE = 112  # side of a background before it is upscaled; it is out of focus anyway


def draw_background(rng: Rng, side: int) -> Image.Image:
    """Draw a random background as a side×side RGB image: a gradient, blurred shapes, a room or outdoors."""
    draw_scene, blur = pick(rng, SCENES)
    image = draw_scene(rng)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur * rng.uniform(0.3, 2)))
    return image.resize((side, side), Image.Resampling.BILINEAR)


def any_colour(rng: Rng) -> Colour:
    """A random colour, mostly muted like walls and furniture."""
    r, g, b = rng.integers(20, 236, 3).tolist()
    grey = int(rng.integers(40, 230))
    return mixed((r, g, b), (grey, grey, grey), rng.uniform(0.45, 0.95))


def draw_gradient(rng: Rng) -> Image.Image:
    """Draw an unevenly lit wall or studio backdrop."""
    base = any_colour(rng)
    factors = rng.uniform(0.45, 1.4, (3, 3, 1)) ** rng.uniform(0.2, 1)
    grid = np.clip(np.asarray(base) * factors + rng.normal(0, 5, (3, 3, 3)), 0, 255)
    return Image.fromarray(grid.astype(np.uint8)).resize((SCENE, SCENE), Image.Resampling.BICUBIC)


def draw_shapes(rng: Rng) -> Image.Image:
    image = draw_gradient(rng)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(6, 22))):
        (x, y), (w, h) = rng.uniform(-20, SCENE, 2), rng.uniform(6, 50, 2)
        shape = pick(rng, (draw.ellipse, draw.rectangle))
        shape((x, y, x + w, y + h), fill=any_colour(rng))
    return image


def draw_room(rng: Rng) -> Image.Image:
    """Draw a wall with windows, picture frames, shelves or a door, and the floor or a table."""
    image = draw_gradient(rng)
    draw = ImageDraw.Draw(image)
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
    return image


def draw_outdoors(rng: Rng) -> Image.Image:
    """Draw sky and ground with hills, trees or houses between them."""
    sky = jittered(rng, pick(rng, ((150, 190, 230), (200, 210, 220), (240, 190, 140), (90, 110, 150))), 20)
    image = Image.new("RGB", (SCENE, SCENE), sky)
    draw = ImageDraw.Draw(image)
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
    return image


SCENES = ((draw_gradient, 0.0), (draw_shapes, 2.0), (draw_shapes, 2.0), (draw_room, 0.8), (draw_room, 1.2),
          (draw_outdoors, 1.0), (draw_outdoors, 1.5))  # fmt: skip
