"""Box losses against values worked out by hand and the papers' formulas written out in plain Python."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.losses.box_regression import ciou_loss, pairwise_iou, sqrt_size_loss, squared_size_loss


def test_squared_size_loss_by_hand():
    size, target = torch.tensor([[0.5, 0.2]]), torch.tensor([[0.3, 0.4]])
    # (0.25 − 0.09)² + (0.04 − 0.16)² = 0.0256 + 0.0144
    assert squared_size_loss(size, target).tolist() == pytest.approx([0.04])


def test_sqrt_size_loss_by_hand():
    size, target = torch.tensor([[0.25, 0.36]]), torch.tensor([[0.16, 0.49]])
    # (0.5 − 0.4)² + (0.6 − 0.7)²
    assert sqrt_size_loss(size, target).tolist() == pytest.approx([0.02], abs=1e-6)


def test_squared_weighs_a_small_person_less_and_sqrt_more_than_a_large_one():
    small = torch.tensor([[0.05, 0.10]]), torch.tensor([[0.06, 0.12]])
    large = torch.tensor([[0.25, 0.50]]), torch.tensor([[0.30, 0.60]])  # the same relative error
    assert squared_size_loss(*small).item() * 600 < squared_size_loss(*large).item()  # 5⁴ = 625
    assert sqrt_size_loss(*small).item() * 6 > sqrt_size_loss(*large).item()  # 5¹


def plain_ciou(box, target):
    """Zheng et al. 2020, eqs. 7-11, for one pair."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = box, target
    intersection = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
    iou = intersection / union
    rho_squared = ((x1 + x2) / 2 - (u1 + u2) / 2) ** 2 + ((y1 + y2) / 2 - (v1 + v2) / 2) ** 2
    c_squared = (max(x2, u2) - min(x1, u1)) ** 2 + (max(y2, v2) - min(y1, v1)) ** 2
    v = 4 / math.pi**2 * (math.atan((u2 - u1) / (v2 - v1)) - math.atan((x2 - x1) / (y2 - y1))) ** 2
    alpha = v / ((1 - iou) + v) if v else 0.0
    return iou - rho_squared / c_squared - alpha * v


corner = st.floats(0, 1, width=32)
side = st.floats(2**-6, 0.5, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@given(first=box, second=box)
def test_ciou_follows_the_papers_formula(first, second):
    loss = ciou_loss(torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64))
    assert loss.item() == pytest.approx(1 - plain_ciou(first, second), abs=1e-6)


@given(first=box)
def test_equal_boxes_lose_nothing(first):
    pair = torch.tensor([first]), torch.tensor([first])
    assert ciou_loss(*pair).item() == pytest.approx(0, abs=1e-5)
    assert pairwise_iou(*pair).item() == pytest.approx(1, abs=1e-5)


def test_ciou_pulls_boxes_that_do_not_overlap_together():
    target = torch.tensor([[0.6, 0.6, 0.8, 0.9]])
    near, far = torch.tensor([[0.3, 0.3, 0.5, 0.6]]), torch.tensor([[0.0, 0.0, 0.2, 0.3]])
    assert ciou_loss(near, target).item() < ciou_loss(far, target).item()
    box = far.clone().requires_grad_()
    ciou_loss(box, target).sum().backward()
    assert (box.grad[0, :2] + box.grad[0, 2:] < 0).all()  # the centre should move right and down


def test_alpha_takes_no_part_in_the_gradient():
    box = torch.tensor([[0.1, 0.1, 0.5, 0.3]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.2, 0.1, 0.4, 0.5]], dtype=torch.float64)
    ciou_loss(box, target).sum().backward()

    with torch.no_grad():
        iou = pairwise_iou(box, target)
    angle = math.atan(0.2 / 0.4)

    def with_fixed_alpha(values):
        b = torch.tensor(values, dtype=torch.float64)
        v = 4 / math.pi**2 * (angle - torch.atan((b[2] - b[0]) / (b[3] - b[1]))) ** 2
        v0 = 4 / math.pi**2 * (angle - math.atan(0.4 / 0.2)) ** 2
        alpha = v0 / (1 - iou.item() + v0)
        without_shape = 1 - plain_ciou(values, target[0].tolist()) - _shape_term(values, target[0].tolist())
        return without_shape + alpha * v.item()

    step = 1e-6
    start = box.detach()[0].tolist()
    for index, gradient in enumerate(box.grad[0].tolist()):
        up, down = list(start), list(start)
        up[index] += step
        down[index] -= step
        numeric = (with_fixed_alpha(up) - with_fixed_alpha(down)) / (2 * step)
        assert gradient == pytest.approx(numeric, abs=1e-5)


def _shape_term(box, target):
    """α·v of the paper."""
    iou = pairwise_iou(
        torch.tensor([box], dtype=torch.float64), torch.tensor([target], dtype=torch.float64)
    ).item()
    angles = [math.atan((b[2] - b[0]) / (b[3] - b[1])) for b in (target, box)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return v * v / (1 - iou + v)


@pytest.mark.parametrize("loss", [ciou_loss, lambda b, t: sqrt_size_loss(b[:, 2:], t[:, 2:])])
def test_gradients_stay_finite_for_boxes_without_area(loss):
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9]], requires_grad=True)
    target = torch.tensor([[0.5, 0.5, 0.5001, 0.5001], [0.1, 0.1, 0.3, 0.3]])
    value = loss(box, target).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(box.grad).all()


def test_no_pairs_give_no_values_and_a_usable_gradient():
    nothing = torch.zeros(0, 4, requires_grad=True)
    ciou_loss(nothing, torch.zeros(0, 4)).sum().backward()
    assert nothing.grad is not None
    assert np.shape(nothing.grad) == (0, 4)
