"""What moves through a simulated scene: pedestrians, vehicles, riders, as small pictures with a cover."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("pedestrian", "vehicle", "micro-mobility")
_FINE = 8  # drawn this much larger, then reduced
_MARGIN = 2  # empty pixels around a figure


@dataclass(frozen=True, slots=True)
class Kind:
    """Ranges of a class for a frame of 120 rows: height and width in pixels, speed in pixels per second."""

    height: tuple[float, float]
    width: tuple[float, float]
    speed: tuple[float, float]


KINDS = (
    Kind((18, 26), (8, 11), (9, 22)),
    Kind((16, 24), (32, 46), (45, 110)),
    Kind((19, 26), (15, 20), (28, 60)),
)


@dataclass(frozen=True, slots=True)
class Sprite:
    """frames: float32 [F, h, w, 2], light times cover and cover, each 0..1, one frame per phase of a stride.

    boxes: float64 [F, 4], tight (x1, y1, x2, y2) around each frame's figure, in its own pixels.
    """

    frames: NDArray[np.float32]
    boxes: NDArray[np.float64]


def draw_sprite(label: int, rng: np.random.Generator, scale: float, contrast: float) -> Sprite:
    """Draw a figure of a class that looks to the right; `scale` is frame rows / 120.

    contrast in 0..1 draws its lights towards the grey of the background.
    """
    kind = KINDS[label]
    height, width = rng.uniform(*kind.height) * scale, rng.uniform(*kind.width) * scale
    # Every part stands out from the ground: what cannot be seen could not bound a box.
    dark, light = rng.uniform(-0.43, -0.22, 4), rng.uniform(0.22, 0.5, 4)
    tones = 0.45 + contrast * np.where(rng.random(4) < 0.5, dark, light)
    phases = 1 if label == 1 else 8
    pictures = [_draw(label, height, width, phase / phases, tones) for phase in range(phases)]
    frames = np.stack([_reduce(picture) for picture in pictures])
    return Sprite(frames, np.array([_tight(frame[..., 1]) for frame in frames]))


def _draw(
    label: int, height: float, width: float, phase: float, tones: NDArray[np.float64]
) -> NDArray[np.float32]:
    rows, columns = (round(side + 2 * _MARGIN) * _FINE for side in (height, width))
    canvas = np.zeros((rows, columns, 2), np.float32)
    h, w, m = height * _FINE, width * _FINE, _MARGIN * _FINE
    swing = float(np.sin(2 * np.pi * phase))

    def at(x: float, y: float) -> tuple[int, int]:
        return round(m + x * w), round(m + y * h)

    def fill(points: list[tuple[float, float]], tone: float) -> None:
        cv2.fillPoly(canvas, [np.array([at(*point) for point in points], np.int32)], (tone, 1.0))

    def disc(x: float, y: float, rx: float, ry: float, tone: float) -> None:
        cv2.ellipse(canvas, at(x, y), (round(rx * w), round(ry * h)), 0, 0, 360, (tone, 1.0), cv2.FILLED)

    body, second, third, fourth = tones.tolist()
    if label == 0:
        for side in (1, -1):
            foot = 0.5 + side * 0.36 * swing
            fill([(0.36, 0.5), (0.64, 0.5), (foot + 0.14, 1.0), (foot - 0.14, 1.0)], second)
        fill([(0.22, 0.18), (0.78, 0.18), (0.7, 0.58), (0.3, 0.58)], body)
        disc(0.5, 0.1, 0.24, 0.1, third)
    elif label == 1:
        fill(
            [
                (0.0, 0.45),
                (0.16, 0.4),
                (0.3, 0.0),
                (0.74, 0.0),
                (0.86, 0.4),
                (1.0, 0.5),
                (1.0, 0.86),
                (0.0, 0.86),
            ],
            body,
        )
        fill([(0.24, 0.38), (0.33, 0.08), (0.5, 0.08), (0.5, 0.38)], third)
        fill([(0.54, 0.38), (0.54, 0.08), (0.71, 0.08), (0.79, 0.38)], third)
        for x in (0.2, 0.8):
            disc(x, 0.84, 0.09, 0.16, second)
    else:
        for x in (0.2, 0.8):
            disc(x, 0.8, 0.2, 0.2, second)
            disc(x, 0.8, 0.12, 0.12, fourth)
        foot = 0.5 + 0.1 * swing
        fill([(0.2, 0.76), (0.5, 0.66), (0.82, 0.76), (0.5, 0.8)], body)
        fill([(0.38, 0.46), (0.56, 0.46), (foot + 0.08, 0.9), (foot - 0.08, 0.9)], second)
        fill([(0.3, 0.5), (0.42, 0.18), (0.62, 0.18), (0.6, 0.5)], body)
        disc(0.56, 0.09, 0.13, 0.09, third)
    return canvas


def _reduce(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    size = (picture.shape[1] // _FINE, picture.shape[0] // _FINE)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def _tight(cover: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Corners around the figure; a border pixel counts for as much as it is covered at most."""
    rows, columns = cover.max(axis=1), cover.max(axis=0)
    y, x = np.flatnonzero(rows > 0), np.flatnonzero(columns > 0)
    return (
        x[0] + 1.0 - columns[x[0]], y[0] + 1.0 - rows[y[0]], x[-1] + columns[x[-1]], y[-1] + rows[y[-1]]
    )  # fmt: skip
