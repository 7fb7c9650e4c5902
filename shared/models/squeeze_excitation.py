"""Squeeze and excitation: which channels matter (Hu et al. 2018)."""

import torch
from torch import Tensor, nn

REDUCTION = 16


class SqueezeExcitation(nn.Module):
    """float [N, C, H, W] -> the same shape, every channel scaled by sigmoid(mlp(mean over the places)).

    C at least 16. ValueError for fewer channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < REDUCTION:
            raise ValueError(
                f"squeeze and excitation divides channels by {REDUCTION} and was given {channels}"
            )
        hidden = channels // REDUCTION
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mlp(x.mean(dim=(2, 3))))  # [N, C]
        return x * gate[:, :, None, None]
