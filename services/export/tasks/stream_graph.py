"""The graph of a stream model: a window's histograms and states in, candidates and next states out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from services.export.graph import CarriedState, ExportedGraph
from services.export.streams import HISTOGRAMS
from shared.families.family import StreamFamily
from shared.repository.manifest import EventPreprocessing
from shared.vision.event_stacks import REPRESENTATIONS


class StreamGraph(ExportedGraph):
    """histograms [N, C, H, W] and states -> candidates, next states, and the decoded cells as raw output.

    histograms: uint8 or int8, as the representation has them; padding is inside. Candidates: boxes float32
    [N, K, 4] as corners in pixels of the histogram, scores [N, K] falling, labels int64 [N, K],
    class_probabilities [N, K]. state_h0, state_c0, state_h1, … and next_h0, … float32 [N, channels, h, w].
    raw: [N, cells, 5 + classes] as `network.step` decodes them. Without states it begins the streams.
    """

    def __init__(self, family: StreamFamily, config: Any, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network.float().eval()
        self._decode = family.decode
        self._config = config
        window = family.stream_input(config)
        height, width = family.input_size(config)
        factor = 2 if window.halved else 1
        self.preprocessing = EventPreprocessing(
            representation=window.representation,
            bins=window.bins,
            window_ms=window.window_ms,
            sensor_height=factor * height,
            sensor_width=factor * width,
            halved=window.halved,
            height=height,
            width=width,
        )
        stack = REPRESENTATIONS.load(window.representation)(bins=window.bins)
        self._shape = (stack.channels, height, width)
        self._dtype = getattr(torch, stack.dtype.name)
        self.states = _carried_states(network)
        self.inputs = (HISTOGRAMS, *(state.input for state in self.states))
        self.outputs = (
            *("boxes", "scores", "labels", "class_probabilities"),
            *(state.output for state in self.states),
        )
        self.eval()

    def examples(self, batch: int) -> tuple[Tensor, ...]:
        histograms = torch.zeros((batch, *self._shape), dtype=self._dtype)
        return histograms, *(torch.zeros((batch, *state.shape)) for state in self.states)

    def dynamic_shapes(self, batch: Any) -> tuple[Any, ...]:
        return {0: batch}, tuple({0: batch} for _ in self.states)

    def forward(self, histograms: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        pairs = _pairs(states) if states else None
        decoded, following = self.network.step(histograms, pairs)
        boxes, scores, labels, probabilities = self._decode(self._config, decoded)
        return boxes, scores, labels, probabilities, *(each for pair in following for each in pair), decoded


def _carried_states(network: Any) -> list[CarriedState]:
    """Return h and c of every stage."""
    return [
        CarriedState(f"state_{name}{stage}", f"next_{name}{stage}", shape)
        for stage, shape in enumerate(network.state_shapes())
        for name in "hc"
    ]


def _pairs(flat: Sequence[Tensor]) -> tuple[tuple[Tensor, Tensor], ...]:
    """h0, c0, h1, … -> (h0, c0), (h1, c1), …"""
    return tuple(zip(flat[::2], flat[1::2], strict=True))
