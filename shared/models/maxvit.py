"""Attention inside windows and over a grid, channels last (Tu et al. 2022, MaxViT; events spec, section 3).

The names of parameters are those of RVT's published checkpoints.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_RATIO = 4
NORM_EPS = 1e-5
LAYER_SCALE = 1e-5

Partition = Literal["window", "grid"]


def window_partition(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, H, W, C] -> [N·tiles, p·q, C]: the tokens of each contiguous p × q tile."""
    p, q = size
    _, height, width, channels = x.shape
    tiles = x.reshape(-1, height // p, p, width // q, q, channels).transpose(2, 3)
    return tiles.reshape(-1, p * q, channels)


def window_reverse(tokens: Tensor, size: tuple[int, int], height: int, width: int) -> Tensor:
    """Undo window_partition."""
    p, q = size
    channels = tokens.shape[-1]
    tiles = tokens.reshape(-1, height // p, width // q, p, q, channels).transpose(2, 3)
    return tiles.reshape(-1, height, width, channels)


def grid_partition(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, H, W, C] -> [N·groups, p·q, C]: each group's tokens lie H/p rows and W/q columns apart."""
    p, q = size
    _, height, width, channels = x.shape
    cells = x.reshape(-1, p, height // p, q, width // q, channels).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(-1, p * q, channels)


def grid_reverse(tokens: Tensor, size: tuple[int, int], height: int, width: int) -> Tensor:
    """Undo grid_partition."""
    p, q = size
    channels = tokens.shape[-1]
    cells = tokens.reshape(-1, height // p, width // q, p, q, channels).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(-1, height, width, channels)


class SelfAttention(nn.Module):
    """[B, L, C] -> [B, L, C]. The channels of `qkv` are q, k, v of the first head, then of the next one."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        if channels % head_channels:
            raise ValueError(f"{channels} channels do not divide into heads of {head_channels}")
        self.heads = channels // head_channels
        self.head_channels = head_channels
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        length, channels = x.shape[1:]
        qkv = self.qkv(x).reshape(-1, length, self.heads, 3 * self.head_channels).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)  # [B, heads, L, head_channels] each
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(attended.transpose(1, 2).reshape(-1, length, channels))


class LayerScale(nn.Module):
    """[..., C] -> the same times a factor per channel (Touvron et al. 2021)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    """[..., C] -> [..., C] through four times as many channels and a GELU (exact form)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * channels
        # Published names are net.0.0 and net.2; net.1 was a dropout of zero.
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(channels, hidden), nn.GELU()),
            nn.Identity(),
            nn.Linear(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class PartitionAttention(nn.Module):
    """[N, H, W, C] -> the same shape: attention within windows or over the grid, then an MLP, both residual.

    size (p, q) divides (H, W). `norm=False` where what comes in is already normalised.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int,
        size: tuple[int, int],
        partition: Partition,
        *,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.size = size
        self.partition = partition
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS) if norm else nn.Identity()
        self.self_attn = SelfAttention(channels, head_channels)
        self.ls1 = LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = Mlp(channels)
        self.ls2 = LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self._attend(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        if self.partition == "window":
            tokens = self.self_attn(window_partition(x, self.size))
            return window_reverse(tokens, self.size, height, width)
        tokens = self.self_attn(grid_partition(x, self.size))
        return grid_reverse(tokens, self.size, height, width)
