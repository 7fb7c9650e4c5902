"""YOLOX's blocks as the events spec, section 4, has them."""

import torch
import torch.nn.functional as F

from shared.models.yolox_blocks import CSP, Bottleneck, ConvBlock


def test_a_block_is_convolution_norm_and_silu():
    torch.manual_seed(0)
    block, x = ConvBlock(3, 4, 3, stride=2).eval(), torch.randn(1, 3, 6, 7)
    assert block.conv.bias is None
    assert (block.bn.eps, block.bn.momentum) == (1e-5, 0.1)
    # Untrained statistics are 0 and 1.
    y = F.conv2d(x, block.conv.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), y * torch.sigmoid(y))
    assert block(x).shape == (1, 4, 3, 4)


def test_a_bottleneck_adds_nothing_to_its_input():
    torch.manual_seed(0)
    block, x = Bottleneck(4).eval(), torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(block(x), block.conv2(block.conv1(x)))


def test_csp_joins_the_deep_branch_first():
    torch.manual_seed(0)
    csp, x = CSP(6, 8, bottlenecks=2).eval(), torch.randn(1, 6, 5, 5)
    assert len(csp.m) == 2
    deep = csp.m[1](csp.m[0](csp.conv1(x)))
    torch.testing.assert_close(csp(x), csp.conv3(torch.cat([deep, csp.conv2(x)], 1)))
