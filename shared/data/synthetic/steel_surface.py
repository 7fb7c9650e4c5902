"""Grey strip steel without defects: texture, light, rolling marks, and what only looks like a defect.

All pictures are float32 [H, W] in grey levels, 0..255. Lengths are given for strips of 256 rows and scaled.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
REFERENCE_ROWS = 256


@dataclass(slots=True)
class Surface:
    """One strip: its pixels, the columns that are steel, and how strongly its texture varies, in grey levels.

    left, right: first column of the steel and the one after its last; beyond them is the dark table.
    """

    pixels: Grey
    left: int
    right: int
    roughness: float

    @property
    def scale(self) -> float:
        """Pixels per pixel of a strip of 256 rows."""
        return self.pixels.shape[0] / REFERENCE_ROWS


def draw_surface(size: tuple[int, int], rng: np.random.Generator) -> Surface:
    """Draw the strip, its light and its texture; distractors come with `add_distractors`."""
    height, width = size
    level = rng.uniform(70, 165)
    roughness = rng.uniform(2.0, 7.0)
    scale = height / REFERENCE_ROWS
    pixels = level * _light(size, rng)
    pixels += roughness * _grain(
        size, along=rng.uniform(4, 22) * scale, across=rng.uniform(0.6, 1.6), rng=rng
    )
    pixels += rng.uniform(0.5, 1.5) * roughness * _clouds(size, rng.uniform(18, 60) * scale, rng)
    left, right = 0, width
    if rng.random() < 0.22:  # the strip ends within the picture
        margin = int(rng.uniform(0.03, 0.3) * width)
        left, right = (margin, width) if rng.random() < 0.5 else (0, width - margin)
    return Surface(pixels.astype(np.float32), left, right, roughness)


def add_distractors(surface: Surface, rng: np.random.Generator) -> None:
    """Add rolling marks, stains, drops, scale specks and dust, each now and then."""
    if rng.random() < 0.55:
        _rolling_marks(surface, rng)
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 4))):
            _stain(surface, rng)
    if rng.random() < 0.2:
        _drops(surface, rng)
    if rng.random() < 0.3:
        _specks(surface, rng)
    if rng.random() < 0.2:
        _smudge_at_border(surface, rng)


def expose_strip(surface: Surface, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what the camera sees, uint8 [H, W]: the table beside the strip, blur, sensor noise."""
    pixels = surface.pixels
    height, width = pixels.shape
    if surface.left > 0 or surface.right < width:
        columns = np.arange(width, dtype=np.float32)[None, :]
        rows = np.linspace(0, 6, height)[:, None]
        wave = np.asarray(rng.uniform(0.5, 2) * np.sin(rows + rng.uniform(0, 6)), np.float32)
        inside = (columns >= surface.left + wave * (surface.left > 0)) & (
            columns < surface.right + wave * (surface.right < width)
        )
        pixels = np.where(inside, pixels, np.float32(rng.uniform(2, 14)))
    blur = rng.uniform(0.0, 0.8) * surface.scale
    if blur > 0.25:
        pixels = blurred(pixels, blur)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0.8, 3.5))
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def blurred(pixels: Grey, along_x: float, along_y: float = 0.0) -> Grey:
    """Return a Gaussian blur, sigmas in pixels; the second as the first where it is 0."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigmaX=along_x, sigmaY=along_y), np.float32)


def enlarged(grid: Grey, size: tuple[int, int]) -> Grey:
    """Return `grid` smoothly enlarged to `size` (height, width)."""
    return np.asarray(cv2.resize(grid, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _light(size: tuple[int, int], rng: np.random.Generator) -> Grey:
    """Return a slowly varying factor around 1."""
    grid = rng.normal(1, 0.08, (3, 7)).astype(np.float32)
    grid += rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, 7, dtype=np.float32)[None, :]
    return np.clip(enlarged(grid, size), 0.45, 1.6)


def _grain(size: tuple[int, int], *, along: float, across: float, rng: np.random.Generator) -> Grey:
    """Return noise of deviation 1, drawn out along the columns as rolling does."""
    noise = rng.standard_normal(size, dtype=np.float32)
    noise = blurred(noise, across, max(along, 0.6))
    return np.asarray(noise / noise.std(), np.float32)


def _clouds(size: tuple[int, int], cell: float, rng: np.random.Generator) -> Grey:
    """Return smooth noise of deviation 1 with cells of about `cell` pixels."""
    rows, columns = max(3, round(size[0] / cell)), max(3, round(size[1] / cell))
    noise = rng.standard_normal((rows, columns), dtype=np.float32)
    noise = enlarged(noise, size)
    return np.asarray(noise / noise.std(), np.float32)


def _rolling_marks(surface: Surface, rng: np.random.Generator) -> None:
    """Straight lines over the whole height, some evenly spaced: part of every rolled strip."""
    height, width = surface.pixels.shape
    profile = np.zeros(width, np.float32)
    if rng.random() < 0.5:
        period, offset = rng.uniform(40, 220) * surface.scale, rng.uniform(0, 200)
        places = np.arange(offset % period, width, period)
    else:
        places = rng.uniform(0, width, int(rng.integers(2, 12)))
    for place in places:
        thick = rng.uniform(0.6, 3.5) * surface.scale
        columns = np.arange(width, dtype=np.float32)
        strength = rng.choice([-1, 1]) * rng.uniform(5, 26)
        profile += np.float32(strength) * np.exp(-(((columns - place) / thick) ** 2)).astype(np.float32)
    fade = cv2.resize(rng.uniform(0.6, 1, (4, 1)).astype(np.float32), (1, height))
    surface.pixels += profile[None, :] * fade.reshape(height, 1)


def _stain(surface: Surface, rng: np.random.Generator) -> None:
    """A smooth dark or bright blot with a soft border: oil or water, no defect."""
    height, width = surface.pixels.shape
    radius = rng.uniform(25, 110) * surface.scale
    blot = soft_blob(size=(height, width), radius=radius, stretch=rng.uniform(0.5, 2.2), rng=rng)
    soft = blurred(blot, max(1.0, radius * rng.uniform(0.12, 0.3)))
    surface.pixels *= 1 + np.float32(rng.choice([-1, 1]) * rng.uniform(0.1, 0.3)) * soft


def _drops(surface: Surface, rng: np.random.Generator) -> None:
    """Bright round drops with a soft dark ring: water."""
    height, width = surface.pixels.shape
    canvas = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(3, 25))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        radius = max(1, round(rng.uniform(2.5, 7) * surface.scale))
        cv2.circle(canvas, centre, radius + 1, -0.5, -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, radius, 1.0, -1, cv2.LINE_AA)
    surface.pixels += np.float32(rng.uniform(12, 35)) * blurred(canvas, 0.8)


def _specks(surface: Surface, rng: np.random.Generator) -> None:
    """Lone dust and scale specks far from each other, bright or dark, without relief."""
    height, width = surface.pixels.shape
    specks = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(3, 14))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        long, short = (max(1, round(rng.uniform(1, most) * surface.scale)) for most in (3.5, 2))
        change = float(rng.choice([-1, 1]) * rng.uniform(15, 45))
        cv2.ellipse(specks, centre, (long, short), rng.uniform(0, 180), 0, 360, change, -1)
    surface.pixels += blurred(specks, 0.6)


def _smudge_at_border(surface: Surface, rng: np.random.Generator) -> None:
    """A soft dark band along the upper or lower border: shade of a guide, no crack."""
    height, _ = surface.pixels.shape
    depth = rng.uniform(5, 25) * surface.scale
    rows = np.arange(height, dtype=np.float32)
    rows = rows if rng.random() < 0.5 else rows[::-1]
    surface.pixels *= (1 - np.float32(rng.uniform(0.15, 0.5)) * np.exp(-rows / depth))[:, None]


def soft_blob(
    *,
    size: tuple[int, int],
    radius: float,
    stretch: float,
    rng: np.random.Generator,
    ragged: float = 0.25,
    centre: tuple[float, float] | None = None,
) -> Grey:
    """Return a closed irregular shape as float32 [H, W], 0..1, around `centre` (x, y) or anywhere.

    radius: mean, in pixels; stretch: width over height; ragged: how far the outline strays, as a share.
    """
    height, width = size
    x, y = centre or (rng.uniform(0, width), rng.uniform(0, height))
    corners = 72
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    outline = np.ones(corners)
    for wave in range(2, 16):
        outline += ragged * rng.normal(0, 1 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    outline = np.clip(outline, 0.35, 2) * radius
    points = np.stack(
        [x + outline * np.cos(angles) * np.sqrt(stretch), y + outline * np.sin(angles) / np.sqrt(stretch)],
        axis=1,
    )
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], (255,), cv2.LINE_AA, shift=4)
    return np.asarray(canvas, np.float32) / np.float32(255)
