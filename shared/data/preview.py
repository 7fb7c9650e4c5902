"""A grid of pictures with their boxes or classes, to look at before trusting labels."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.core.files import write_atomic
from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.loading import load_image
from shared.data.regions import class_mask
from shared.vision.drawing import PALETTE, draw_boxes, encode_jpeg
from shared.vision.letterbox import letterbox

TILE_PX = 320
STRIP_PX = 800  # width of a tile of pictures that are wide and low
_CAPTION_PX = 16
_CROWD_COLOUR = (150, 150, 150)
_TINT = 0.25

RecordT = TypeVar("RecordT", DetectionRecord, ClassificationRecord)


def write_preview(dataset: DetectionSet, out: Path, *, count: int = 16, seed: int = 0) -> list[str]:
    """Write up to `count` pictures, chosen by `seed`, as one grid to `out`; return their names.

    Raises ValueError for a suffix other than .jpg or .png and for an empty set, DatasetUnreadable for a
    picture that cannot be used.
    """
    records = _chosen(dataset.records, out, dataset.source, count, seed)
    tiles = [_tile(record, dataset.class_names) for record in records]
    _write_grid(tiles, out, math.ceil(math.sqrt(len(tiles))))
    return [record.image_path.name for record in records]


def write_label_preview(
    dataset: ClassificationSet, out: Path, *, count: int = 16, seed: int = 0, only: str | None = None
) -> list[str]:
    """Write pictures with their classes' names, tinted and outlined where regions are known.

    only: a class that the pictures hold, or "none" for pictures without any. Otherwise as `write_preview`.
    """
    if only not in (None, "none", *dataset.class_names):
        raise ValueError(
            f"{dataset.source} has no class {only!r}; it has {', '.join(dataset.class_names)}, and none"
        )
    records = [record for record in dataset.records if only is None or _holds(record, dataset, only)]
    records = _chosen(records, out, f"{dataset.source} with {only or 'any class or none'}", count, seed)
    strips = all(record.width >= 3 * record.height for record in records)
    side = STRIP_PX if strips else TILE_PX
    height = max(round(side * record.height / record.width) for record in records) if strips else side
    tiles = [_label_tile(record, dataset.class_names, (height, side)) for record in records]
    _write_grid(tiles, out, min(2, len(tiles)) if strips else math.ceil(math.sqrt(len(tiles))))
    return [record.image_path.name for record in records]


def _holds(record: ClassificationRecord, dataset: ClassificationSet, name: str) -> bool:
    if name in dataset.class_names:
        return bool(record.labels[dataset.class_names.index(name)])
    return not record.labels.any()


def _chosen(records: Sequence[RecordT], out: Path, source: str, count: int, seed: int) -> list[RecordT]:
    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ValueError(f"{out} must end in .jpg or .png")
    if not records:
        raise ValueError(f"{source} holds no pictures")
    chosen = np.random.default_rng(seed).permutation(len(records))[:count]
    return [records[index] for index in np.sort(chosen)]


def _label_tile(
    record: ClassificationRecord, class_names: list[str], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the picture fitted into `size` (height, width), with a line of its classes above."""
    image, geometry = letterbox(load_image(record), size)
    height, width = geometry.resized_size
    inner = image[geometry.pad_y : geometry.pad_y + height, geometry.pad_x : geometry.pad_x + width]
    caption = np.full((_CAPTION_PX, size[1], 3), 255, np.uint8)
    left = 4
    for label in np.flatnonzero(record.labels).tolist():
        colour = PALETTE[label % len(PALETTE)]
        (text_width, _), _ = cv2.getTextSize(class_names[label], cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
        cv2.rectangle(caption, (left - 3, 0), (left + text_width + 3, _CAPTION_PX), colour, -1)
        cv2.putText(
            caption, class_names[label], (left, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA
        )
        left += text_width + 12
        whole = class_mask(record.regions, label, record.height, record.width).astype(np.uint8)
        mask = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_NEAREST), bool)
        inner[mask] = ((1 - _TINT) * inner[mask] + _TINT * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(inner, outlines, -1, colour, 1)
    return np.concatenate([caption, image])


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


def _write_grid(tiles: list[NDArray[np.uint8]], out: Path, columns: int) -> None:
    empty = np.full_like(tiles[0], 255)
    tiles = tiles + [empty] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    grid = np.concatenate(rows, axis=0)
    encoded = (
        cv2.imencode(".png", cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))[1].tobytes()
        if out.suffix.lower() == ".png"
        else encode_jpeg(grid)
    )
    write_atomic(out, encoded)
