"""Greedy non-maximum suppression in numpy."""

import numpy as np
from numpy.typing import NDArray

from shared.vision.boxes import Boxes, box_areas


def nms(
    boxes: Boxes,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    iou_threshold: float,
    max_detections: int,
) -> NDArray[np.int64]:
    """Return the indices of the boxes to keep, best score first, at most `max_detections` of them.

    boxes: float32 [N, 4] corners; scores: float32 [N]; labels: int64 [N], or None to treat all boxes as one
    class. A box goes when its IoU with a better box of its own class is above `iou_threshold` (0..1).
    Of equal scores the earlier index wins.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, areas = boxes[order], box_areas(boxes)[order]
    classes = None if labels is None else labels[order]
    alive = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    position = 0
    while position < len(order) and len(kept) < max_detections:
        if not alive[position]:
            position += 1
            continue
        kept.append(position)
        box, rest = boxes[position], boxes[position + 1 :]
        sides = np.minimum(rest[:, 2:], box[2:]) - np.maximum(rest[:, :2], box[:2])
        np.maximum(sides, 0, out=sides)
        intersection = sides[:, 0] * sides[:, 1]
        union = areas[position + 1 :] + areas[position] - intersection
        overlaps = intersection > iou_threshold * union  # IoU above the threshold, without dividing by zero
        if classes is not None:
            overlaps &= classes[position + 1 :] == classes[position]
        alive[position + 1 :] &= ~overlaps
        position += 1
    return order[np.array(kept, dtype=np.int64)]
