"""The person network: nine 3×3 blocks to stride 16 and a 1×1 head (specs/person.md "Network")."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.families.person.config import PersonConfig
from shared.models.blocks import conv_bn_leaky, initialise_leaky, prior_bias

# (in, out, stride) and the output's side at 416
STEM = (
    (3, 16, 2),  # 1: 208
    (16, 32, 1),  # 2: 208
    (32, 64, 2),  # 3: 104
    (64, 64, 1),  # 4: 104
    (64, 128, 2),  # 5: 52
    (128, 128, 1),  # 6: 52, stride 8
    (128, 256, 2),  # 7: 26
    (256, 256, 1),  # 8: 26
)
LAST_BLOCKS = {
    "light": ((256, 256, 1),),
    "base": ((256, 512, 1),),
    "deep": ((256, 512, 1), (512, 512, 1), (512, 1024, 1)),
}
STRIDE_8_BLOCK = 5  # index of block 6
STRIDE_8_CHANNELS = 128
STRIDE_32_CHANNELS = 256
CELL_VALUES = 5  # tx, ty, tw, th, objectness
OBJECTNESS = 4


class PersonNetwork(nn.Module):
    """images float [N, 3, H, W] RGB in 0..1, H and W multiples of 16 -> grid [N, S, S, 5] in (0, 1).

    grid[n, row j, column i] = tx, ty, tw, th, objectness. With multi_scale a tuple of three grids, at
    strides 8, 16 and 32, each of its own map's size. The stride-32 map is one more block of the
    table's kind, stride 2, on top of the last: pooling would add no view of the picture, and large
    people are exactly those for which the stride-16 map sees too little (123 pixels at depth base).
    """

    def __init__(self, config: PersonConfig) -> None:
        super().__init__()
        table = STEM + LAST_BLOCKS[config.depth]
        last_channels = table[-1][1]
        self.skips = config.skips
        self.grid_size = None if config.multi_scale else config.grid_size

        self.blocks = nn.ModuleList(conv_bn_leaky(*row) for row in table)
        self.head = nn.Conv2d(last_channels, CELL_VALUES, kernel_size=1)
        if config.multi_scale:
            self.head_8 = nn.Conv2d(STRIDE_8_CHANNELS, CELL_VALUES, kernel_size=1)
            self.block_32 = conv_bn_leaky(last_channels, STRIDE_32_CHANNELS, stride=2)
            self.head_32 = nn.Conv2d(STRIDE_32_CHANNELS, CELL_VALUES, kernel_size=1)

        initialise_leaky(self)
        for head in [self.head] + ([self.head_8, self.head_32] if config.multi_scale else []):
            _initialise_head(head, config.objectness_prior)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = images  # [N, 3, H, W]
        stride_8 = x
        for index, block in enumerate(self.blocks):
            y = block(x)
            x = x + y if self.skips and x.shape == y.shape else y
            if index == STRIDE_8_BLOCK:
                stride_8 = x  # [N, 128, H/8, W/8]
        # x: [N, 256 | 512 | 1024, H/16, W/16]

        if self.grid_size is None:
            stride_32 = self.block_32(x)  # [N, 256, H/32, W/32]
            maps = (self.head_8(stride_8), self.head(x), self.head_32(stride_32))
            return tuple(_cells(_probabilities(logits)) for logits in maps)

        cells = _probabilities(self.head(x))  # [N, 5, H/16, W/16]
        if cells.shape[-2:] != (self.grid_size, self.grid_size):
            size = (self.grid_size, self.grid_size)
            cells = F.interpolate(cells, size=size, mode="bilinear", align_corners=False)
        return _cells(cells)  # [N, S, S, 5]


def _initialise_head(head: nn.Conv2d, objectness_prior: float) -> None:
    bias = torch.zeros(CELL_VALUES)
    bias[OBJECTNESS] = prior_bias(objectness_prior)
    head.bias = nn.Parameter(bias)


def _probabilities(logits: Tensor) -> Tensor:
    # float32 also in mixed precision: a 16-bit sigmoid reaches 1 at a logit of 9, where its gradient ends.
    return torch.sigmoid(logits.float())


def _cells(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)  # [N, 5, S, S] -> [N, S, S, 5]
