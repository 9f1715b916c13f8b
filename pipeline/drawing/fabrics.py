"""Fabrics of masks: colours and patterns in face coordinates, other ones for training than for measuring.

A texture is a function of x and y (h, w) float32 in face coordinates, a random generator and the face's skin colour
(3,); it returns the fabric's colour (h, w, 3) float32 0…1 in even light. Folds and shadows are drawn by masks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

Texture = Callable[[np.ndarray, np.ndarray, np.random.Generator, np.ndarray], np.ndarray]
Colour = tuple[float, float, float]


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise (h, w) float32 with about `cells` bumps down and across, standard deviation near 1."""
    coarse = Image.fromarray(rng.normal(0, 1.3, cells).astype(np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))


def step(distance: np.ndarray, width: float = 0.03) -> np.ndarray:
    """An edge from 0 to 1 around distance 0, `width` wide, in face coordinates."""
    return (distance / width + 0.5).clip(0, 1)


def vary(rng: np.random.Generator, colour: Colour | np.ndarray, amount: float = 0.04) -> np.ndarray:
    """A colour (3,) float32 near this one."""
    colour = np.asarray(colour) * rng.uniform(1 - 2 * amount, 1 + 2 * amount)
    value = colour + rng.normal(0, amount / 2, 3) * (0.1 + colour)
    return value.clip(0.02, 0.98).astype(np.float32)


def pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> np.ndarray:
    return vary(rng, colours[rng.integers(len(colours))])


def mix(layers: list[tuple[np.ndarray, np.ndarray]], base: np.ndarray) -> np.ndarray:
    """Paint colours (3,) with weights (h, w) 0…1 one over the other."""
    for weight, colour in layers:
        base = base + weight[..., None] * (colour - base)
    return base


# Weaves: brightness (h, w) around 1.


def mottled(x, y, rng):
    """The uneven fibres of a non-woven fabric."""
    return 1 + 0.01 * noise(rng, x.shape, (60, 70))


def ribs(x, y, rng):
    return 1 + 0.035 * np.sin(x * (2 * np.pi / rng.uniform(0.05, 0.08))) + 0.015 * noise(rng, x.shape, (30, 30))


def knit(x, y, rng):
    period = rng.uniform(0.07, 0.11)
    return 1 + 0.06 * np.sin(y * (2 * np.pi / period) + 1.5 * np.abs(np.sin(x * (np.pi / period))))


def twill(x, y, rng):
    return 1 + 0.04 * np.sin((x + int(rng.choice([-1, 1])) * 1.2 * y) * (2 * np.pi / rng.uniform(0.05, 0.08)))


def embossed(x, y, rng):
    """Small points pressed into the fabric."""
    k = np.float32(2 * np.pi / rng.uniform(0.07, 0.1))
    return 1 - 0.04 * (np.sin(x * k) * np.sin(y * k)) ** 2


def smooth(x, y, rng):
    """Foam or neoprene: hardly a structure, a soft sheen."""
    return 1 + 0.03 * noise(rng, x.shape, (4, 4))


def melange(x, y, rng):
    """Yarn of several shades."""
    return 1 + 0.08 * noise(rng, x.shape, (60, 70))


def cloth(x, y, rng, skin, colours: tuple[Colour, ...], weave) -> np.ndarray:
    """One colour."""
    return pick(rng, colours) * weave(x, y, rng)[..., None].astype(np.float32)


def nude(x, y, rng, skin, weave, amount: float) -> np.ndarray:
    """Nearly the colour of the skin."""
    return vary(rng, skin, amount) * weave(x, y, rng)[..., None].astype(np.float32)


# Patterns

VIVID: tuple[Colour, ...] = (
    (0.7, 0.12, 0.15),
    (0.13, 0.25, 0.55),
    (0.9, 0.7, 0.15),
    (0.12, 0.42, 0.3),
    (0.9, 0.5, 0.6),
)
PALE: tuple[Colour, ...] = ((0.93, 0.92, 0.9), (0.75, 0.82, 0.9), (0.92, 0.85, 0.75), (0.85, 0.75, 0.8))
DEEP: tuple[Colour, ...] = ((0.07, 0.07, 0.08), (0.08, 0.1, 0.22), (0.25, 0.08, 0.1), (0.12, 0.2, 0.16))


