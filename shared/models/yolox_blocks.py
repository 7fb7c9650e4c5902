"""Blocks of YOLOX's pyramid and head (Ge et al. 2021; specs/events.md section 4).

The names of parameters are YOLOX's. BatchNorm keeps PyTorch's eps 1e-5 and momentum 0.1 as RVT does, where
YOLOX itself sets 1e-3 and 0.03.
"""

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """[N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)]: convolution, BatchNorm, SiLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=(kernel - 1) // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class Bottleneck(nn.Module):
    """[N, C, H, W] -> the same shape: 1×1, then 3×3. Nothing is added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels, 1)
        self.conv2 = ConvBlock(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out


class CSP(nn.Module):
    """[N, in, H, W] -> [N, out, H, W]: half the channels through bottlenecks, half beside them, joined."""

    def __init__(self, in_channels: int, out_channels: int, bottlenecks: int) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = ConvBlock(in_channels, hidden, 1)
        self.conv2 = ConvBlock(in_channels, hidden, 1)
        self.conv3 = ConvBlock(2 * hidden, out_channels, 1)
        self.m = nn.Sequential(*(Bottleneck(hidden) for _ in range(bottlenecks)))

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.m(self.conv1(x)), self.conv2(x)], dim=1)  # [N, 2·hidden, H, W]
        out: Tensor = self.conv3(joined)
        return out
