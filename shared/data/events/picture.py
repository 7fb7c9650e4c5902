"""Windows of events as pictures, with boxes: one large enough to be looked at, or many on one sheet."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.data.events.classes import ClassList
from shared.data.events.windows import windows
from shared.vision.drawing import draw_boxes
from shared.vision.events import Events

WINDOW_US = 50_000
_MIN_HEIGHT = 480  # pixels of a picture of one window: sensors below it are shown larger
_GROUND, _BRIGHTER, _DARKER, _TIME = (40, 42, 48), (250, 250, 250), (80, 150, 255), (200, 200, 200)
_MIN_TILE = 480  # pixels of a tile's long side


def event_picture(events: Events, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3] RGB: the sign of the last event at each pixel, white brighter, blue darker."""
    picture = np.empty((*size, 3), np.uint8)
    picture[...] = _GROUND
    picture[events.y, events.x] = np.where(events.p[:, None] > 0, _BRIGHTER, _DARKER)
    return picture


def window_scale(size: tuple[int, int]) -> int:
    """Return how many pixels a side `window_picture` gives to each pixel of a sensor of (height, width)."""
    return max(1, -(-_MIN_HEIGHT // size[0]))


def window_picture(events: Events, size: tuple[int, int], end_us: int) -> NDArray[np.uint8]:
    """Return one window as a picture, uint8 [H, W, 3] RGB, with its end in seconds in the lower left corner.

    size: (height, width) of the sensor. Each of its pixels is a square of `window_scale` pixels a side, so
    that there are 480 rows at least.
    """
    picture = enlarged(event_picture(events, size), window_scale(size))
    return _with_time(picture, f"{end_us / 1e6:.3f} s", 0.5 * max(1.0, picture.shape[0] / 480))


def enlarged(picture: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Return uint8 [H * scale, W * scale, 3]: every pixel as a square."""
    height, width = picture.shape[:2]
    larger = cv2.resize(picture, (width * scale, height * scale), interpolation=cv2.INTER_NEAREST)
    return np.asarray(larger, np.uint8)


def event_sheet(
    chunks: Iterable[Events],
    size: tuple[int, int],
    ends_us: NDArray[np.int64],
    boxes: NDArray[np.void],
    classes: ClassList | None,
) -> NDArray[np.uint8]:
    """Return one picture with the 50 ms before each of the rising times, and the boxes of that very time."""
    tiles = []
    scale = max(1, round(_MIN_TILE / max(size)))
    for end, events in zip(ends_us.tolist(), windows(chunks, ends_us, WINDOW_US), strict=True):
        tile = enlarged(event_picture(events, size), scale)
        now = boxes[boxes["t"] == end]
        corners = np.stack([now["x"], now["y"], now["x"] + now["w"], now["y"] + now["h"]], axis=1)
        names = [_name(int(number), classes) for number in now["class_id"]]
        tile = draw_boxes(tile, corners * scale, names, now["class_id"].tolist())
        tile = _with_time(tile, f"{end / 1e6:.2f} s", 0.5)
        tiles.append(cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(0, 0, 0)))
    columns = int(np.ceil(np.sqrt(len(tiles))))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.asarray(np.vstack(rows), np.uint8)


def choose_times(first_us: int, last_us: int, boxes: NDArray[np.void], count: int) -> NDArray[np.int64]:
    """Times to show, spread evenly: label times where there are labels, so that boxes fit their windows."""
    known = np.unique(boxes["t"])
    known = known[(known >= first_us) & (known <= last_us)]
    if len(known) >= 1:
        return known[np.unique(np.linspace(0, len(known) - 1, count).round().astype(np.int64))]
    start = min(first_us + WINDOW_US, last_us)
    return np.unique(np.linspace(start, last_us, count).astype(np.int64))


def _with_time(picture: NDArray[np.uint8], text: str, font_scale: float) -> NDArray[np.uint8]:
    corner = (4, picture.shape[0] - 6)
    thickness = max(1, round(font_scale))
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, font_scale, _TIME, thickness, cv2.LINE_AA)
    return picture


def _name(number: int, classes: ClassList | None) -> str:
    return classes.names[number] if classes and number < len(classes.names) else str(number)
