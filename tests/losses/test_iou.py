"""YOLOX's box losses by hand and against the corner form."""

import pytest
import torch

from shared.losses.box_regression import pairwise_iou
from shared.losses.iou import giou_loss, iou_matrix, iou_squared_loss


def test_half_overlapping_boxes_by_hand():
    # 2 × 2 around (1, 1) and (2, 1): 2 shared of 6; the hull is 3 × 2.
    first, second = torch.tensor([[1.0, 1, 2, 2]]), torch.tensor([[2.0, 1, 2, 2]])
    assert iou_squared_loss(first, second).item() == pytest.approx(1 - (2 / 6) ** 2)
    assert giou_loss(first, second).item() == pytest.approx(1 - 2 / 6)


def test_boxes_apart_differ_only_for_giou():
    # Unit boxes around (0.5, 0.5) and (3.5, 0.5) in a hull of 4 × 1
    near, far = torch.tensor([[0.5, 0.5, 1, 1]]), torch.tensor([[3.5, 0.5, 1, 1]])
    assert iou_squared_loss(near, far).item() == 1
    assert giou_loss(near, far).item() == pytest.approx(1 + (4 - 2) / 4)


def test_the_matrix_holds_every_pair():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(5, 4, generator=generator) + torch.tensor([0, 0, 0.2, 0.2])
    others = torch.rand(7, 4, generator=generator) + torch.tensor([0, 0, 0.2, 0.2])

    def corners(b):
        return torch.cat([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1)

    found = iou_matrix(boxes, others)
    for g in range(5):
        expected = pairwise_iou(corners(boxes[g : g + 1]).expand(7, 4), corners(others))
        torch.testing.assert_close(found[g], expected)


@pytest.mark.parametrize("function", [iou_squared_loss, giou_loss])
def test_boxes_without_area_have_finite_losses_and_gradients(function):
    boxes = torch.zeros(2, 4, requires_grad=True)
    values = function(boxes, torch.tensor([[0.0, 0, 0, 0], [5, 5, 2, 2]]))
    values.sum().backward()
    assert values.isfinite().all()
    assert boxes.grad.isfinite().all()
