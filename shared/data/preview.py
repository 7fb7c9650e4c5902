"""A grid of pictures with their boxes, to look at before trusting labels."""

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.core.files import write_atomic
from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.loading import load_image
from shared.vision.drawing import draw_boxes, encode_jpeg
from shared.vision.letterbox import letterbox

TILE_PX = 320
_CROWD_COLOUR = (150, 150, 150)


def write_preview(dataset: DetectionSet, out: Path, *, count: int = 16, seed: int = 0) -> list[str]:
    """Write up to `count` pictures, chosen by `seed`, as one grid to `out`; return their names.

    Raises ValueError for a suffix other than .jpg or .png and for an empty set, DatasetUnreadable for a
    picture that cannot be used.
    """
    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ValueError(f"{out} must end in .jpg or .png")
    if not dataset.records:
        raise ValueError(f"{dataset.source} holds no pictures")
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    records = [dataset.records[index] for index in np.sort(chosen)]
    grid = _grid([_tile(record, dataset.class_names) for record in records])
    encoded = (
        cv2.imencode(".png", cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))[1].tobytes()
        if out.suffix.lower() == ".png"
        else encode_jpeg(grid)
    )
    write_atomic(out, encoded)
    return [record.image_path.name for record in records]


def _tile(record: DetectionRecord, class_names: list[str]) -> NDArray[np.uint8]:
    image, geometry = letterbox(load_image(record), (TILE_PX, TILE_PX))
    boxes = geometry.to_letterboxed(record.boxes)
    certain = ~record.ignore
    for x1, y1, x2, y2 in boxes[record.ignore].round().astype(int).tolist():
        _dashed(image, (x1, y1, x2, y2))
    captions = [class_names[label] if len(class_names) > 1 else "" for label in record.labels[certain]]
    return draw_boxes(image, boxes[certain], captions, record.labels[certain].tolist())


def _dashed(image: NDArray[np.uint8], box: tuple[int, int, int, int], dash: int = 6) -> None:
    x1, y1, x2, y2 = box
    for x in range(x1, x2, 2 * dash):
        for y in (y1, y2 - 1):
            cv2.line(image, (x, y), (min(x + dash, x2), y), _CROWD_COLOUR, 1)
    for y in range(y1, y2, 2 * dash):
        for x in (x1, x2 - 1):
            cv2.line(image, (x, y), (x, min(y + dash, y2)), _CROWD_COLOUR, 1)


def _grid(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    columns = math.ceil(math.sqrt(len(tiles)))
    empty = np.full_like(tiles[0], 255)
    tiles = tiles + [empty] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)
