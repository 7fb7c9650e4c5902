"""Light and sensor: time of day, lamps, shade, colour cast, blur and noise."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_CELLS = 12  # light changes slowly over a picture: it is computed on a coarse grid and enlarged


@dataclass(frozen=True, slots=True)
class Light:
    """One moment's light: `gain` float32 [cells, cells, 3], noise in grey levels, the sun's shadow if any."""

    name: str
    gain: NDArray[np.float32]
    noise_levels: float
    blur_px: float
    shadow_strength: float
    shadow_slant: float


def draw_light(rng: np.random.Generator) -> Light:
    """Choose day, dusk or night and everything that follows from it."""
    name = str(rng.choice(["day", "dusk", "night"], p=[0.5, 0.25, 0.25]))
    if name == "day":
        level, cast = rng.uniform(0.75, 1.2), rng.normal(1, 0.04, 3)
        noise, shadow = rng.uniform(1, 6), rng.uniform(0, 0.55)
    elif name == "dusk":
        warm = rng.uniform(0, 0.2)
        level, cast = rng.uniform(0.45, 0.8), np.array([1 + warm, 1.0, 1 - warm]) + rng.normal(0, 0.03, 3)
        noise, shadow = rng.uniform(3, 10), rng.uniform(0, 0.4)
    else:
        tint = rng.uniform(-0.2, 0.25)  # moonlight to sodium lamps
        level, cast = rng.uniform(0.3, 0.55), np.array([1 + tint, 1.0, 1 - tint])
        noise, shadow = rng.uniform(3, 10), 0.0
    grid = np.full((_CELLS, _CELLS), level, np.float32) * _slope(rng)
    if name != "day":
        for _ in range(int(rng.integers(0, 4))):
            grid += _lamp(rng, strength=rng.uniform(0.2, 0.7))
    if name == "day" and rng.random() < 0.4:
        grid *= _building_shade(rng)
    gain = np.clip(grid[..., None] * cast.astype(np.float32), 0.08, 1.6).astype(np.float32)
    return Light(name, gain, noise, rng.uniform(0, 0.9), shadow, rng.uniform(-1.4, 1.4))


def expose(
    image: NDArray[np.uint8], light: Light, noise: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return `image` (uint8 [H, W, 3] RGB) as the sensor sees it under `light`; `noise` is larger than it."""
    height, width = image.shape[:2]
    sharp = light.blur_px <= 0.3
    blurred = image if sharp else cv2.GaussianBlur(image, (0, 0), light.blur_px)
    gain = cv2.resize(light.gain, (width, height), interpolation=cv2.INTER_CUBIC)
    lit = cv2.multiply(blurred, gain, dtype=cv2.CV_8U)
    top, left = (int(rng.integers(0, size + 1)) for size in (noise.shape[0] - height, noise.shape[1] - width))
    part = noise[top : top + height, left : left + width]
    return np.asarray(cv2.addWeighted(lit, 1.0, part, light.noise_levels, 0.0, dtype=cv2.CV_8U), np.uint8)


def _grid() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    axis = np.linspace(0, 1, _CELLS, dtype=np.float32)
    return axis[:, None], axis[None, :]


def _slope(rng: np.random.Generator) -> NDArray[np.float32]:
    """Brighter on one side, darker in the corners."""
    y, x = _grid()
    tilt = 1 + (x - 0.5) * rng.uniform(-0.5, 0.5) + (y - 0.5) * rng.uniform(-0.4, 0.4)
    return (tilt - rng.uniform(0, 0.5) * ((x - 0.5) ** 2 + (y - 0.5) ** 2)).astype(np.float32)


def _lamp(rng: np.random.Generator, *, strength: float) -> NDArray[np.float32]:
    y, x = _grid()
    centre_y, centre_x, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.12, 0.4)
    return np.float32(strength) * np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * radius**2))


def _building_shade(rng: np.random.Generator) -> NDArray[np.float32]:
    """A straight-edged shadow over one side of the picture."""
    y, x = _grid()
    side = (x - rng.uniform(0.2, 0.8)) + (y - 0.5) * rng.uniform(-1, 1)
    return np.where(side > 0, np.float32(rng.uniform(0.45, 0.8)), np.float32(1))
