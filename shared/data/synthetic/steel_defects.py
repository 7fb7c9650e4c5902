"""The four defects of the `steel` set: 1 pits, 2 scratches, 3 patches, 4 edge cracks.

Each function draws one defect into a surface and returns its mask. They differ in shape and texture, not in
brightness: pits are hollows in groups, lit from one side; scratches thin lines that taper at both ends and
lie across the rolling marks; patches rough areas with a torn outline; cracks jagged dark lines that grow
inwards from a border of the strip and branch.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.data.synthetic.steel_surface import Grey, Surface, blurred, soft_blob

Mask = NDArray[np.bool_]
DrawDefect = Callable[[Surface, np.random.Generator], Mask]
_SHIFT = 4  # fractional bits of drawn coordinates


def draw_pits(surface: Surface, rng: np.random.Generator) -> Mask:
    """One to three groups of small hollows: a dark core with a bright rim on the side away from the light."""
    height, width = surface.pixels.shape
    hollow = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        spread = rng.uniform(15, 60) * surface.scale
        x, y = _place(surface, rng, margin=spread)
        for _ in range(int(rng.integers(8, 40))):
            dx, dy = rng.normal(0, spread, 2)
            radius = rng.uniform(1.6, 4.5) * surface.scale
            axes = (radius, radius * rng.uniform(0.7, 1))
            _ellipse(hollow, (x + 1.5 * dx, y + dy), axes, rng.uniform(0, 180))
    alpha = np.asarray(hollow, np.float32) / np.float32(255)
    _sink(surface, alpha, depth=rng.uniform(0.25, 0.55), rim=rng.uniform(15, 40), rng=rng)
    return _coarse(alpha > 0.3, round(4 * surface.scale))


def draw_scratches(surface: Surface, rng: np.random.Generator) -> Mask:
    """One to four thin, slightly bent lines, bright with a dark side, nearly parallel to each other."""
    height, width = surface.pixels.shape
    line = np.zeros((height, width), np.float32)
    slant = np.deg2rad(rng.uniform(8, 70)) * rng.choice([-1, 1])
    x, y = _place(surface, rng, margin=70 * surface.scale)
    for _ in range(int(rng.integers(1, 5))):
        length = rng.uniform(70, 320) * surface.scale
        angle = slant + rng.normal(0, 0.04)
        middle = np.array([x, y]) + rng.normal(0, 14 * surface.scale, 2)
        start = middle - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
        _taper(line, _bent_line(start, angle, length, rng), rng.uniform(0.9, 2.0) * max(surface.scale, 0.6))
    soft = blurred(line, 0.6)
    strength = np.float32(rng.uniform(30, 70) + 2 * surface.roughness)
    side = np.roll(soft, 1 if rng.random() < 0.5 else -1, axis=0)
    surface.pixels += strength * soft - np.float32(rng.uniform(0.3, 0.7)) * strength * np.clip(
        side - soft, 0, 1
    )
    return _coarse(line > 0.25, round(3 * surface.scale))


def draw_patch(surface: Surface, rng: np.random.Generator) -> Mask:
    """One to three areas where the skin is torn: rough and blotchy inside, with a ragged outline."""
    height, width = surface.pixels.shape
    mask = np.zeros((height, width), bool)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        radius = rng.uniform(18, 75) * surface.scale
        blob = soft_blob(
            size=(height, width),
            radius=radius,
            stretch=rng.uniform(0.3, 3),
            ragged=rng.uniform(0.35, 0.7),
            centre=_place(surface, rng, margin=radius / 2),
            rng=rng,
        )
        cell = rng.uniform(3, 9) * surface.scale
        rough = _noise((height, width), cell, rng)
        flakes = np.tanh(1.3 * rough) + 0.5 * _noise((height, width), cell / 3, rng)  # plates, not clouds
        holes = np.clip(blob - 0.35 * (rough > 0.9), 0, 1)  # torn, so that the outline is no clean curve
        strength = np.float32(rng.uniform(7, 22) + 1.5 * surface.roughness)
        surface.pixels += holes * (strength * flakes + np.float32(rng.normal(0, 10)))
        mask |= blob > 0.5
    return mask


def draw_edge_cracks(surface: Surface, rng: np.random.Generator) -> Mask:
    """One to five jagged cracks, close together, growing inwards from one border and branching."""
    height, width = surface.pixels.shape
    crack = np.zeros((height, width), np.float32)
    border = rng.choice(["top", "bottom"])
    if (surface.left > 0 or surface.right < width) and rng.random() < 0.5:
        border = "left" if surface.left > 0 else "right"
    inwards = {"top": np.pi / 2, "bottom": -np.pi / 2, "left": 0.0, "right": np.pi}[border]
    along = rng.uniform(surface.left + 0.05 * width, surface.right - 0.05 * width)
    if border in ("left", "right"):
        along = rng.uniform(0.1, 0.9) * height
    for _ in range(int(rng.integers(1, 6))):
        place = along + rng.normal(0, 40 * surface.scale)
        start = {
            "top": (place, 0.0),
            "bottom": (place, height - 1.0),
            "left": (surface.left, place),
            "right": (surface.right - 1.0, place),
        }[border]
        reach = rng.uniform(30, 120) * surface.scale
        thick = rng.uniform(2.2, 5) * max(surface.scale, 0.6)
        _grow(crack, np.array(start), inwards + rng.normal(0, 0.35), reach, thick, rng)
    alpha = blurred(crack, 0.6)
    _sink(surface, alpha, depth=rng.uniform(0.35, 0.75), rim=rng.uniform(5, 18), rng=rng)
    return _coarse(alpha > 0.3, round(4 * surface.scale))


def _noise(size: tuple[int, int], cell: float, rng: np.random.Generator) -> Grey:
    """Return noise of deviation 1 with grains of about `cell` pixels."""
    noise = rng.standard_normal(size, dtype=np.float32)
    noise = blurred(noise, max(0.5, cell / 2))
    return np.asarray(noise / noise.std(), np.float32)


DEFECTS: dict[int, DrawDefect] = {1: draw_pits, 2: draw_scratches, 3: draw_patch, 4: draw_edge_cracks}


def _place(surface: Surface, rng: np.random.Generator, *, margin: float) -> tuple[float, float]:
    """Return a point (x, y) on the steel, `margin` away from its borders where that is possible."""
    height = surface.pixels.shape[0]
    side = min(margin, (surface.right - surface.left) / 4)
    x = rng.uniform(surface.left + side, surface.right - side)
    return x, rng.uniform(min(margin, height / 4), height - min(margin, height / 4))


def _sink(surface: Surface, alpha: Grey, *, depth: float, rim: float, rng: np.random.Generator) -> None:
    """Darken a hollow by the share `depth` and light its rim by `rim` grey levels, from one side."""
    towards = rng.uniform(0, 2 * np.pi)
    move = np.array([[1, 0, 1.4 * np.cos(towards)], [0, 1, 1.4 * np.sin(towards)]], np.float32)
    lit = cv2.warpAffine(alpha, move, alpha.shape[::-1])
    surface.pixels *= 1 - np.float32(depth) * alpha
    surface.pixels += np.float32(rim) * np.clip(lit - alpha, 0, 1)


def _coarse(mask: Mask, reach: int) -> Mask:
    """Grow a mask by `reach` pixels, as people outline: generously."""
    side = 2 * max(1, reach) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), bool)


def _fixed(values: tuple[float, float]) -> tuple[int, int]:
    return round(values[0] * 2**_SHIFT), round(values[1] * 2**_SHIFT)


def _ellipse(
    canvas: NDArray[np.uint8], centre: tuple[float, float], axes: tuple[float, float], angle: float
) -> None:
    cv2.ellipse(canvas, _fixed(centre), _fixed(axes), angle, 0, 360, 255, -1, cv2.LINE_AA, _SHIFT)


def _bent_line(
    start: NDArray[np.float64], angle: float, length: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return points [n, 2] of an arc whose direction drifts a little."""
    steps = 24
    angles = angle + np.linspace(0, 1, steps) * rng.normal(0, 0.25) + rng.normal(0, 0.02, steps).cumsum()
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=1) * length / steps
    return start + moves.cumsum(axis=0)


