"""CBAM: the formula of Woo et al. 2018 written out, published sizes, and what the norms do."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.models.cbam import CBAM, ChannelGate, SpatialGate


@pytest.mark.parametrize(("channels", "parameters"), [(384, 18_940), (768, 74_644)])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_size(channels, parameters, norm):
    assert sum(p.numel() for p in CBAM(channels, norm).parameters()) == parameters


def test_the_channel_gate_is_the_sigmoid_of_one_mlp_on_mean_and_maximum():
    torch.manual_seed(0)
    gate, x = ChannelGate(32), torch.randn(2, 32, 4, 5)
    first, _, second = gate.mlp

    def mlp(v):
        return F.linear(F.relu(F.linear(v, first.weight, first.bias)), second.weight, second.bias)

    mean, maximum = x.flatten(2).mean(2), x.flatten(2).max(2).values
    expected = x * torch.sigmoid(mlp(mean) + mlp(maximum)).view(2, 32, 1, 1)
    torch.testing.assert_close(gate(x), expected)


def test_the_spatial_gate_sees_the_maximum_first_and_the_mean_second():
    gate, x = SpatialGate("batch").eval(), torch.randn(1, 16, 9, 9)
    with torch.no_grad():
        gate.conv.weight.zero_()
        gate.conv.weight[0, 0, 3, 3] = 2.0  # the centre tap of the maximum
        gate.conv.weight[0, 1, 3, 3] = -3.0
    expected = torch.sigmoid((2 * x.max(1).values - 3 * x.mean(1)) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(gate(x), x * expected.unsqueeze(1))


def test_channels_come_before_places():
    torch.manual_seed(0)
    cbam, x = CBAM(16), torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(cbam(x), cbam.spatial(cbam.channel(x)))
    assert not torch.allclose(cbam(x), cbam.channel(cbam.spatial(x)))


def test_the_group_norm_gives_a_picture_the_same_in_any_batch_and_the_batch_norm_does_not():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 8, 8) * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    group, batch = CBAM(16, "group").train(), CBAM(16, "batch").train()
    torch.testing.assert_close(group(x)[:1], group(x[:1]))
    assert not torch.allclose(batch(x)[:1], batch(x[:1]), atol=1e-3)


def test_the_batch_norm_is_the_originals():
    norm = CBAM(16, "batch").spatial.norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.eps, norm.momentum) == (1e-5, 0.01)


def test_too_few_channels_to_divide_are_refused():
    with pytest.raises(ValueError, match="divides channels by 16 and was given 8"):
        CBAM(8)
