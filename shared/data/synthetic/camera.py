"""A fixed camera: where its ground lies, how tall people are on it, and the place it looks at."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.data.synthetic.colours import cloth, from_hsv, leaf, material, tinted
from shared.data.synthetic.props import PROPS, draw_prop
from shared.data.synthetic.sprites import Sprite

SUPERSAMPLING = 2  # pictures are drawn at twice their size and averaged down, which smooths every edge


@dataclass(frozen=True, slots=True)
class Placed:
    """A sprite with its foot at (x, y) on the canvas; things further down stand in front."""

    sprite: Sprite
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Camera:
    """One view. All lengths are canvas pixels (SUPERSAMPLING times the picture's).

    On flat ground seen from above, a person's height grows in proportion to the distance of the feet below
    the horizon: height = growth * (y - horizon). Feet stand between `far_y` and `near_y`.
    """

    background: NDArray[np.uint8]
    horizon: float
    growth: float
    far_y: float
    near_y: float
    furniture: tuple[Placed, ...]
    noise: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the canvas."""
        return self.background.shape[0], self.background.shape[1]

    def person_height(self, y: float) -> float:
        """Height in canvas pixels of an adult whose feet are at row `y`."""
        return self.growth * (y - self.horizon)

    def foot_row(self, height: float) -> float:
        """The row at which an adult is `height` canvas pixels tall, kept on the ground."""
        return min(self.near_y, max(self.far_y, self.horizon + height / self.growth))


def build_camera(size: tuple[int, int], rng: np.random.Generator) -> Camera:
    """Invent a camera for pictures of `size` (height, width) pixels: a place, its furniture, its noise."""
    height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    horizon = height * rng.uniform(-0.1, 0.22)
    largest = height * rng.uniform(0.35, 0.5)  # a person's height at the lower edge
    growth = largest / (height - horizon)
    smallest = height * rng.uniform(0.07, 0.11)
    far_y = max(horizon + smallest / growth, height * 0.06)
    background = _ground(height, width, rng)
    vanishing = (width * rng.uniform(0.1, 0.9), horizon)
    _ground_lines(background, vanishing, rng)
    _wall(background, round(far_y - rng.uniform(0, 0.5) * smallest), smallest, rng)
    camera = Camera(background, horizon, growth, far_y, height * 1.06, (), _noise(size, rng))
    furniture = tuple(place_prop(camera, rng) for _ in range(int(rng.integers(4, 11))))
    return Camera(background, horizon, growth, far_y, camera.near_y, furniture, camera.noise)


def place_prop(camera: Camera, rng: np.random.Generator) -> Placed:
    """Stand one prop of a random kind somewhere on the ground."""
    y = rng.uniform(camera.far_y, camera.near_y)
    kind = sorted(PROPS)[rng.integers(len(PROPS))]
    return Placed(draw_prop(kind, camera.person_height(y), rng), rng.uniform(0, camera.size[1]), y)


def _ground(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Asphalt, stone or grass with blotches of several sizes."""
    base = np.array(leaf(rng) if rng.random() < 0.2 else material(rng), dtype=np.float32)
    texture = np.zeros((height, width), np.float32)
    for cells, strength in ((4, 12), (16, 9), (64, 6), (height // 3, 5)):
        coarse = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(base + texture[..., None], 0, 255).astype(np.uint8)


def _ground_lines(
    canvas: NDArray[np.uint8], vanishing: tuple[float, float], rng: np.random.Generator
) -> None:
    """Joints of paving or painted lanes that run to the vanishing point, and steps across them."""
    height, width = canvas.shape[:2]
    colour = (225, 225, 215) if rng.random() < 0.4 else tinted(tuple(canvas[-1, 0].tolist()), rng)
    thickness = int(rng.integers(1, 7))
    for x in np.arange(-width, 2 * width, width * rng.uniform(0.12, 0.6)):
        cv2.line(canvas, (round(x), height), (round(vanishing[0]), round(vanishing[1])), colour, thickness)
    if rng.random() < 0.5:
        gap = rng.uniform(0.05, 0.2)
        depth = 1.0
        while depth > 0.1:
            y = round(vanishing[1] + (height - vanishing[1]) * depth)
            cv2.line(canvas, (0, y), (width, y), colour, max(1, round(thickness * depth)))
            depth *= 1 - gap
    for _ in range(int(rng.integers(0, 5))):  # stains and patches
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(10, width // 6)), int(rng.integers(4, height // 14)))
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, material(rng), cv2.FILLED)


def _wall(canvas: NDArray[np.uint8], base: int, person: float, rng: np.random.Generator) -> None:
    """What stands behind the ground above row `base`: buildings with windows and doors, a hedge, or sky."""
    width = canvas.shape[1]
    if base < 4:
        return
    cv2.rectangle(
        canvas, (0, 0), (width, base), from_hsv(rng.uniform(0.5, 0.62), 0.25, rng.uniform(0.6, 0.95)), -1
    )
    x = 0
    while x < width:
        span = int(rng.uniform(0.15, 0.6) * width)
        top = int(base - person * rng.uniform(1.0, 8.0))
        colour = material(rng) if rng.random() < 0.7 else cloth(rng)
        cv2.rectangle(canvas, (x, top), (x + span, base), colour, cv2.FILLED)
        _windows(canvas, (x, top, x + span, base), person, rng)
        x += span
    cv2.rectangle(canvas, (0, base - max(1, int(person * 0.1))), (width, base), material(rng), cv2.FILLED)


def _windows(
    canvas: NDArray[np.uint8], block: tuple[int, int, int, int], person: float, rng: np.random.Generator
) -> None:
    """Windows, and doors of a person's size."""
    left, top, right, base = block
    glass = from_hsv(rng.uniform(0.5, 0.65), rng.uniform(0, 0.4), rng.uniform(0.1, 0.7))
    wide, tall = person * rng.uniform(0.4, 1.2), person * rng.uniform(0.5, 1.1)
    for y in np.arange(top + person * 0.4, base - person * 1.6, tall + person * 0.6):
        for x in np.arange(left + person * 0.4, right - wide, wide + person * rng.uniform(0.4, 1.0)):
            cv2.rectangle(canvas, (round(x), round(y)), (round(x + wide), round(y + tall)), glass, cv2.FILLED)
    for _ in range(int(rng.integers(0, 4))):
        x = rng.uniform(left, right)
        corner = (round(x + person * rng.uniform(0.35, 0.6)), base)
        cv2.rectangle(canvas, (round(x), round(base - person * 1.2)), corner, cloth(rng), cv2.FILLED)


def _noise(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """A field of unit sensor noise, half of it in all channels alike, larger than a picture.

    Each picture takes a random part of it: drawing noise anew would cost more than everything else.
    """
    shape = (size[0] + 64, size[1] + 64)
    grey = rng.standard_normal((*shape, 1), dtype=np.float32)
    colour = rng.standard_normal((*shape, 3), dtype=np.float32)
    return (grey + colour) / np.float32(np.sqrt(2))
