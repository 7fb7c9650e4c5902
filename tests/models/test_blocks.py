import math

import pytest
import torch

from shared.models.blocks import conv_bn_leaky, initialise_leaky, prior_bias


@pytest.mark.parametrize(("stride", "size", "expected"), [(1, 13, 13), (2, 16, 8), (2, 13, 7)])
def test_a_block_keeps_the_size_or_halves_it_rounding_up(stride, size, expected):
    assert conv_bn_leaky(3, 8, stride)(torch.rand(2, 3, size, size)).shape == (2, 8, expected, expected)


def test_a_block_has_the_weights_of_its_convolution_and_two_per_channel():
    assert sum(p.numel() for p in conv_bn_leaky(5, 7).parameters()) == 5 * 7 * 9 + 2 * 7


def test_the_initialisation_keeps_the_scale_of_the_signal():
    torch.manual_seed(0)
    block = conv_bn_leaky(64, 256)
    initialise_leaky(block)
    # He et al. 2015, eq. 15: variance 2 / ((1 + a²) · fan_in)
    expected = math.sqrt(2 / ((1 + 0.1**2) * 64 * 9))
    assert block[0].weight.std().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("probability", [0.01, 0.5, 0.9])
def test_a_prior_bias_predicts_its_probability(probability):
    assert torch.sigmoid(torch.tensor(prior_bias(probability))).item() == pytest.approx(probability)


def test_the_usual_prior_of_one_percent_is_minus_log_99():
    assert prior_bias(0.01) == pytest.approx(-math.log(99))


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, 2.0])
def test_a_prior_outside_zero_to_one_is_refused(probability):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        prior_bias(probability)
