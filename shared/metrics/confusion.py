"""Which class is taken for which, and what is missed or invented."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.vision.boxes import Detections, iou_matrix

# detections, truth boxes [n, 4], labels [n], ignore [n] of one picture
Picture = tuple[Detections, NDArray[Any], NDArray[Any], NDArray[Any]]


def confusion_matrix(
    pictures: Iterable[Picture], class_count: int, score_threshold: float, iou_threshold: float
) -> NDArray[np.int64]:
    """int64 [C+1, C+1]: rows truth, columns prediction; the last row is invented, the last column missed.

    Matching is COCO's, but blind to class: from the best score down a detection takes the free truth box
    of highest IoU, at least iou_threshold. One left over counts as invented unless half of it or more
    lies in a region to ignore.
    """
    matrix = np.zeros((class_count + 1, class_count + 1), dtype=np.int64)
    for detections, boxes, labels, ignore in pictures:
        kept = detections.select(detections.scores >= score_threshold)
        truth, truth_labels = boxes[~ignore], labels[~ignore]
        pairs = _pairs(iou_matrix(truth, kept.boxes), kept.scores, iou_threshold)
        for row, column in pairs:
            matrix[truth_labels[row], kept.labels[column]] += 1

        missed = np.setdiff1d(np.arange(len(truth)), [row for row, _ in pairs])
        np.add.at(matrix[:, class_count], truth_labels[missed], 1)
        left = np.setdiff1d(np.arange(len(kept)), [column for _, column in pairs])
        invented = left[~_inside_any(kept.boxes[left], boxes[ignore])]
        np.add.at(matrix[class_count], kept.labels[invented], 1)
    return matrix


def _pairs(iou: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> list[tuple[int, int]]:
    free = iou.copy()  # [truth, detection]
    pairs: list[tuple[int, int]] = []
    for column in np.argsort(-scores, kind="stable") if len(free) else ():
        row = int(np.argmax(free[:, column]))
        if free[row, column] >= threshold:
            pairs.append((row, int(column)))
            free[row] = -1
    return pairs


def _inside_any(boxes: NDArray[np.float32], regions: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether at least half of each box's own area lies in one of the regions, as COCO's crowd IoU has it."""
    top_left = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    covered = np.maximum(bottom_right - top_left, 0).prod(axis=-1)  # [N, R]
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=-1)
    return ((covered >= 0.5 * areas[:, None]) & (covered > 0)).any(axis=1)
