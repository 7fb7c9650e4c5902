"""The graph of a detection model: pixels in, candidates out, and the network's raw outputs for the gate."""

from typing import Any

import torch
from torch import Tensor, nn

from services.export.tasks.picture_graph import PictureGraph
from shared.families.family import DetectionFamily


class DetectionGraph(PictureGraph):
    """images uint8 [N, H, W, 3] RGB -> boxes float32 [N, K, 4], scores [N, K], labels int64 [N, K], *raw.

    Normalisation and the family's decode are part of it; boxes are corners in pixels of the input, best
    score first. raw: the network's own outputs as float32, one per level. With `half` the network computes
    in float16 between a float32 input and float32 outputs.
    """

    outputs = ("boxes", "scores", "labels")

    def __init__(
        self, family: DetectionFamily, config: Any, network: nn.Module, *, half: bool = False
    ) -> None:
        super().__init__(family.input_size(config))
        self.network = (network.half() if half else network.float()).eval()
        self.half_precision = half
        self._decode = family.decode
        self._config = config
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 255  # [N, 3, H, W] in 0..1
        raw = self.network(pixels.half() if self.half_precision else pixels)
        levels = (raw,) if isinstance(raw, Tensor) else tuple(raw)
        levels = tuple(level.float() for level in levels)
        boxes, scores, labels = self._decode(self._config, levels[0] if isinstance(raw, Tensor) else levels)
        return boxes, scores, labels, *levels
