"""CBAM: which channels, then which places, matter (Woo et al. 2018; specs/components.md section 4)."""

from typing import Literal

import torch
from torch import Tensor, nn

REDUCTION = 16
SPATIAL_KERNEL = 7


class ChannelGate(nn.Module):
    """[N, C, H, W] -> the same, every channel scaled by sigmoid(mlp(mean) + mlp(max)) over the places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        gate = self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))  # [N, C]
        return x * torch.sigmoid(gate)[:, :, None, None]


class SpatialGate(nn.Module):
    """[N, C, H, W] -> the same, every place scaled by sigmoid(norm(conv7×7([max, mean] over channels))).

    norm "batch" is the original's BatchNorm (eps 1e-5, momentum 0.01), whose statistics break down at the
    batch of two that fits large pictures; "group" normalises each picture's own map.
    """

    def __init__(self, norm: Literal["group", "batch"]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)
        self.norm: nn.Module = (
            nn.GroupNorm(1, 1) if norm == "group" else nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)  # [N, 2, H, W]
        return x * torch.sigmoid(self.norm(self.conv(pooled)))


class CBAM(nn.Module):
    """float [N, C, H, W] -> the same shape; C at least 16. ValueError for fewer channels."""

    def __init__(self, channels: int, norm: Literal["group", "batch"] = "group") -> None:
        super().__init__()
        if channels < REDUCTION:
            raise ValueError(f"CBAM divides channels by {REDUCTION} and was given {channels}")
        self.channel = ChannelGate(channels)
        self.spatial = SpatialGate(norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(self.channel(x))
