"""Where in a picture a class is: runs, polygons or boxes, each of which can be made a mask."""

from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.data.rle import Runs, runs_to_mask


@dataclass(frozen=True, slots=True)
class RunRegion:
    """Pixels given as runs, int64 [n, 2]: 1-based start and length, column-major (shared.data.rle)."""

    label: int
    runs: Runs

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return bool [height, width]. Raises BrokenRle where the runs do not fit."""
        return runs_to_mask(self.runs, height, width)


@dataclass(frozen=True, slots=True)
class PolygonRegion:
    """The inside of a closed outline: float64 [n, 2], x and y in pixels, three corners at least."""

    label: int
    points: NDArray[np.float64]

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return bool [height, width]; pixels that the outline crosses belong to it."""
        canvas = np.zeros((height, width), np.uint8)
        cv2.fillPoly(canvas, [np.floor(self.points).astype(np.int32)], (1,))
        return canvas.astype(bool)


Region = RunRegion | PolygonRegion


def box_region(label: int, left: float, top: float, width: float, height: float) -> PolygonRegion:
    """Return a rectangle as a region; a mask of whole-numbered boxes holds width x height pixels."""
    # The outline's pixels belong to a polygon: the last column and row are one before the box's end.
    right, bottom = left + max(width - 1, 0), top + max(height - 1, 0)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return PolygonRegion(label, np.array(corners, dtype=np.float64))


def class_mask(regions: list[Region], label: int, height: int, width: int) -> NDArray[np.bool_]:
    """Return bool [height, width]: the union of all regions of one class."""
    masks = (region.mask(height, width) for region in regions if region.label == label)
    return reduce(np.logical_or, masks, np.zeros((height, width), bool))
