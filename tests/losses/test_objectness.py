"""Cross-entropy on probabilities: equal to torch's where that is defined, finite where it is not."""

import math

import pytest
import torch
import torch.nn.functional as F

from shared.losses.objectness import probability_bce


def test_values_equal_the_definition():
    p = torch.tensor([0.8, 0.8, 0.25])
    y = torch.tensor([1.0, 0.0, 0.5])
    expected = [-math.log(0.8), -math.log(0.2), -(math.log(0.25) + math.log(0.75)) / 2]
    assert probability_bce(p, y).tolist() == pytest.approx(expected)


def test_gradient_equals_that_of_the_logit_form():
    logits = torch.linspace(-8, 8, 33, requires_grad=True)
    target = (torch.arange(33) % 2).float()
    probability_bce(torch.sigmoid(logits), target).sum().backward()
    ours = logits.grad.clone()
    logits.grad = None
    F.binary_cross_entropy_with_logits(logits, target, reduction="sum").backward()
    torch.testing.assert_close(ours, logits.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_saturated_probabilities_give_finite_values_and_gradients(p, y):
    probability = torch.tensor([p], requires_grad=True)
    loss = probability_bce(probability, torch.tensor([y]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(probability.grad).all()


def test_nan_is_passed_on_for_the_training_loop_to_see():
    assert torch.isnan(probability_bce(torch.tensor([float("nan")]), torch.tensor([1.0]))).all()


def test_half_precision_is_computed_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = probability_bce(torch.tensor([0.5], dtype=torch.bfloat16), torch.tensor([True]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2))