def _taper(canvas: Grey, points: NDArray[np.float64], thick: float) -> None:
    """Draw a line that is full in its middle and fades towards both ends."""
    middle = (len(points) - 1) / 2
    for number in range(len(points) - 1):
        fullness = 1 - abs(number - middle) / (middle + 0.5)
        _segment(canvas, points[number], points[number + 1], thick, 0.25 + 0.75 * min(1.0, 1.6 * fullness))


def _segment(
    canvas: Grey, first: NDArray[np.float64], second: NDArray[np.float64], thick: float, value: float
) -> None:
    """Draw one piece; thinner than a pixel becomes one pixel of less strength."""
    value *= min(1.0, thick)
    room = round(thick) + 3
    low = np.maximum(np.floor(np.minimum(first, second)).astype(int) - room, 0)
    high = np.minimum(np.ceil(np.maximum(first, second)).astype(int) + room, canvas.shape[::-1])
    if (low >= high).any():
        return  # beyond the picture
    part = canvas[low[1] : high[1], low[0] : high[0]]
    start, end = (_fixed((float(point[0] - low[0]), float(point[1] - low[1]))) for point in (first, second))
    drawn = np.zeros(part.shape, np.uint8)
    cv2.line(drawn, start, end, 255, max(1, round(thick)), cv2.LINE_AA, _SHIFT)
    np.maximum(part, np.float32(value / 255) * drawn, out=part)


def _grow(
    canvas: Grey,
    start: NDArray[np.float64],
    angle: float,
    reach: float,
    thick: float,
    rng: np.random.Generator,
    branches: int = 2,
) -> None:
    """Grow a crack from `start`: short straight pieces with sharp turns, thinner and thinner, branching."""
    pieces = max(4, round(reach / (7 * max(thick / 3, 0.5))))
    point, heading = start, angle
    for number in range(pieces):
        heading = angle + rng.normal(0, 0.6)
        following = point + np.array([np.cos(heading), np.sin(heading)]) * reach / pieces * rng.uniform(
            0.6, 1.4
        )
        left = 1 - number / pieces
        _segment(canvas, point, following, max(0.7, thick * left), 0.55 + 0.45 * left)
        if branches and number > 0 and rng.random() < 0.25:
            turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
            _grow(canvas, following, angle + turn, reach * left * 0.55, thick * left * 0.7, rng, branches - 1)
        point = following
