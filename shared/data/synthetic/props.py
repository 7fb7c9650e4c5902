"""Things that stand about and are not people; several have a person's proportions or colours on purpose.

Every prop is drawn for a `unit` in pixels: the height that a person standing in its place would have.
"""

from collections.abc import Callable

import numpy as np

from shared.data.synthetic.colours import cloth, leaf, material, skin, tinted
from shared.data.synthetic.sprites import Pen, Sprite, shade

Prop = Callable[[float, np.random.Generator], Sprite]


def draw_prop(kind: str, unit: float, rng: np.random.Generator) -> Sprite:
    """Draw the prop named `kind`; KeyError for a kind that is not in PROPS."""
    return shade(PROPS[kind](unit, rng), rng)


def _pen(unit: float, height: float, width: float) -> tuple[Pen, float, float]:
    """Return a pen for a prop of height x width units, and the (x, y) of its foot."""
    pen = Pen(round(unit * height) + 8, round(unit * width) + 8)
    return pen, pen.mask.shape[1] / 2, pen.mask.shape[0] - 4.0


def _pole(unit: float, rng: np.random.Generator) -> Sprite:
    height, arm = rng.uniform(1.8, 2.8), rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
    pen, x, y = _pen(unit, height, 1.4)
    colour = material(rng)
    pen.limb((x, y), (x, y - height * unit), unit * rng.uniform(0.04, 0.08), colour)
    pen.limb((x, y - height * unit), (x + arm * unit, y - height * unit), unit * 0.04, colour)
    pen.ellipse((x + arm * unit, y - height * unit + 2), (0.1 * unit, 0.05 * unit), (250, 245, 220))
    return pen.finish(x)


def _bin(unit: float, rng: np.random.Generator) -> Sprite:
    height, half = unit * rng.uniform(0.45, 0.75), unit * rng.uniform(0.14, 0.24)
    pen, x, y = _pen(unit, 0.9, 0.7)
    colour = cloth(rng)
    pen.polygon(
        [(x - half * 0.85, y), (x + half * 0.85, y), (x + half, y - height), (x - half, y - height)], colour
    )
    pen.ellipse((x, y - height), (half, half * 0.35), tinted(colour, rng))
    return pen.finish(x)


def _bush(unit: float, rng: np.random.Generator) -> Sprite:
    height, half = rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.9)
    pen, x, y = _pen(unit, 1.2, 2.4)
    colour = leaf(rng)
    for _ in range(int(rng.integers(8, 22))):
        radius = rng.uniform(0.1, 0.24)
        dx, dy = rng.uniform(-half, half), rng.uniform(radius * 0.5, max(height - radius, radius))
        factor = rng.uniform(0.7, 1.25)
        blob = (colour[0] * factor, min(255.0, colour[1] * factor), colour[2] * factor)
        pen.ellipse((x + dx * unit, y - dy * unit), (radius * unit, radius * unit * 0.9), blob)
    return pen.finish(x)


def _tree(unit: float, rng: np.random.Generator) -> Sprite:
    height = rng.uniform(1.8, 2.6)
    pen, x, y = _pen(unit, 3.4, 2.6)
    bark, colour = (70 + rng.uniform(-20, 30), 52, 38), leaf(rng)
    pen.limb(
        (x, y), (x + rng.normal(0, 0.05) * unit, y - height * unit), unit * rng.uniform(0.08, 0.16), bark
    )
    for _ in range(int(rng.integers(10, 24))):
        radius, factor = rng.uniform(0.18, 0.4), rng.uniform(0.7, 1.2)
        dx, dy = rng.normal(0, 0.35), height + rng.normal(0.1, 0.22)
        blob = (colour[0] * factor, min(255.0, colour[1] * factor), colour[2] * factor)
        pen.ellipse((x + dx * unit, y - dy * unit), (radius * unit, radius * unit), blob)
    return pen.finish(x)


def _sign(unit: float, rng: np.random.Generator) -> Sprite:
    """A plate on a post: a head on a body, to a careless eye."""
    height, radius = rng.uniform(0.95, 1.5), rng.uniform(0.09, 0.22)
    pen, x, y = _pen(unit, 2.0, 1.0)
    pen.limb((x, y), (x, y - height * unit), unit * rng.uniform(0.03, 0.06), material(rng))
    colour, top = cloth(rng), y - height * unit
    if rng.random() < 0.5:
        pen.ellipse((x, top), (radius * unit,) * 2, colour)
        pen.ellipse((x, top), (radius * unit * 0.75,) * 2, (240, 240, 240))
    else:
        half = radius * unit * rng.uniform(0.9, 1.6)
        pen.box(x - half, top - radius * unit, x + half, top + radius * unit, colour)
    return pen.finish(x)


def _post_box(unit: float, rng: np.random.Generator) -> Sprite:
    """An upright body with a domed top in the colours of clothes and skin."""
    height, half = unit * rng.uniform(0.5, 0.95), unit * rng.uniform(0.1, 0.2)
    pen, x, y = _pen(unit, 1.3, 0.6)
    colour = cloth(rng)
    pen.box(x - half, y - height, x + half, y, colour)
    pen.ellipse(
        (x, y - height), (half, half * rng.uniform(0.6, 1.2)), skin(rng) if rng.random() < 0.4 else colour
    )
    pen.box(x - half * 0.6, y - height * 0.8, x + half * 0.6, y - height * 0.72, (20, 20, 20))
    return pen.finish(x)


