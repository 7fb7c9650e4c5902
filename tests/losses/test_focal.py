"""Focal loss: hand calculation, a float64 reference, the weights of rare classes, and extreme logits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.losses.focal import FocalLoss, build_focal, class_frequency_alpha

SEVERSTAL = np.array([897, 247, 5150, 801])


class Config:
    gamma = 2.0
    negative_floor = 0.25


def reference(logits, labels, alpha, gamma, floor):
    """The definition on probabilities, in float64 and one label at a time."""
    total = 0.0
    for row, truth in zip(logits.double().tolist(), labels.tolist(), strict=True):
        for z, y, a in zip(row, truth, alpha, strict=True):
            p = 1 / (1 + math.exp(-z))
            p_t, weight = (p, a) if y else (1 - p, max(1 - a, floor))
            total += weight * (1 - p_t) ** gamma * -math.log(p_t)
    return total / labels.numel()


def test_a_value_equals_hand_calculation():
    # p = 0.8 and 0.6, γ = 2: 0.9·0.2²·−ln 0.8 of a positive, max(1 − 0.3, 0.25)·0.6²·−ln 0.4 of a negative
    logits = torch.logit(torch.tensor([[0.8, 0.6]]))
    terms = FocalLoss(torch.tensor([0.9, 0.3]))(logits, torch.tensor([[1.0, 0.0]]))
    positive, negative = 0.9 * 0.04 * -math.log(0.8) / 2, 0.7 * 0.36 * -math.log(0.4) / 2
    assert terms["loss_positive"].item() == pytest.approx(positive, rel=1e-5)
    assert terms["loss_negative"].item() == pytest.approx(negative, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(positive + negative, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_random_values_equal_the_definition(gamma, floor):
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(50, 4), (torch.rand(50, 4) < 0.3).float()
    alpha = [0.93, 0.98, 0.59, 0.1]
    loss = FocalLoss(torch.tensor(alpha), gamma=gamma, negative_floor=floor)(logits, labels)["loss"]
    assert loss.item() == pytest.approx(reference(logits, labels, alpha, gamma, floor), rel=1e-5)


def test_without_focus_and_with_equal_weights_it_is_half_of_cross_entropy():
    logits, labels = torch.randn(20, 3), (torch.rand(20, 3) < 0.5).float()
    loss = FocalLoss(torch.full((3,), 0.5), gamma=0.0)(logits, labels)["loss"]
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, labels) / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-1e4, -200.0, -20.0, 0.0, 20.0, 200.0, 1e4])
def test_extreme_logits_give_the_limit_and_finite_gradients(gamma, label, logit):
    z = torch.tensor([[logit]], requires_grad=True)
    loss = FocalLoss(torch.tensor([0.5]), gamma=gamma, negative_floor=0.5)(z, torch.tensor([[label]]))["loss"]
    loss.backward()
    assert torch.isfinite(z.grad).all()
    wrong_by = logit if label == 0.0 else -logit  # how far the logit is on the wrong side
    if wrong_by >= 20:
        assert loss.item() == pytest.approx(0.5 * wrong_by, rel=1e-6)  # −log p_t → |z|, (1 − p_t)^γ → 1
    elif wrong_by <= -200:
        assert loss.item() == 0.0
    elif wrong_by < 0:
        expected = 0.5 * math.exp(wrong_by) ** (1 + gamma)  # both factors → e^z
        assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_gradients_equal_finite_differences_in_float64_logic():
    torch.manual_seed(1)
    logits, labels = torch.randn(2, 3, requires_grad=True), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    alpha = [0.9, 0.6, 0.3]
    FocalLoss(torch.tensor(alpha))(logits, labels)["loss"].backward()
    step = 1e-6
    for row in range(2):
        for column in range(3):
            values = []
            for sign in (1, -1):
                moved = logits.detach().double().clone()
                moved[row, column] += sign * step
                values.append(reference(moved, labels, alpha, 2.0, 0.25))
            expected = (values[0] - values[1]) / (2 * step)
            assert logits.grad[row, column].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_alpha_of_the_published_counts():
    alpha = class_frequency_alpha(SEVERSTAL, 12_568)
    assert alpha.tolist() == pytest.approx([0.929, 0.980, 0.590, 0.936], abs=5e-4)  # components.md section 5


def test_negatives_of_a_rare_class_keep_the_floor_and_those_of_a_frequent_one_their_own_weight():
    loss = build_focal(Config(), SEVERSTAL, 12_568)
    logits = torch.zeros(1, 4)
    for column, weight in ((1, 0.25), (2, 1 - 0.59023)):
        one = torch.full((1, 4), -1e4)  # all others are certain and right
        one[0, column] = logits[0, column]
        expected = weight * 0.25 * math.log(2) / 4
        assert loss(one, torch.zeros(1, 4))["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_alpha_is_saved_with_the_weights_and_loads_into_another():
    trained = build_focal(Config(), SEVERSTAL, 12_568)
    assert list(trained.state_dict()) == ["alpha"]
    resumed = build_focal(Config(), np.array([1, 1, 1, 1]), 10)
    resumed.load_state_dict(trained.state_dict())
    assert torch.equal(resumed.alpha, trained.alpha)


def test_half_precision_is_computed_in_float32():
    logits = torch.tensor([[3.0, -9.0]], dtype=torch.bfloat16)
    loss = FocalLoss(torch.tensor([0.9, 0.9]))(logits, torch.tensor([[1.0, 0.0]]))["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() > 0


@pytest.mark.parametrize(
    ("counts", "images", "message"),
    [([0, 0], 0, "there are none"), ([5, 11], 10, r"of 10 training pictures \[5, 11\]"), ([-1, 2], 10, "-1")],
)
def test_counts_that_cannot_be_are_refused(counts, images, message):
    with pytest.raises(ValueError, match=message):
        class_frequency_alpha(np.array(counts), images)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_zero_to_one_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha lies in 0\.\.1"):
        FocalLoss(torch.tensor([alpha]))
