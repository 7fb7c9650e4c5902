"""Convolution blocks and their initialisation."""

import math

from torch import nn

LEAKY_SLOPE = 0.1


def conv_bn_leaky(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Conv3×3 (padding 1, no bias) + BatchNorm + LeakyReLU(0.1).

    float [N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)]; specs/person.md "Network".
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    )


def initialise_leaky(network: nn.Module) -> None:
    """Draw every bias-free convolution from He's normal for LeakyReLU(0.1) (He et al. 2015, eq. 15).

    Convolutions with a bias are heads: they keep the layer's own default.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE, mode="fan_in", nonlinearity="leaky_relu")


def prior_bias(probability: float) -> float:
    """The bias b with sigmoid(b) = probability; a head that starts there predicts its rare class rarely.

    Lin et al. 2017 (RetinaNet), section 4.1. Raises ValueError outside (0, 1).
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"a prior lies strictly between 0 and 1, not at {probability}")
    return math.log(probability / (1.0 - probability))
