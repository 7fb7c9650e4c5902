"""What the graphs of pictures have in common."""

import torch
from torch import Tensor

from services.export.graph import ExportedGraph
from shared.repository.manifest import Preprocessing
from shared.vision.letterbox import PAD_VALUE

INPUT = "images"


class PictureGraph(ExportedGraph):
    """images uint8 [N, H, W, 3] RGB -> outputs and raw outputs; H, W are `size`."""

    inputs = (INPUT,)

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.preprocessing = Preprocessing(height=size[0], width=size[1], pad_value=PAD_VALUE)

    def examples(self, batch: int) -> tuple[Tensor, ...]:
        return (torch.zeros((batch, *self.size, 3), dtype=torch.uint8),)
