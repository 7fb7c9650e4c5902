"""Cut-out pictures with a mask, drawn from simple shapes, and laid over a canvas from back to front."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Point = tuple[float, float]
_SHIFT = 3  # OpenCV draws at eighths of a pixel, which small figures need


@dataclass(frozen=True, slots=True)
class Sprite:
    """A cut-out: `image` uint8 [h, w, 3] RGB where `mask` (uint8 [h, w]) is 255.

    `foot_x` is the column that stands on the ground; the last row is the ground contact.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    foot_x: float

    def placed_at(self, x: float, y: float) -> tuple[int, int]:
        """Return the (left, top) that puts the foot at (x, y) on a canvas."""
        return round(x - self.foot_x), round(y) - self.mask.shape[0]


class Pen:
    """Draws shapes into a cut-out of its own. Coordinates are pixels, y down; any may lie outside."""

    def __init__(self, height: int, width: int) -> None:
        self.image = np.zeros((height, width, 3), np.uint8)
        self.mask = np.zeros((height, width), np.uint8)

    def limb(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """A thick stroke with round ends."""
        thickness = max(1, round(width))
        for target, ink in ((self.image, colour), (self.mask, 255)):
            cv2.line(target, _fixed(start), _fixed(end), ink, thickness, cv2.LINE_8, _SHIFT)

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """A filled polygon."""
        corners = np.array([_fixed(point) for point in points], dtype=np.int32)
        for target, ink in ((self.image, colour), (self.mask, 255)):
            cv2.fillPoly(target, [corners], ink, cv2.LINE_8, _SHIFT)

    def ellipse(
        self,
        centre: Point,
        axes: Point,
        colour: Colour,
        *,
        angle: float = 0,
        arc: tuple[float, float] = (0, 360),
    ) -> None:
        """A filled ellipse with half-axes `axes`, or the slice of it between two angles in degrees."""
        for target, ink in ((self.image, colour), (self.mask, 255)):
            cv2.ellipse(
                target,
                _fixed(centre),
                _fixed(axes),
                angle,
                arc[0],
                arc[1],
                ink,
                cv2.FILLED,
                cv2.LINE_8,
                _SHIFT,
            )

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def finish(self, foot_x: float) -> Sprite:
        """Crop to what was drawn."""
        left, top, width, height = cv2.boundingRect(self.mask)
        crop = np.s_[top : top + height, left : left + width]
        return Sprite(self.image[crop], self.mask[crop], foot_x - left)


def shade(sprite: Sprite, rng: np.random.Generator) -> Sprite:
    """Light a cut-out from one side and darken it a little towards the ground."""
    height, width = sprite.mask.shape
    across = np.linspace(rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.3), width, dtype=np.float32)
    down = np.linspace(rng.uniform(1.0, 1.12), rng.uniform(0.8, 1.0), height, dtype=np.float32)
    gain = cv2.merge([np.outer(down, across)] * 3)
    shaded = np.asarray(cv2.multiply(sprite.image, gain, dtype=cv2.CV_8U), np.uint8)
    return Sprite(shaded, sprite.mask, sprite.foot_x)


def paste(
    canvas: NDArray[np.uint8], owners: NDArray[np.uint8], sprite: Sprite, corner: tuple[int, int], owner: int
) -> None:
    """Lay `sprite` over `canvas` [H, W, 3] at `corner` (left, top) and write `owner` into `owners` [H, W]."""
    window, inner = _overlap(canvas.shape[:2], sprite.mask.shape, corner)
    if window is None:
        return
    mask = sprite.mask[inner]
    cv2.copyTo(sprite.image[inner], mask, canvas[window])
    owners[window][mask > 0] = owner


def darken(
    canvas: NDArray[np.uint8], mask: NDArray[np.uint8], corner: tuple[int, int], strength: float
) -> None:
    """Darken `canvas` under `mask` (0..255, soft edges allowed) by up to `strength` (0..1)."""
    window, inner = _overlap(canvas.shape[:2], mask.shape, corner)
    if window is None:
        return
    gain = cv2.merge([np.float32(1) - mask[inner] * np.float32(strength / 255)] * 3)
    canvas[window] = cv2.multiply(canvas[window], gain, dtype=cv2.CV_8U)


def _fixed(point: Point) -> tuple[int, int]:
    return round(point[0] * (1 << _SHIFT)), round(point[1] * (1 << _SHIFT))


def _overlap(
    canvas: tuple[int, ...], patch: tuple[int, ...], corner: tuple[int, int]
) -> tuple[tuple[slice, slice] | None, tuple[slice, slice]]:
    """Return the slices of canvas and patch that fall on each other; None where nothing does."""
    left, top = corner
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(canvas[1], left + patch[1]), min(canvas[0], top + patch[0])
    inner = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
    return (np.s_[y1:y2, x1:x2] if x1 < x2 and y1 < y2 else None), inner