def pair(rng: np.random.Generator, first: tuple[Colour, ...], second: tuple[Colour, ...]) -> list[np.ndarray]:
    """Two colours in random order."""
    colours = [pick(rng, first), pick(rng, second)]
    return colours if rng.random() < 0.5 else colours[::-1]


def cells(x, y, rng, period: float, jitter: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates within the cells of a staggered grid, and a random number 0…1 of each cell."""
    row = np.floor(y / period).astype(int)
    shifted = x / period + 0.5 * (row % 2)
    column = np.floor(shifted).astype(int)
    table = rng.random((3, 64, 64)).astype(np.float32)[:, row % 64, column % 64]
    u = (shifted - column - 0.5 + jitter * (table[0] - 0.5)) * period
    v = (y / period - row - 0.5 + jitter * (table[1] - 0.5)) * period
    return u, v, table[2]


def stripes(x, y, rng, skin):
    first, second = pair(rng, VIVID + DEEP, PALE)
    along = x if rng.random() < 0.5 else y
    period = rng.uniform(0.18, 0.45)
    width = rng.uniform(0.25, 0.6)
    return mix([(step(np.abs(along / period % 1 - 0.5) - width / 2, 0.1), second)], first)


def dots(x, y, rng, skin):
    first, second = pair(rng, VIVID + DEEP, PALE)
    period = rng.uniform(0.16, 0.34)
    u, v, _ = cells(x, y, rng, period, 0)
    return mix([(step(period * rng.uniform(0.22, 0.34) - np.hypot(u, v)), second)], first)


def gingham(x, y, rng, skin):
    colour = pick(rng, VIVID + DEEP)
    period = rng.uniform(0.2, 0.4)
    across = step(np.abs(x / period % 1 - 0.5) - 0.25, 0.1)
    down = step(np.abs(y / period % 1 - 0.5) - 0.25, 0.1)
    return mix([((across + down) / 2, colour)], np.array([0.93, 0.92, 0.9], np.float32))


def camouflage(x, y, rng, skin):
    palettes = (
        ((0.36, 0.38, 0.24), (0.2, 0.24, 0.14), (0.42, 0.32, 0.2), (0.08, 0.09, 0.07)),
        ((0.62, 0.6, 0.56), (0.4, 0.4, 0.4), (0.25, 0.26, 0.28), (0.85, 0.84, 0.82)),
        ((0.72, 0.6, 0.43), (0.5, 0.4, 0.27), (0.83, 0.74, 0.58), (0.3, 0.23, 0.16)),
    )
    colours = [vary(rng, colour) for colour in palettes[rng.integers(len(palettes))]]
    size = rng.integers(9, 18)
    layers = [(step(noise(rng, x.shape, (size, size)) - level, 0.1), colour) for level, colour in
              zip((0.1, 0.5, 0.8), colours[1:], strict=True)]  # fmt: skip
    return mix(layers, colours[0])


def petals(x, y, rng, period: float, count: int, jitter: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flowers: weights of petals and of hearts, and a random number of each flower."""
    u, v, which = cells(x, y, rng, period, jitter)
    radius = np.hypot(u, v)
    angle = np.arctan2(v, u) + which * 7
    edge = period * (0.25 + 0.12 * which) * (0.72 + 0.28 * np.cos(count * angle))
    return step(edge - radius), step(period * 0.09 - radius), which


def blossoms(x, y, rng, skin):
    """Large flowers of two colours with five petals."""
    ground, _ = pair(rng, DEEP + VIVID[:2], PALE)
    first, second = pick(rng, VIVID), pick(rng, PALE + VIVID)
    petal, heart, which = petals(x, y, rng, rng.uniform(0.5, 0.75), 5, 0.3)
    return mix(
        [(petal * (which < 0.5), first), (petal * (which >= 0.5), second), (heart, np.array([0.85, 0.7, 0.2]))], ground
    ).astype(np.float32)


def sprigs(x, y, rng, skin):
    """Small scattered flowers and leaves."""
    ground = pick(rng, PALE + DEEP + ((0.55, 0.65, 0.7), (0.6, 0.3, 0.4)))
    leaf, _, _ = petals(x + 0.1, y + 0.07, rng, rng.uniform(0.22, 0.3), 2, 0.6)
    petal, heart, _ = petals(x, y, rng, rng.uniform(0.2, 0.32), 4, 0.5)
    return mix([(leaf, vary(rng, (0.25, 0.4, 0.22))), (petal, pick(rng, VIVID)), (heart, pick(rng, PALE))], ground)


def zigzag(x, y, rng, skin):
    first, second = pair(rng, VIVID + DEEP, PALE)
    period = rng.uniform(0.2, 0.4)
    bend = np.abs(x / period % 1 - 0.5) * period * rng.uniform(0.8, 1.6)
    return mix([(step(np.abs((y + bend) / period % 1 - 0.5) - 0.25, 0.1), second)], first)


def diagonal(x, y, rng, skin):
    """Slanting stripes of three colours."""
    colours = [pick(rng, VIVID + DEEP), pick(rng, PALE), pick(rng, VIVID)]
    at = (x + int(rng.choice([-1, 1])) * rng.uniform(0.6, 1.2) * y) / rng.uniform(0.3, 0.6) % 1
    return mix([(step(np.abs(at - 0.5) - 0.2, 0.08), colours[1]), (step(0.08 - np.abs(at - 0.5), 0.08), colours[2])],
               colours[0])  # fmt: skip


def tartan(x, y, rng, skin):
    ground, broad, fine = pick(rng, VIVID[:2] + VIVID[3:4] + DEEP), pick(rng, DEEP), pick(rng, PALE + VIVID)
    period = rng.uniform(0.4, 0.7)
    result = ground
    for along in (x, y):
        at = along / period % 1
        result = mix([(0.5 * step(0.17 - np.abs(at - 0.4), 0.06), broad),
                      (0.6 * step(0.03 - np.abs(at - 0.85), 0.05), fine)], result)  # fmt: skip
    return result


def leopard(x, y, rng, skin):
    ground = vary(rng, (0.78, 0.6, 0.38)) if rng.random() < 0.7 else vary(rng, (0.75, 0.74, 0.72))
    u, v, which = cells(x + 0.05 * noise(rng, x.shape, (20, 20)), y, rng, rng.uniform(0.2, 0.3), 0.5)
    radius = np.hypot(u, v * (0.8 + 0.5 * which))
    gap = np.cos(np.arctan2(v, u) + 6 * which) < 0.75
    return mix([(step(0.1 - radius, 0.04) * gap, vary(rng, (0.1, 0.07, 0.05))), (step(0.05 - radius, 0.04),
               vary(rng, (0.55, 0.36, 0.18)))], ground)  # fmt: skip


def tie_dye(x, y, rng, skin):
    colours = [pick(rng, VIVID), pick(rng, VIVID), pick(rng, PALE)]
    swirl = np.hypot(x - rng.uniform(-0.4, 0.4), y - rng.uniform(0.9, 1.5)) * 1.2 + 0.5 * noise(rng, x.shape, (7, 7))
    return mix([((0.5 + 0.5 * np.sin(swirl * 2 * np.pi)) ** 2, colours[1]),
                ((0.5 + 0.5 * np.sin(swirl * 4 + 2)) ** 4, colours[2])], colours[0]).astype(np.float32)  # fmt: skip


def lettering(x, y, rng, skin):
    """One colour with a line of signs or a logo at a side or in the middle."""
    ground, ink = pair(rng, DEEP + VIVID, PALE)
    size = rng.uniform(0.09, 0.2)
    count = rng.integers(3, 8)
    left = rng.uniform(-0.85, 0.75 - count * size) if count * size < 1.5 else -count * size / 2
    base = rng.uniform(0.8, 1.6)
    result = np.zeros_like(x)
    slope = rng.normal(0, 0.05)
    for index in range(count):
        u, v = (x - left - index * size) / (size * 0.8), (y - base - slope * x) / (size * 1.4)
        box = (u > 0) & (u < 1) & (v > 0) & (v < 1)
        bars = [np.abs(u - 0.15), np.abs(u - 0.85), np.abs(v - 0.1), np.abs(v - 0.5), np.abs(v - 0.9), np.abs(u - v)]
        for bar in rng.choice(6, 3, replace=False):
            result = np.maximum(result, step(0.13 - bars[bar], 0.1) * box)
    return mix([(result, ink)], ground)


def printed_mouth(x, y, rng, skin):
    """A printed mouth with teeth."""
    ground = pick(rng, ((0.07, 0.07, 0.08), (0.9, 0.9, 0.88), (0.78, 0.6, 0.5), (0.45, 0.65, 0.75), (0.55, 0.12, 0.14)))
    width, height = rng.uniform(0.5, 0.85), rng.uniform(0.18, 0.34)
    v = y - rng.uniform(1.12, 1.3) + rng.uniform(-0.1, 0.35) * x**2
    curve = np.sqrt((1 - (x / width) ** 2).clip(0))
    lip = step(height * curve - np.abs(v), 0.03)
    inner = step(height * rng.uniform(0.6, 0.75) * curve - np.abs(v), 0.03)
    tooth = inner * (np.abs(x / rng.uniform(0.14, 0.22) % 1 - 0.5) < 0.43) * (np.abs(v) > 0.02)
    return mix([(lip, vary(rng, (0.65, 0.13, 0.15))), (inner, vary(rng, (0.1, 0.04, 0.05))),
                (tooth, vary(rng, (0.92, 0.9, 0.84)))], ground)  # fmt: skip


def coloured(weave: Callable, *colours: Colour) -> Texture:
    return partial(cloth, colours=colours, weave=weave)


# By family and kind of mask, each with a name that only it has.
FABRICS: dict[str, dict[str, dict[str, Texture]]] = {
    "training": {
        "surgical": {
            "spunbond_blue": coloured(mottled, (0.62, 0.8, 0.93), (0.7, 0.85, 0.95)),
            "spunbond_mint": coloured(mottled, (0.63, 0.85, 0.76)),
            "spunbond_white": coloured(mottled, (0.92, 0.93, 0.94)),
            "spunbond_lilac": coloured(mottled, (0.76, 0.72, 0.9)),
        },
        "white": {
            "ribbed_white": coloured(ribs, (0.93, 0.93, 0.93), (0.92, 0.9, 0.86)),
            "fleece_white": coloured(mottled, (0.95, 0.95, 0.96), (0.88, 0.88, 0.9)),
        },
        "dark": {
            "ribbed_black": coloured(ribs, (0.07, 0.07, 0.08), (0.1, 0.1, 0.11)),
            "knit_navy": coloured(knit, (0.09, 0.11, 0.2), (0.12, 0.15, 0.25)),
            "knit_grey": coloured(knit, (0.25, 0.25, 0.27), (0.34, 0.34, 0.35)),
        },
        "patterned": {
            "stripes": stripes,
            "dots": dots,
            "gingham": gingham,
            "camouflage": camouflage,
            "blossoms": blossoms,
            "ribbed_colour": coloured(ribs, *VIVID),
        },
        "skin_coloured": {"nude_knit": partial(nude, weave=knit, amount=0.08),
                          "nude_mottled": partial(nude, weave=mottled, amount=0.05)},
    },
    "measuring": {
        "surgical": {
            "meltblown_turquoise": coloured(embossed, (0.45, 0.74, 0.82), (0.55, 0.8, 0.86)),
            "meltblown_green": coloured(embossed, (0.5, 0.74, 0.6)),
            "meltblown_pink": coloured(embossed, (0.93, 0.72, 0.78)),
            "meltblown_ice": coloured(embossed, (0.86, 0.92, 0.95)),
        },
        "white": {
            "twill_white": coloured(twill, (0.92, 0.92, 0.91), (0.9, 0.88, 0.84)),
            "embossed_white": coloured(embossed, (0.95, 0.95, 0.95)),
        },
        "dark": {
            "neoprene_black": coloured(smooth, (0.06, 0.06, 0.07), (0.12, 0.12, 0.13)),
            "twill_navy": coloured(twill, (0.06, 0.08, 0.18), (0.1, 0.13, 0.3)),
            "melange_grey": coloured(melange, (0.2, 0.2, 0.21), (0.3, 0.3, 0.31)),
            "neoprene_brown": coloured(smooth, (0.2, 0.12, 0.09), (0.22, 0.06, 0.1)),
        },
        "patterned": {
            "zigzag": zigzag,
            "diagonal": diagonal,
            "tartan": tartan,
            "sprigs": sprigs,
            "leopard": leopard,
            "tie_dye": tie_dye,
            "lettering": lettering,
            "printed_mouth": printed_mouth,
            "neoprene_colour": coloured(smooth, *VIVID),
        },
        "skin_coloured": {"nude_smooth": partial(nude, weave=smooth, amount=0.04),
                          "nude_twill": partial(nude, weave=twill, amount=0.07)},
    },
}  # fmt: skip
