import numpy as np
import pytest
from pycocotools import mask as coco_mask

from shared.vision.boxes import (
    Detections,
    as_boxes,
    clip_boxes,
    cxcywh_to_xyxy,
    iou_matrix,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)


def random_boxes(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 300, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 150, (count, 2))], axis=1).astype(np.float32)


def test_iou_agrees_with_pycocotools() -> None:
    first, second = random_boxes(40, 1), random_boxes(30, 2)
    expected = coco_mask.iou(
        xyxy_to_xywh(first).astype(float), xyxy_to_xywh(second).astype(float), np.zeros(30, np.uint8)
    )
    np.testing.assert_allclose(iou_matrix(first, second), expected, atol=1e-5)


def test_iou_by_hand() -> None:
    # 10 x 10 boxes that share a 5 x 10 strip: 50 / (100 + 100 - 50)
    boxes = as_boxes([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]])
    np.testing.assert_allclose(iou_matrix(boxes[:1], boxes), [[1, 1 / 3, 0]], rtol=1e-6)


def test_boxes_without_area_have_no_overlap_and_raise_no_warning() -> None:
    flat = as_boxes([[5, 5, 5, 9], [0, 0, 0, 0]])
    with np.errstate(all="raise"):
        assert iou_matrix(flat, flat).tolist() == [[0, 0], [0, 0]]


def test_conversions_by_hand_and_back() -> None:
    corners = as_boxes([[10, 20, 30, 60]])
    assert xyxy_to_xywh(corners).tolist() == [[10, 20, 20, 40]]
    assert xyxy_to_cxcywh(corners).tolist() == [[20, 40, 20, 40]]
    assert xywh_to_xyxy(as_boxes([[10, 20, 20, 40]])).tolist() == corners.tolist()
    assert cxcywh_to_xyxy(as_boxes([[20, 40, 20, 40]])).tolist() == corners.tolist()


def test_clip_moves_corners_into_the_picture() -> None:
    assert clip_boxes(as_boxes([[-5, -5, 700, 500]]), 480, 640).tolist() == [[0, 0, 640, 480]]


def test_as_boxes_takes_nothing_and_refuses_other_shapes() -> None:
    assert as_boxes([]).shape == (0, 4)
    with pytest.raises(ValueError, match=r"\[N, 4\], got \[2, 3\]"):
        as_boxes([[1, 2, 3], [4, 5, 6]])


def test_detections_check_their_lengths_and_select() -> None:
    detections = Detections(
        as_boxes([[0, 0, 1, 1], [1, 1, 2, 2]]), np.array([0.9, 0.8], np.float32), np.array([0, 1])
    )
    assert detections.select([1]).labels.tolist() == [1]
    assert len(detections.select(detections.scores > 0.85)) == 1
    assert len(Detections.empty()) == 0
    with pytest.raises(ValueError, match="do not fit together"):
        Detections(as_boxes([[0, 0, 1, 1]]), np.zeros(2, np.float32), np.zeros(1, np.int64))
