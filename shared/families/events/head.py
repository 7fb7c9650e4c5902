"""YOLOX's decoupled head (Ge et al. 2021, section 2.1; specs/events.md section 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.models.blocks import prior_bias
from shared.models.yolox_blocks import ConvBlock

BOX_VALUES = 4  # dx, dy, dw, dh
OBJECTNESS = 4
PRIOR = 0.01


class Head(nn.Module):
    """Features [N, C_k, H_k, W_k] of any levels -> maps [N, 5 + classes, H_k, W_k] of raw numbers.

    Channels are dx, dy, dw, dh, the logit of objectness and one logit for each class.
    """

    def __init__(self, channels: Sequence[int], hidden: int, classes: int) -> None:
        super().__init__()
        self.stems = nn.ModuleList(ConvBlock(level, hidden, 1) for level in channels)
        self.cls_convs = nn.ModuleList(_tower(hidden) for _ in channels)
        self.reg_convs = nn.ModuleList(_tower(hidden) for _ in channels)
        self.cls_preds = nn.ModuleList(_prediction(hidden, classes, PRIOR) for _ in channels)
        self.reg_preds = nn.ModuleList(_prediction(hidden, BOX_VALUES, None) for _ in channels)
        self.obj_preds = nn.ModuleList(_prediction(hidden, 1, PRIOR) for _ in channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(features) != len(self.stems):
            raise ValueError(f"the head has {len(self.stems)} levels and was given {len(features)}")
        maps = []
        for level, feature in enumerate(features):
            x = self.stems[level](feature)  # [N, hidden, H, W]
            classes = self.cls_preds[level](self.cls_convs[level](x))
            regression = self.reg_convs[level](x)
            box, objectness = self.reg_preds[level](regression), self.obj_preds[level](regression)
            maps.append(torch.cat([box, objectness, classes], dim=1))  # [N, 5 + classes, H, W]
        return tuple(maps)


def _tower(hidden: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(hidden, hidden, 3), ConvBlock(hidden, hidden, 3))


def _prediction(hidden: int, values: int, prior: float | None) -> nn.Conv2d:
    conv = nn.Conv2d(hidden, values, kernel_size=1)
    if prior is not None:
        conv.bias = nn.Parameter(torch.full((values,), prior_bias(prior)))
    return conv
