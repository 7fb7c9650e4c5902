import cv2
import numpy as np
import pytest

from shared.vision.boxes import as_boxes
from shared.vision.nms import nms


def crowded(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 60, (count, 2))], axis=1).astype(np.float32)
    return boxes, (1 + rng.permutation(count).astype(np.float32)) / count


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8])
def test_agrees_with_opencv(threshold: float) -> None:
    boxes, scores = crowded(3)
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(float)
    expected = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), 0.0, threshold)
    assert nms(boxes, scores, None, threshold, 1000).tolist() == np.ravel(expected).tolist()


def test_boxes_of_other_classes_stay() -> None:
    boxes = as_boxes([[0, 0, 10, 10]] * 3)
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert nms(boxes, scores, np.array([0, 1, 0]), 0.5, 10).tolist() == [1, 2]
    assert nms(boxes, scores, None, 0.5, 10).tolist() == [1]


def test_an_overlap_equal_to_the_threshold_stays() -> None:
    boxes = as_boxes([[0, 0, 10, 10], [0, 0, 10, 5]])  # IoU 50 / 100
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, None, 0.5, 10).tolist() == [0, 1]
    assert nms(boxes, scores, None, 0.49, 10).tolist() == [0]


def test_no_more_than_asked_for_and_ties_in_order() -> None:
    boxes = as_boxes([[20 * i, 0, 20 * i + 10, 10] for i in range(5)])
    scores = np.full(5, 0.5, np.float32)
    assert nms(boxes, scores, None, 0.5, 3).tolist() == [0, 1, 2]
    assert nms(boxes, scores, None, 0.5, 0).tolist() == []


def test_nothing_in_nothing_out() -> None:
    kept = nms(as_boxes([]), np.zeros(0, np.float32), np.zeros(0, np.int64), 0.5, 10)
    assert kept.dtype == np.int64
    assert kept.shape == (0,)
