"""Weights by size: the formula, and sizes that would leave the range of floats."""

import math

import pytest
import torch

from shared.losses.size_aware import size_aware_weights


def test_weights_follow_the_exponential_with_a_mean_of_one():
    weights = size_aware_weights(torch.tensor([[4.0, 9.0], [10, 10], [2, 32]]), 32.0)
    raw = [math.exp(-side / 32) for side in (6, 10, 8)]
    assert weights.tolist() == pytest.approx([value * 3 / sum(raw) for value in raw], rel=1e-6)


def test_objects_of_one_size_weigh_one_even_when_they_are_large():
    # exp(−1000) is zero in single precision
    assert size_aware_weights(torch.full((3, 2), 1000.0), 1.0).tolist() == [1, 1, 1]


def test_no_objects_have_no_weights():
    assert size_aware_weights(torch.zeros(0, 2), 32.0).shape == (0,)
