"""Colours drawn at random: cloth, skin, hair, materials. All are RGB in 0..255."""

import colorsys

import numpy as np

from shared.data.synthetic.sprites import Colour

# Tones from very light to very dark, each varied a little when drawn.
_SKIN: tuple[Colour, ...] = (
    (244, 208, 177), (231, 180, 143), (210, 158, 124), (186, 120, 81),
    (165, 94, 43), (110, 62, 32), (60, 40, 32),
)  # fmt: skip
_HAIR: tuple[Colour, ...] = (
    (25, 20, 18),
    (60, 42, 30),
    (100, 70, 40),
    (190, 160, 110),
    (150, 150, 150),
    (90, 40, 25),
)


def cloth(rng: np.random.Generator, *, darker: bool = False) -> Colour:
    """A colour that people wear: often neutral, sometimes bright."""
    if rng.random() < 0.4:
        level = rng.uniform(15, 90) if darker or rng.random() < 0.6 else rng.uniform(90, 240)
        return _jitter((level, level, level * rng.uniform(0.95, 1.12)), rng, 8)
    return from_hsv(rng.random(), rng.beta(2, 2), rng.uniform(0.15, 0.45 if darker else 0.95))


def skin(rng: np.random.Generator) -> Colour:
    """A tone of skin."""
    return _jitter(_SKIN[rng.integers(len(_SKIN))], rng, 5)


def hair(rng: np.random.Generator) -> Colour:
    """A colour of hair."""
    return _jitter(_HAIR[rng.integers(len(_HAIR))], rng, 6)


def material(rng: np.random.Generator) -> Colour:
    """Stone, plaster, asphalt: near grey, with a slight warm or cold tint."""
    return from_hsv(
        rng.choice([0.08, 0.12, 0.58]) + rng.normal(0, 0.02), rng.uniform(0, 0.25), rng.uniform(0.25, 0.8)
    )


def leaf(rng: np.random.Generator) -> Colour:
    """A green, sometimes autumnal."""
    return from_hsv(rng.uniform(0.17, 0.4), rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.55))


def tinted(colour: Colour, rng: np.random.Generator) -> Colour:
    """A colour near another one, lighter or darker."""
    factor = rng.choice([0.6, 0.75, 1.3, 1.5])
    return _clip(colour[0] * factor, colour[1] * factor, colour[2] * factor)


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """Convert hue, saturation and value in 0..1; the hue wraps around."""
    red, green, blue = colorsys.hsv_to_rgb(float(hue) % 1.0, float(saturation), float(value))
    return red * 255, green * 255, blue * 255


def _jitter(colour: Colour, rng: np.random.Generator, amount: float) -> Colour:
    red, green, blue = rng.normal(0, amount, 3)
    return _clip(colour[0] + red, colour[1] + green, colour[2] + blue)


def _clip(red: float, green: float, blue: float) -> Colour:
    return min(255.0, max(0.0, red)), min(255.0, max(0.0, green)), min(255.0, max(0.0, blue))
