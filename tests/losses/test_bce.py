"""Cross-entropy of independent labels."""

import math

import numpy as np
import pytest
import torch

from shared.losses.bce import build_bce


def test_the_mean_over_pictures_and_classes_equals_hand_calculation():
    logits = torch.logit(torch.tensor([[0.8, 0.6], [0.5, 0.1]]))
    loss = build_bce(None, np.array([1, 1]), 2)(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    expected = -(math.log(0.8) + math.log(0.4) + math.log(0.5) + math.log(0.9)) / 4
    assert loss["loss"].item() == pytest.approx(expected, rel=1e-6)
    assert set(loss) == {"loss"}


@pytest.mark.parametrize(("logit", "label", "expected"), [(-1e4, 1.0, 1e4), (1e4, 1.0, 0.0), (1e4, 0.0, 1e4)])
def test_extreme_logits_are_exact_and_have_finite_gradients(logit, label, expected):
    z = torch.tensor([[logit]], requires_grad=True)
    loss = build_bce(None, np.array([1]), 2)(z, torch.tensor([[label]]))["loss"]
    loss.backward()
    assert loss.item() == expected
    assert torch.isfinite(z.grad).all()
