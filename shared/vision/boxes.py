"""Boxes as float32 arrays [N, 4] of corners (x1, y1, x2, y2) in pixels, and what a detector says about them.

Pixels are areas: the pixel in column 0 spans x from 0 to 1, so a box over a whole picture of width w and
height h is (0, 0, w, h) and a box's width is x2 - x1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found in one picture.

    boxes: float32 [N, 4], corners in pixels of the source picture; scores: float32 [N] in 0..1;
    labels: int64 [N], indices of class names. Raises ValueError where the lengths disagree.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape} and labels {self.labels.shape} "
                "do not fit together; expected [N, 4], [N] and [N]"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, indices: ArrayLike) -> "Detections":
        """Return the detections at `indices` (integers or a boolean mask), in that order."""
        return Detections(self.boxes[indices], self.scores[indices], self.labels[indices])  # type: ignore[index]

    @classmethod
    def empty(cls) -> "Detections":
        """Return no detections at all."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def as_boxes(values: ArrayLike) -> Boxes:
    """Return `values` as float32 [N, 4]; an empty sequence becomes [0, 4]. Raises ValueError otherwise."""
    boxes = np.asarray(values, dtype=np.float32)
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected boxes of shape [N, 4], got {list(boxes.shape)}")
    return boxes


def box_areas(boxes: Boxes) -> NDArray[np.float32]:
    """Return areas [N] in square pixels; a box with x2 < x1 or y2 < y1 has area 0."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def iou_matrix(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """Return intersection over union [N, M] of every box in `first` with every box in `second`.

    Two boxes without area have IoU 0.
    """
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = box_areas(first)[:, None] + box_areas(second)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def clip_boxes(boxes: Boxes, height: float, width: float) -> Boxes:
    """Return boxes with every corner moved into a picture of `height` x `width` pixels."""
    limits = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(boxes, np.float32(0), limits)


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Convert (left, top, width, height) to corners."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """Convert corners to (left, top, width, height)."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def cxcywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Convert (centre x, centre y, width, height) to corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def xyxy_to_cxcywh(boxes: Boxes) -> Boxes:
    """Convert corners to (centre x, centre y, width, height)."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
