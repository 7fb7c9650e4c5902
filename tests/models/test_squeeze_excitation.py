"""Squeeze and excitation: the formula of Hu et al. 2018 written out."""

import pytest
import torch
import torch.nn.functional as F

from shared.models.squeeze_excitation import SqueezeExcitation


def test_channels_are_scaled_by_an_mlp_of_their_means():
    torch.manual_seed(0)
    gate, x = SqueezeExcitation(32), torch.randn(2, 32, 4, 5)
    first, _, second = gate.mlp
    hidden = F.relu(x.flatten(2).mean(2) @ first.weight.T + first.bias)
    expected = x * torch.sigmoid(hidden @ second.weight.T + second.bias).view(2, 32, 1, 1)
    torch.testing.assert_close(gate(x), expected)


def test_too_few_channels_to_divide_are_refused():
    with pytest.raises(ValueError, match="divides channels by 16 and was given 8"):
        SqueezeExcitation(8)
