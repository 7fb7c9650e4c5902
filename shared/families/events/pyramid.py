"""PAFPN: features of several strides, mixed top-down and then bottom-up (specs/events.md sections 4 and 14).

Liu et al. 2018 (PANet) as YOLOX builds it; the names of parameters are YOLOX's, and the fourth level, which
has none there, continues them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.yolox_blocks import CSP, ConvBlock


@dataclass(frozen=True)
class _Step:
    """Between a coarse and the next finer level: names of the parameters on the way down and up."""

    lateral: str
    down: str
    up: str
    up_csp: str


# From the coarsest pair of levels to the finest.
_STEPS = (
    _Step("lateral_conv0", "C3_p4", "bu_conv1", "C3_n4"),  # strides 32 and 16
    _Step("reduce_conv1", "C3_p3", "bu_conv2", "C3_n3"),  # 16 and 8
    _Step("reduce_conv2", "C3_p2", "bu_conv3", "C3_n2"),  # 8 and 4
)
# What a pyramid of three levels, and so every published checkpoint, does not have.
FOURTH_LEVEL = (_STEPS[2].lateral, _STEPS[2].down, _STEPS[2].up, _STEPS[2].up_csp)


class Pyramid(nn.Module):
    """Features [N, C_k, H_k, W_k] of 3 or 4 levels, finest first, each half the last -> the same shapes.

    channels: C_k. Raises ValueError for another number of levels.
    """

    def __init__(self, channels: Sequence[int], bottlenecks: int) -> None:
        super().__init__()
        if len(channels) not in (3, 4):
            raise ValueError(f"the pyramid has 3 or 4 levels, not {len(channels)}")
        self.steps = _STEPS[: len(channels) - 1]
        coarsest_first = list(reversed(channels))
        for step, coarse, fine in zip(self.steps, coarsest_first, coarsest_first[1:], strict=False):
            self.add_module(step.lateral, ConvBlock(coarse, fine, 1))
            self.add_module(step.down, CSP(2 * fine, fine, bottlenecks))
            self.add_module(step.up, ConvBlock(fine, fine, 3, stride=2))
            self.add_module(step.up_csp, CSP(2 * fine, coarse, bottlenecks))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        *finer, x = features
        laterals = []
        for step, feature in zip(self.steps, reversed(finer), strict=True):
            lateral = self.get_submodule(step.lateral)(x)  # [N, C_fine, H_coarse, W_coarse]
            laterals.append(lateral)
            up = F.interpolate(lateral, scale_factor=2.0, mode="nearest")
            x = self.get_submodule(step.down)(torch.cat([up, feature], dim=1))  # [N, C_fine, H_fine, W_fine]

        levels = [x]
        for step, lateral in zip(reversed(self.steps), reversed(laterals), strict=True):
            down = self.get_submodule(step.up)(x)  # [N, C_fine, H_coarse, W_coarse]
            x = self.get_submodule(step.up_csp)(torch.cat([down, lateral], dim=1))
            levels.append(x)  # [N, C_coarse, H_coarse, W_coarse]
        return tuple(levels)
