"""The change of scores between neighbouring windows."""

import pytest
import torch

from shared.losses.temporal_consistency import temporal_consistency


def test_it_is_the_mean_squared_change_over_pairs_cells_and_classes():
    scores = torch.tensor([[[0.1, 0.2]], [[0.4, 0.2]], [[0.4, 0.6]]])
    value = temporal_consistency(scores, torch.tensor([[0, 1], [1, 2]]))
    assert value.item() == pytest.approx((0.3**2 + 0 + 0 + 0.4**2) / 4)


def test_both_windows_of_a_pair_learn_and_no_other():
    scores = torch.rand(3, 4, 2, requires_grad=True)
    temporal_consistency(scores, torch.tensor([[0, 2]])).backward()
    assert [bool(row.abs().sum() > 0) for row in scores.grad] == [True, False, True]


def test_without_pairs_it_is_zero_and_differentiable():
    scores = torch.rand(3, 4, 2, requires_grad=True)
    value = temporal_consistency(scores, torch.zeros(0, 2, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert scores.grad.abs().sum() == 0