def _cabinet(unit: float, rng: np.random.Generator) -> Sprite:
    """Two blocks of cloth colours, as tall and as narrow as a person, without limbs or head."""
    height, half = unit * rng.uniform(0.7, 1.1), unit * rng.uniform(0.14, 0.26)
    pen, x, y = _pen(unit, 1.3, 0.7)
    split = y - height * rng.uniform(0.35, 0.6)
    pen.box(x - half, split, x + half, y, cloth(rng))
    pen.box(x - half, y - height, x + half, split, cloth(rng))
    if rng.random() < 0.5:
        pen.box(x - half * 0.6, y - height * 0.9, x + half * 0.6, split - height * 0.05, material(rng))
    return pen.finish(x)


def _bollard(unit: float, rng: np.random.Generator) -> Sprite:
    height, half = unit * rng.uniform(0.3, 0.6), unit * rng.uniform(0.05, 0.1)
    pen, x, y = _pen(unit, 0.9, 0.5)
    colour = cloth(rng)
    pen.limb((x, y - half), (x, y - height), 2 * half, colour)
    pen.ellipse((x, y - height - half), (half * 1.2,) * 2, tinted(colour, rng))
    return pen.finish(x)


def _cone(unit: float, rng: np.random.Generator) -> Sprite:
    height, half = unit * rng.uniform(0.3, 0.5), unit * rng.uniform(0.1, 0.16)
    pen, x, y = _pen(unit, 0.7, 0.6)
    pen.polygon([(x - half, y), (x + half, y), (x, y - height)], (230, 100, 20))
    low, high, wide, narrow = y - height * 0.4, y - height * 0.6, half * 0.6, half * 0.4
    pen.polygon([(x - wide, low), (x + wide, low), (x + narrow, high), (x - narrow, high)], (240, 240, 240))
    return pen.finish(x)


def _column(unit: float, rng: np.random.Generator) -> Sprite:
    height, half = unit * rng.uniform(1.3, 2.2), unit * rng.uniform(0.1, 0.22)
    pen, x, y = _pen(unit, 2.5, 0.9)
    colour = material(rng)
    pen.box(x - half, y - height, x + half, y, colour)
    pen.box(x - half * 1.3, y - height * 0.06, x + half * 1.3, y, tinted(colour, rng))
    return pen.finish(x)


def _bench(unit: float, rng: np.random.Generator) -> Sprite:
    half, seat = unit * rng.uniform(0.4, 0.7), unit * 0.25
    pen, x, y = _pen(unit, 0.8, 1.7)
    wood = (130 + rng.uniform(-40, 40), 90, 55)
    for side in (-0.8, 0.8):
        pen.limb((x + side * half, y), (x + side * half, y - seat), unit * 0.05, (50, 50, 55))
    pen.box(x - half, y - seat - unit * 0.06, x + half, y - seat, wood)
    pen.box(x - half, y - seat * 2.1, x + half, y - seat * 1.5, tinted(wood, rng))
    return pen.finish(x)


def _car(unit: float, rng: np.random.Generator) -> Sprite:
    length, height = unit * rng.uniform(2.1, 2.7), unit * rng.uniform(0.78, 0.95)
    facing = rng.choice([-1, 1])
    pen, x, y = _pen(unit, 1.2, 3.0)
    colour, glass = cloth(rng), (60, 75, 90)

    def at(along: float, up: float) -> tuple[float, float]:
        return x + facing * along * length, y - up * height

    pen.polygon([at(-0.5, 0.12), at(0.5, 0.12), at(0.5, 0.5), at(0.3, 0.58), at(-0.48, 0.58)], colour)
    pen.polygon([at(-0.38, 0.56), at(0.26, 0.56), at(0.12, 1.0), at(-0.28, 1.0)], colour)
    pen.polygon([at(-0.32, 0.6), at(-0.06, 0.6), at(-0.06, 0.93), at(-0.25, 0.93)], glass)
    pen.polygon([at(-0.03, 0.6), at(0.2, 0.6), at(0.1, 0.93), at(-0.03, 0.93)], glass)
    for along in (-0.3, 0.3):
        pen.ellipse(at(along, 0.16), (0.17 * height,) * 2, (25, 25, 28))
        pen.ellipse(at(along, 0.16), (0.09 * height,) * 2, (120, 120, 125))
    pen.ellipse(at(0.49, 0.42), (0.05 * height,) * 2, (250, 245, 210))
    return pen.finish(x)


PROPS: dict[str, Prop] = {
    "bench": _bench,
    "bin": _bin,
    "bollard": _bollard,
    "bush": _bush,
    "cabinet": _cabinet,
    "car": _car,
    "column": _column,
    "cone": _cone,
    "pole": _pole,
    "post_box": _post_box,
    "sign": _sign,
    "tree": _tree,
}
